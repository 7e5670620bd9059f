"""A stage that is killed while it writes leaves no half a file, and ends the same when it runs again.

Here at a few instants; `make torture` takes them all, and those of DVC.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trials.crash_points import KINDS, Death, Stage, attempt, calm, four_stages, places

pytestmark = pytest.mark.mishaps
TRIED = (0.3, 0.6, 0.9)  # of the changes to files


@pytest.fixture(scope="module")
def stages(tiny_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    return four_stages(tmp_path_factory.mktemp("stages"), tiny_raw)


def deaths(stage: Stage, folder: Path) -> list[Death]:
    """The stage killed at some of its changes, in both ways in turn."""
    files, wanted = calm(stage, folder / "calm")
    numbers = places(files)
    chosen = [numbers[int(share * len(numbers))] for share in TRIED]
    return [
        attempt(stage, folder / "try", wanted, at=at, file=files[at], kind=KINDS[place % 2])
        for place, at in enumerate(chosen, 1)
    ]


@pytest.mark.parametrize("name", ["prepare_data", "train", "evaluate_5runs", "report"])
def test_a_stage_that_is_killed_while_it_writes_leaves_no_half_a_file_and_then_ends_the_same(name, stages, tmp_path):
    tried = deaths(stages[name], tmp_path)
    assert any(death.died for death in tried)
    assert [death for death in tried if not death.survived] == []


def test_a_file_that_is_written_in_place_is_found_half_written(tmp_path):
    def write_in_place(folder: Path) -> None:
        (folder / "metrics.json").write_text("1" * 1000, encoding="utf-8")

    stage = Stage(write_in_place)
    files, wanted = calm(stage, tmp_path / "calm")
    assert files == ["metrics.json"]
    before, in_the_write = (attempt(stage, tmp_path / "try", wanted, at=0, file=files[0], kind=kind) for kind in KINDS)
    assert before.survived
    assert in_the_write.died
    assert in_the_write.half_written == ["metrics.json"]


def test_work_that_ends_otherwise_after_a_kill_is_found(tmp_path):
    def count_up(folder: Path) -> None:
        (folder / "state").touch()
        number = len(list(folder.iterdir()))
        (folder / f"run{number}").touch()
        (folder / "end").touch()

    stage = Stage(count_up)
    files, wanted = calm(stage, tmp_path / "calm")
    killed_at_the_end = attempt(stage, tmp_path / "try", wanted, at=2, file=files[2], kind=KINDS[0])
    assert not killed_at_the_end.half_written
    assert not killed_at_the_end.survived
