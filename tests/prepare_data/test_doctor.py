"""The doctor says what is there, what is missing and where it comes from, and reads what is there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.prepare_data.doctor import examine
from pipeline.prepare_data.licensed import human36m
from pipeline.prepare_data.licensed.human36m_files import ACTIONS, CORRUPT, LABELLED
from pipeline.system.errors import UserError
from tests.fixtures import human36m as fixtures


def test_of_an_empty_folder_all_files_their_owners_and_terms_are_named(tmp_path: Path) -> None:
    lines, whole = examine("h36m", tmp_path)
    text = "\n".join(lines)
    assert not whole
    assert lines[0] == f"Human3.6M in {tmp_path / 'h36m'}, which is not there"
    for name in (
        "poses (for every row, one of): MISSING",
        "missing  data_3d_h36m.npz",
        "missing  S*/MyPoseFeatures/D3_Positions/*.cdf: the official files",
        "from vision.imar.ro/human3.6m, after registration",
        "missing  data_2d_h36m_cpn_ft_h36m_dbb.npz",
        "from dl.fbaipublicfiles.com/video-pose-3d/",
        "terms: the dataset's licence agreement: academic use, no redistribution",
    ):
        assert name in text
    assert lines[-1] == "Missing: poses. See docs/datasets/human36m.md."


def test_what_is_there_is_counted_and_what_is_not_as_published_named(tmp_path: Path) -> None:
    fixtures.write_h5(tmp_path / "h36m")
    lines, whole = examine("h36m", tmp_path)
    assert not whole
    assert any(line.startswith("  found    S*/MyPoses/3D_positions/*.h5: 14 files of 210, ") for line in lines)
    assert any(line.startswith("  found    S*/StackedHourglass/*.h5: 55 files of 839, ") for line in lines)
    assert not any("missing  data_3d_h36m.npz" in line for line in lines)  # one format is enough
    assert "Not as the dataset is known to be:" in lines
    assert "  S5: expected 30 takes, found none" in lines
    assert "  test subjects: expected 543344 frames over all cameras, found 352 in 6 takes" in lines


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    fixtures.write_archives(tmp_path / "h36m")
    (tmp_path / "h36m" / "data_2d_h36m_gt.npz").write_bytes(b"<html>")
    lines, whole = examine("h36m", tmp_path)
    assert not whole
    assert lines[-1].startswith("Damaged or of another dataset: ")
    assert "data_2d_h36m_gt.npz: expected a whole npz archive" in lines[-1]


def test_a_whole_dataset_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pose_m = np.tile(np.linspace(0.1, 0.5, 32, dtype=np.float32)[:, None], (1, 1, 3))
    names = [f"{action}{number}" for action in ACTIONS for number in ("", " 1")]
    poses = {s: {take: pose_m for take in names if (s, take) != CORRUPT} for s in LABELLED}
    (tmp_path / "h36m").mkdir()
    np.savez(tmp_path / "h36m" / "data_3d_h36m.npz", positions_3d=poses)
    monkeypatch.setattr(human36m, "KNOWN_FRAMES", {"train": 4 * 5 * 30, "test": 4 * (30 + 29)})
    lines, whole = examine("h36m", tmp_path)
    assert whole
    assert lines[-1] == "Takes and frames are as the dataset is known to be."


def test_an_unknown_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset: expected one of h36m.*, found 'h37m'"):
        examine("h37m", tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["poselift", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_commands_doctor_and_export_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fixtures.write_cdf(tmp_path / "raw" / "h36m")
    assert run(monkeypatch, "doctor", "h36m", "--raw", str(tmp_path / "raw")) == 1
    assert "Not as the dataset is known to be" in capsys.readouterr().out
    assert run(monkeypatch, "export", "h36m", str(tmp_path / "out"), "--raw", str(tmp_path / "raw")) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data_2d_h36m_gt.npz", "data_3d_h36m.npz"]
    assert run(monkeypatch, "export", "h36m", str(tmp_path / "raw" / "h36m"), "--raw", str(tmp_path / "raw")) == 2
    assert "h36m: expected a new folder, found one that exists" in capsys.readouterr().err
    assert run(monkeypatch, "export", "mocap", str(tmp_path / "out")) == 2
    assert "expected one that can be exported, h36m, humaneva, mpi_inf_3dhp, found 'mocap'" in capsys.readouterr().err
