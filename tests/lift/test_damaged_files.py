"""However the values in a file are damaged, it is read or refused in one line of our own words."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.lift.formats import read_recording
from pipeline.lift.people import InputOptions
from pipeline.lift.plausibility import check_plausible
from pipeline.system.errors import UserError
from tests.fixtures.keypoint_files import CASES
from tests.fixtures.lifting import SIZE

VALUES = (
    None, -1, 0, 1, 1e308, float("nan"), float("inf"), "", "x", "12", "²", [], {}, [[]], [{}], True, 2**70, {"x": 1},
    [1, 2, 3], [None],
)  # fmt: skip
PYTHON = ("Error", "NoneType", "object is not", "list indices", "subscriptable", "unhashable")
JSON = [case for case in CASES if case[0] not in ("npz", "csv", "ultralytics-labels")]
Path = tuple[Any, ...]


def paths(content: Any, path: Path = ()) -> Iterator[Path]:
    """Yields the way to every value."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from paths(value, (*path, key))


def damage(content: Any, chance: random.Random) -> Any:
    """Returns the content with one to four values replaced, removed, given twice or moved to another name."""
    for _ in range(chance.choice([1, 1, 2, 4])):
        depth = chance.randint(1, 6)
        ways = [path for path in paths(content) if 0 < len(path) <= depth]
        if not ways:
            continue
        *way, last = chance.choice(ways)
        within = content
        for key in way:
            within = within[key]
        kind = chance.random()
        if kind < 0.5:
            within[last] = json.loads(json.dumps(chance.choice(VALUES)))
        elif kind < 0.7:
            del within[last]
        elif isinstance(within, list):
            within.insert(chance.randint(0, len(within)), within[last])
        else:
            within[chance.choice(list(within))] = within[last]
    return content


@pytest.mark.parametrize(
    ("name", "layout", "write"), [case[:3] for case in JSON], ids=[case[2].__name__ for case in JSON]
)
def test_a_damaged_file_is_read_or_refused_in_our_words(tmp_path, monkeypatch, name, layout, write):
    monkeypatch.setattr("tests.fixtures.keypoint_files.FRAMES", 3)
    monkeypatch.setattr("tests.fixtures.keypoint_files.EMPTY", 1)
    path = write(tmp_path, layout)
    text = (sorted(path.iterdir())[0] if path.is_dir() else path).read_text(encoding="utf-8")
    chance, damaged, refused = random.Random(name), tmp_path / "damaged.json", 0
    for number in range(20):
        damaged.write_text(json.dumps(damage(json.loads(text), chance)), encoding="utf-8")
        options = InputOptions(format=name if number % 2 else None, image_size_px=SIZE)
        try:
            recording = read_recording(damaged, options)
            check_plausible("damaged.json", recording.tracks, SIZE, rate_hz=30.0)
        except UserError as error:
            refused += 1
            said = str(error).removeprefix(str(damaged))
            assert "expected" in said
            assert not any(word in said for word in PYTHON), said
    assert 0 < refused < 20
