"""The whole project in a folder of its own, with a tiny archive and a tiny model, and the real DVC in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from tiny_archive import VALIDATION_TAKE, write_tiny_archive

REPOSITORY = Path(__file__).parents[1]
COPIED = ("pipeline", "models", "dvc.yaml", ".dvcignore", ".gitignore", "reports/published.csv", "reports/rows.yaml")
ROW = "cmu-gt-f9-rayformer"
SEEDS = (0, 1)
WRITTEN = ("data/prepared", "data/checkpoints", "reports", "dvc.lock")


def copy_of_repository(names: Iterable[str], folder: Path) -> None:
    """Copy these files and folders of the repository into `folder`, links as links."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, folder / name, follow_symlinks=False)


def write_project(folder: Path, **training: Any) -> None:
    """Write it, with one row in its table and nothing run; `training` is of the row's dataset in params.yaml."""
    copy_of_repository(COPIED, folder)
    write_tiny_archive(REPOSITORY / "data" / "raw" / "cmu_mocap", folder / "data" / "raw" / "cmu_mocap")
    lines = (folder / "dvc.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.lstrip().startswith("- cmu-"))
    (folder / "dvc.yaml").write_text(kept, encoding="utf-8")
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    content |= {"dataset": "cmu", "keypoints": "gt", "frames": 9, "model": "rayformer", "seeds": list(SEEDS)}
    content |= {"threads": 1, "device": "cpu"}
    content["models"]["rayformer"] = {"width": 16, "depth": 1, "heads": 2}
    content["datasets"]["cmu"] |= {"validation_takes": [VALIDATION_TAKE], **training}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["dvc", "init", "--quiet"], cwd=folder, env=environment(folder), check=True)


def environment(folder: Path) -> dict[str, str]:
    """For the project's programs: nothing tracked or shared with other projects, its .programs before all others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "WANDB_"))}
    own = {f"DVC_{name}_DIR": str(folder / ".of_dvc" / name) for name in ("SITE_CACHE", "GLOBAL_CONFIG")}
    paths = [str(folder / ".programs"), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {**kept, **own, "PATH": os.pathsep.join(paths), "DVC_NO_ANALYTICS": "1", "WANDB_MODE": "disabled"}


def write_python(folder: Path, program: str) -> None:
    """`program` as the `python` of the project's stages."""
    path = folder / ".programs" / "python"
    path.parent.mkdir(exist_ok=True)
    path.write_text(program.format(executable=sys.executable), encoding="utf-8")
    path.chmod(0o755)


def stages_run(log: str) -> list[str]:
    """Names of the stages that a `dvc repro` ran, in order."""
    return [line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage ")]


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file that the pipeline wrote, dvc.lock among them."""
    parts = [folder / part for part in WRITTEN]
    files = [path for part in parts for path in ([part] if part.is_file() else sorted(part.rglob("*")))]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }
