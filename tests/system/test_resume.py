"""The state of an unfinished run survives whatever happens while it is written, and only one process has it."""

from __future__ import annotations

import errno
import logging
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.system.resume import Interval, hold_lock, load_state, remove_state, run_key, save_state


def state_of(epoch: int) -> dict[str, Any]:
    """As a training run has it: tensors, numbers, text, None, in lists and dictionaries."""
    return {
        "epoch": epoch,
        "history": [{"epoch": 1, "val_mpjpe_mm": 51.25}],
        "best": None,
        "model": {"weight": torch.full((40, 30), float(epoch))},
        "random": [torch.get_rng_state()],
    }


@pytest.mark.parametrize(("seconds", "due_s"), [(30.0, [31.0, 62.0, 93.0]), (61.0, [62.0]), (200.0, [])])
def test_a_state_is_due_once_in_so_many_seconds(seconds, due_s, monkeypatch):
    times_s = iter([0.0, 8.0, 30.0, 31.0, 45.0, 61.0, 62.0, 93.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times_s))
    interval = Interval(seconds)
    assert [at_s for at_s in (8.0, 30.0, 31.0, 45.0, 61.0, 62.0, 93.0) if interval.has_passed()] == due_s


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = state_of(3)
    save_state(tmp_path, state)
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded.keys() == state.keys()
    assert loaded["epoch"] == 3
    assert loaded["history"] == state["history"]
    assert loaded["best"] is None
    assert torch.equal(loaded["model"]["weight"], state["model"]["weight"])
    assert torch.equal(loaded["random"][0], state["random"][0])


def test_an_empty_folder_has_no_state(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None


def test_the_newest_state_is_loaded_and_one_before_it_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        save_state(tmp_path, state_of(epoch))
    assert load_state(tmp_path)["epoch"] == 3  # type: ignore[index]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.previous.pt", "state.pt"]
    (tmp_path / "state.pt").unlink()
    assert load_state(tmp_path)["epoch"] == 2  # type: ignore[index]


def damaged(content: bytes, damage: str) -> bytes:
    middle = content.find(torch.full((40,), 2.0).numpy().tobytes())
    return {
        "empty": b"",
        "cut in half": content[: len(content) // 2],
        "last byte missing": content[:-1],
        "text": b"not a state",
        "zeros, as a file system may leave it": bytes(len(content)),
        "a pickle that runs code": b"cos\nsystem\n(S'true'\ntR.",
        "a changed byte among the weights": content[:middle] + b"\xff" + content[middle + 1 :],
    }[damage]


@pytest.mark.parametrize(
    "damage",
    [
        "empty", "cut in half", "last byte missing", "text", "zeros, as a file system may leave it",
        "a pickle that runs code", "a changed byte among the weights",
    ],
)  # fmt: skip
def test_a_damaged_state_is_named_and_the_one_before_it_taken(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_state(tmp_path, state_of(1))
    save_state(tmp_path, state_of(2))
    path = tmp_path / "state.pt"
    path.write_bytes(damaged(path.read_bytes(), damage))
    assert load_state(tmp_path)["epoch"] == 1  # type: ignore[index]
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert warning.getMessage().startswith(f"{path}: expected a saved state, found ")


def test_two_damaged_states_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("state.pt", "state.previous.pt"):
        (tmp_path / name).write_bytes(b"damaged")
    assert load_state(tmp_path) is None
    assert len(caplog.records) == 2


@pytest.mark.filterwarnings("ignore")  # of zipfile, of what a flipped bit makes of a name
def test_no_flipped_bit_is_taken_for_the_truth(tmp_path: Path) -> None:
    save_state(tmp_path, state_of(1))
    save_state(tmp_path, state_of(2))
    path, wanted, found = tmp_path / "state.pt", state_of(2), 0
    whole = path.read_bytes()
    for place in random.Random(0).sample(range(len(whole)), 150):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        state = load_state(tmp_path)
        assert state is not None
        if state["epoch"] == 1:
            found += 1
            continue
        assert state.keys() == wanted.keys()  # the bit was one that says nothing
        assert torch.equal(state["model"]["weight"], wanted["model"]["weight"])
        assert torch.equal(state["random"][0], wanted["random"][0])
        assert (state["epoch"], state["history"], state["best"]) == (2, wanted["history"], None)
    assert found > 75


def test_a_full_disk_is_named_and_leaves_the_states_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path, state_of(1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        save_state(tmp_path, state_of(2))
    assert error.value.filename == str(tmp_path / "state.partial")
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert load_state(tmp_path)["epoch"] == 1  # type: ignore[index]


class PowerCut(BaseException):
    """Nothing runs after it."""


@pytest.mark.parametrize("renamed", [0, 1])
def test_a_crash_while_saving_leaves_the_state_before(
    renamed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path, state_of(1))
    save_state(tmp_path, state_of(2))
    rename, calls = Path.replace, []

    def crash(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) > renamed:
            raise PowerCut
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(PowerCut):
            save_state(tmp_path, state_of(3))
    assert load_state(tmp_path)["epoch"] == 2  # type: ignore[index]
    save_state(tmp_path, state_of(4))
    assert load_state(tmp_path)["epoch"] == 4  # type: ignore[index]


def test_a_half_written_state_is_never_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state.partial").write_bytes(b"half")
    assert load_state(tmp_path) is None
    assert not caplog.records


def test_a_removed_state_is_gone_and_may_be_removed_twice(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    with hold_lock(folder):
        save_state(folder, state_of(1))
        remove_state(folder)
        remove_state(folder)
    assert not folder.exists()


def test_the_key_depends_on_all_that_determines_the_result(tmp_path: Path) -> None:
    data, code = tmp_path / "pixels.npy", tmp_path / "train.py"
    data.write_bytes(b"data")
    code.write_bytes(b"code")
    config: dict[str, Any] = {"row": "a", "training": {"lr": 0.1}}
    first = run_key(config, seed=0, files=[data, code])
    assert first == run_key({"training": {"lr": 0.1}, "row": "a"}, seed=0, files=[data, code])
    others = [
        run_key({"row": "a", "training": {"lr": 0.2}}, seed=0, files=[data, code]),
        run_key(config, seed=1, files=[data, code]),
        run_key(config, seed=0, files=[data]),
    ]
    data.write_bytes(b"Data")
    others.append(run_key(config, seed=0, files=[data, code]))
    data.write_bytes(b"data")
    code.write_bytes(b"Code")
    others.append(run_key(config, seed=0, files=[data, code]))
    assert len({first, *others}) == 6


def test_the_key_does_not_depend_on_where_the_files_are(tmp_path: Path) -> None:
    keys = set()
    for folder in (tmp_path / "here", tmp_path / "there"):
        folder.mkdir()
        (folder / "pixels.npy").write_bytes(b"data")
        keys.add(run_key({}, seed=0, files=[folder / "pixels.npy"]))
    assert len(keys) == 1


def test_a_lock_is_free_again_even_after_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "key"

    def fail() -> None:
        with hold_lock(folder) as waited:
            assert not waited
            assert folder.is_dir()
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        fail()
    with hold_lock(folder) as waited:
        assert not waited


def test_the_second_holder_waits_says_so_and_knows_that_it_did(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, order = tmp_path / "key", []

    def second() -> None:
        with hold_lock(folder) as waited:
            order.append(("second", waited))

    with hold_lock(folder):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        remove_state(folder)  # whoever waits still waits on the same file
        order.append(("first", False))
    thread.join(10)
    assert order == [("first", False), ("second", True)]
    assert caplog.messages == [f"another process is training this run; waiting for it to end ({folder})"]
