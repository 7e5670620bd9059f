"""Who installs the wheel has the command, the import, and every file that they read; `make wheel` looks further."""

from __future__ import annotations

import subprocess
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.trials.wheel import REPOSITORY, build_wheel, environment_with, use_wheel

PACKAGES = ("pipeline", "models", "poselift")


@pytest.mark.stories
def test_the_wheel_has_every_file_of_the_packages_and_is_used_in_an_empty_folder(tmp_path):
    wheel = build_wheel(tmp_path)
    listed = subprocess.check_output(["git", "ls-files", *PACKAGES], cwd=REPOSITORY, text=True).split()
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.split("/")[0] in PACKAGES} == set(listed)
    programs = environment_with(tmp_path / "environment", ["--no-deps", wheel])
    (own,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")  # but not what they add
    use_wheel(programs, tmp_path / "elsewhere", REPOSITORY)
    found = subprocess.check_output(
        [programs / "python", "-c", "import pipeline; print(pipeline.__file__)"], cwd=tmp_path
    )
    assert Path(found.decode()).is_relative_to(own)
