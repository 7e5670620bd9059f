"""The repository in which the documentation's commands are run: the project's own, with little data and short runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml

from models.poseformer import PoseFormer
from tests.fixtures import human36m, humaneva, mpi_inf_3dhp
from tests.fixtures.motionagformer_file import fitted_motionagformer, published_content
from tests.fixtures.poseformer_bin import save, upstream_content
from tests.fixtures.small_project import IDENTITY, copy_of_repository, environment
from tests.fixtures.tiny_archive import write_tiny_archive

REPOSITORY = Path(__file__).parents[2]
COPIED = (
    "pipeline", "models", "experiments", "docs/examples", "Makefile", "dvc.yaml", ".dvcignore", ".gitignore",
    ".dvc/config", ".dvc/.gitignore", "requirements/base.txt", "requirements/base.lock", "requirements/dvc.patch",
    "pyproject.toml", "reports/published.csv", "reports/rows.yaml",
)  # fmt: skip
SHORT = {"epochs": 1, "windows_per_epoch": 32, "batch_windows": 32, "validation_step": 16, "frame_step": 16}
POSEFORMER = {"embed_dim_ratio": 8, "depth": 1}  # in_joints, width of a joint and so on are the row's
RAW = {
    "h36m": human36m.write_archives,
    "humaneva": humaneva.write_archives,
    "mpi_inf_3dhp": mpi_inf_3dhp.write_archives,
}
SEEDS = (0,)


def write_repository(folder: Path, programs: Path) -> None:
    """The repository, all rows of its table trained and committed, its data in the store inside it."""
    copy_of_repository(COPIED, folder)
    (folder / "params.yaml").write_text(_params(), encoding="utf-8")
    write_tiny_archive(REPOSITORY / "data" / "raw", folder / "data" / "raw")
    run(
        folder,
        programs,
        "git init --quiet --initial-branch main",
        "dvc add --quiet data/raw/cmu_mocap data/raw/mocap_bodies",
        "dvc repro --quiet",
        "dvc repro --quiet experiments/lifter/dvc.yaml",
        "dvc push --quiet",
        "git add --all",
        "git commit --quiet --message shipped",
    )


def _params() -> str:
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    content |= {"seeds": list(SEEDS), "threads": 1, "device": "cpu"}
    content["models"]["poseformer"] = POSEFORMER
    for recipe in content["datasets"].values():
        recipe |= SHORT
        for kind in ("for_keypoints", "for_model"):
            for own in recipe.get(kind, {}).values():
                own |= {key: value for key, value in SHORT.items() if key in own}
    return yaml.safe_dump(content, sort_keys=False)


def clone_for_story(origin: Path, folder: Path, programs: Path, story: str) -> None:
    """A clone with its data, and with the files that the story's commands read besides."""
    run(folder.parent, programs, f"git clone --quiet {origin} {folder}")
    write_environment(folder, programs)
    run(folder, programs, "dvc pull --quiet")
    for dataset, write in RAW.items():
        if dataset in story:
            write(folder / "data" / "raw" / dataset)
    torch.manual_seed(0)
    if ".pth.tr" in story:
        (folder / "checkpoint").mkdir(exist_ok=True)
        save(
            published_content(fitted_motionagformer(frames=27)), folder / "checkpoint" / "motionagformer-xs-h36m.pth.tr"
        )
    if ".bin" in story:
        (folder / "checkpoint").mkdir(exist_ok=True)
        model = PoseFormer(frames=81, in_joints=17, out_joints=17, in_channels=2, embed_dim_ratio=8, depth=1)
        save(upstream_content(model), folder / "checkpoint" / "gt81f.bin")
    np.save(folder / "keypoints.npy", np.random.default_rng(0).uniform(400, 600, (30, 17, 3)))


def write_environment(folder: Path, programs: Path) -> None:
    """What `make setup` would write."""
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(programs, target_is_directory=True)
    for done in ("installed", "dvc-patched"):
        (folder / ".venv" / done).touch()


def run(folder: Path, programs: Path, *commands: str) -> None:
    """Commands of git and dvc in a folder, each of which must succeed."""
    for command in commands:
        done = subprocess.run(
            command.split(),
            cwd=folder,
            env=variables(folder.parent, programs),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def variables(folder: Path, programs: Path) -> dict[str, str]:
    """For programs: nothing tracked or shared with other repositories, and commits by somebody."""
    own = environment(folder)
    paths = f"{programs}:{Path(sys.executable).parent}:{own['PATH']}"
    return {
        **own,
        **IDENTITY,
        "PATH": paths,
        "POSELIFT_PORT": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHON_EXEC": str(programs / "python"),
        "no_proxy": "*",
    }
