"""What tests share: the motion capture of the project, a tiny archive cut from it, a browser, unchecked shapes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from playwright.sync_api import Browser

from pipeline.mocap.cameras import Take
from pipeline.prepare_data.motion_capture import read_takes
from tests.fixtures.browser import launched
from tests.fixtures.tiny_archive import TAKES, write_tiny_archive

RAW = Path(__file__).parents[1] / "data" / "raw"

torch.set_num_threads(1)
# No run goes to W&B or takes itself for a stage of DVC unless its test says so.
os.environ["WANDB_MODE"] = "disabled"
for name in ("DVC_ROOT", "DVC_STAGE"):
    os.environ.pop(name, None)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Shape annotations off, as they are outside the tests, so that the functions' own checks are reached."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def raw() -> Path:
    """The folder that has the folders of motion capture that ship with the project."""
    for name in TAKES:
        if not (RAW / name).is_dir():
            pytest.fail(f"data/raw/{name} is not there; fetch it with: dvc pull data/raw/{name}")
    return RAW


@pytest.fixture(scope="session")
def takes(raw: Path) -> dict[str, Take]:
    """All takes that ship with the project, by name."""
    return {take.name: take for name in TAKES for take in read_takes(raw / name)}


@pytest.fixture(scope="session")
def tiny_raw(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like data/raw with a tiny archive; to be read, not changed."""
    folder = tmp_path_factory.mktemp("raw")
    write_tiny_archive(raw, folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of a module: to launch one takes longer than most of them."""
    with launched() as found:
        yield found


@pytest.fixture
def own_raw(tiny_raw: Path, tmp_path: Path) -> Path:
    """The same, a copy of one's own to damage."""
    return shutil.copytree(tiny_raw, tmp_path / "raw")
