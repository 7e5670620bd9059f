"""Files and folders appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.system.files import new_folder, sha256_of, write_json, write_text


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_when_its_block_ends(tmp_path):
    with new_folder(tmp_path / "a" / "b") as folder:
        (folder / "file").write_text("new", encoding="utf-8")
        assert names_in(tmp_path / "a") == [folder.name]
        assert folder.name != "b"
    assert names_in(tmp_path / "a") == ["b"]
    assert (tmp_path / "a" / "b" / "file").read_text(encoding="utf-8") == "new"


def test_a_new_folder_replaces_the_old_one_whole(tmp_path):
    for name in ("old", "new"):
        with new_folder(tmp_path / "out") as folder:
            (folder / name).mkdir()
    assert names_in(tmp_path / "out") == ["new"]
    assert names_in(tmp_path) == ["out"]


def test_the_old_folder_is_out_of_the_way_before_any_of_it_is_removed(tmp_path, monkeypatch):
    removed = []
    monkeypatch.setattr("shutil.rmtree", lambda path, **_: removed.append(path.name))
    for _ in range(2):
        with new_folder(tmp_path / "out"):
            pass
    assert removed.count(".out.replaced.partial") == 4
    assert "out" not in removed


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_a_failure_the_old_folder_is_there_and_nothing_else(error, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()

    def fail() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "half").touch()
            raise error("stop")

    with pytest.raises(error, match="stop"):
        fail()
    assert names_in(tmp_path) == ["out"]
    assert names_in(tmp_path / "out") == ["old"]


def test_what_a_killed_process_left_is_not_taken_over(tmp_path):
    with new_folder(tmp_path / "out") as folder:
        partial = folder
    partial.mkdir()
    (partial / "left").touch()
    with new_folder(tmp_path / "out") as folder:
        (folder / "new").touch()
    assert names_in(tmp_path / "out") == ["new"]


def test_a_text_is_written_with_its_folder_and_leaves_nothing_else(tmp_path):
    for text in ("first", "zweite Fassung: ü\n"):
        write_text(tmp_path / "a" / "b.md", text)
        assert (tmp_path / "a" / "b.md").read_bytes() == text.encode()
    assert names_in(tmp_path / "a") == ["b.md"]


def test_json_is_indented_ends_with_a_line_and_is_read_back(tmp_path):
    content = {"row": "mocap", "mpjpe_mm": [1.5, 1e-05, None]}
    write_json(tmp_path / "metrics.json", content)
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert text.startswith('{\n  "row": "mocap",\n')
    assert text.endswith("}\n")


def test_json_with_a_number_that_is_not_finite_is_not_written(tmp_path):
    write_json(tmp_path / "metrics.json", {"mpjpe_mm": 1.0})
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"mpjpe_mm": math.nan})
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == {"mpjpe_mm": 1.0}
    assert names_in(tmp_path) == ["metrics.json"]


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files of more than 100 bytes cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_file_and_nothing_else_and_is_an_error_that_names_it(tmp_path):
    write_text(tmp_path / "metrics.json", "old")
    with pytest.raises(OSError, match=r"too large: .*/metrics.json'$"):
        write_text(tmp_path / "metrics.json", "new" * 100)
    assert (tmp_path / "metrics.json").read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == ["metrics.json"]


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_no_half_a_folder_and_is_an_error_that_names_it(tmp_path):
    def fill() -> None:
        with new_folder(tmp_path / "run0") as folder:
            (folder / "weights").write_bytes(bytes(1000))

    with pytest.raises(OSError, match=r"too large: .*/run0'$"):
        fill()
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("size", [0, 3, (1 << 20) + 7])
def test_the_hash_is_that_of_the_whole_file(size, tmp_path):
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
