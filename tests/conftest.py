"""Shared data: the motion capture that ships with the project, and a tiny archive cut from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pipeline.mocap.cameras import Take
from pipeline.prepare_data.cmu_mocap import read_takes
from tests.fixtures.tiny_archive import write_tiny_archive

RAW_CMU = Path(__file__).parents[1] / "data" / "raw" / "cmu_mocap"

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def raw_cmu() -> Path:
    """The folder of the embedded motion capture."""
    if not RAW_CMU.is_dir():
        pytest.fail("data/raw/cmu_mocap is not there; fetch it with: dvc pull data/raw/cmu_mocap")
    return RAW_CMU


@pytest.fixture(scope="session")
def takes(raw_cmu: Path) -> dict[str, Take]:
    """All sequences of the embedded motion capture, by name."""
    return {take.name: take for take in read_takes(raw_cmu)}


@pytest.fixture(scope="session")
def tiny_raw(raw_cmu: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like data/raw with a tiny archive; to be read, not changed."""
    folder = tmp_path_factory.mktemp("raw")
    write_tiny_archive(raw_cmu, folder / "cmu_mocap")
    return folder


@pytest.fixture
def own_raw(tiny_raw: Path, tmp_path: Path) -> Path:
    """The same, a copy of one's own to damage."""
    return shutil.copytree(tiny_raw, tmp_path / "raw")
