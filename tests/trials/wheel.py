"""The wheel: built, checked, installed into an empty environment and used there: `make wheel`.

The environment gets what the wheel asks for from the package index, then must fetch the lifter from this repository,
lift, and be imported from Python, all in a folder that has nothing of the repository. Gigabytes of packages where torch
comes with CUDA.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.fixtures.small_project import copy_of_repository

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("pipeline", "models", "poselift", "pyproject.toml", "README.md", "LICENSE")
KEYPOINTS = REPOSITORY / "docs" / "examples" / "soccer.npz"
IMPORTED = """
import json
from pathlib import Path
from poselift import InputOptions, Lifter, read_recording
lifted = Lifter.load().lift(read_recording(Path("soccer.npz"), InputOptions()))
assert len(lifted.people[0].joints_camera_m) == json.load(open("lifted/about.json"))["frames"] == 150
"""


def build_wheel(folder: Path) -> Path:
    """Returns the wheel of the working tree, built in `folder` with the setuptools that are installed."""
    copy_of_repository(SOURCES, folder / "source")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(folder, *pip, "--wheel-dir", folder, folder / "source")
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_wheel(wheel: Path) -> None:
    """Lets twine and check-wheel-contents look at its metadata and files."""
    run(REPOSITORY, sys.executable, "-m", "twine", "check", "--strict", wheel)
    run(REPOSITORY, Path(sys.executable).with_name("check-wheel-contents"), wheel)


def use_wheel(programs: Path, folder: Path, repository: Path) -> None:
    """Fetches the lifter of `repository` and lifts in an empty folder, with the programs of an environment."""
    folder.mkdir()
    (folder / "soccer.npz").write_bytes(KEYPOINTS.read_bytes())
    run(folder, programs / "poselift", "--version")
    run(folder, programs / "poselift", "fetch", repository)
    run(folder, programs / "poselift", "lift", "soccer.npz", "--out", "lifted", "--outputs", "npz,html,bvh,png")
    run(folder, programs / "python", "-c", IMPORTED)


def run(folder: Path, *command: str | Path) -> None:
    """Runs a command, which must succeed and must not see the repository's modules or active environment."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run([str(word) for word in command], cwd=folder, env=kept, check=True)


def environment_with(folder: Path, *installs: Sequence[str | Path]) -> Path:
    """Returns the folder of the programs of a new environment, after `pip install` of each of the lists."""
    venv.create(folder, with_pip=True)
    for words in installs:
        run(folder, folder / "bin" / "python", "-m", "pip", "install", "--quiet", *words)
    return folder / "bin"


def main() -> None:
    """Tries the wheel; ends with an exception where something fails."""
    pinned = (REPOSITORY / "requirements" / "base.txt").read_text(encoding="utf-8").split()
    torch = next(word for word in pinned if word.startswith("torch=="))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build_wheel(folder)
        check_wheel(wheel)
        use_wheel(environment_with(folder / "environment", [torch, wheel]), folder / "elsewhere", REPOSITORY)
    print(f"{wheel.name}: built, checked, installed into an empty environment and used")


if __name__ == "__main__":
    main()
