"""The list of checkpoints says of each run what DVC recorded, what is on disk, and the score of these very weights."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.checkpoints.list import (
    CHANGED,
    HERE,
    MISSING,
    UNKNOWN,
    checkpoint_entries,
    checkpoint_lines,
    entries_as_json,
)
from pipeline.system.errors import UserError
from pipeline.system.files import md5_as_dvc
from tests.fixtures.row_metrics import make_protocol
from tests.fixtures.small_repository import ROW, run, write_repository

LOCK_WITHOUT_HASH = f"stages: {{train: {{cmd: a, outs: [{{path: data/checkpoints/{ROW}/run0, size: 1}}]}}}}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(made, tmp_path / "repository", symlinks=True)


def test_a_folders_hash_is_the_one_that_dvc_recorded(made):
    stages = yaml.safe_load((made / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    recorded = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"] if "nfiles" in out}
    assert len(recorded) == 2
    for path, md5 in recorded.items():
        assert f"{md5_as_dvc(made / path)}.dir" == md5


def test_each_run_has_its_own_score_size_and_hashes(made):
    first, second = checkpoint_entries(made)
    assert [(entry.row, entry.seed, entry.state, entry.mpjpe_mm) for entry in (first, second)] == [
        (ROW, 0, HERE, 40.0),
        (ROW, 1, HERE, 44.0),
    ]
    weights = made / "data" / "checkpoints" / ROW / "run1" / "weights.safetensors"
    assert second.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert second.size_bytes == weights.stat().st_size + 2
    assert second.protocol == make_protocol(ROW, seeds=(0, 1))


def test_what_is_not_here_is_listed_with_its_score_and_can_be_pulled(root):
    shutil.rmtree(root / "data" / "checkpoints")
    assert [(entry.state, entry.mpjpe_mm, entry.sha256) for entry in checkpoint_entries(root)] == [
        (MISSING, 40.0, None),
        (MISSING, 44.0, None),
    ]
    run(root, "dvc checkout --quiet")
    assert {entry.state for entry in checkpoint_entries(root)} == {HERE}


def test_weights_that_were_changed_have_no_score(root):
    (root / "data" / "checkpoints" / ROW / "run1" / "card.json").write_text("{ }")
    entries = checkpoint_entries(root)
    assert [entry.state for entry in entries] == [HERE, CHANGED]
    assert [entry.mpjpe_mm for entry in entries] == [None, None]


def test_metrics_that_were_changed_are_nobodys_score(root):
    path = root / "reports" / "metrics" / f"{ROW}.json"
    path.write_text(path.read_text() + "\n")
    assert [entry.mpjpe_mm for entry in checkpoint_entries(root)] == [None, None]


def test_a_run_that_dvc_does_not_know_is_listed(root):
    shutil.copytree(root / "data" / "checkpoints" / ROW / "run0", root / "data" / "checkpoints" / "mine" / "run3")
    entry = checkpoint_entries(root)[0]
    assert (entry.row, entry.seed, entry.state, entry.mpjpe_mm) == ("mine", 3, UNKNOWN, None)


def test_the_table_is_aligned_and_spells_each_protocol_out_once(made):
    lines = list(checkpoint_lines(checkpoint_entries(made)))
    assert lines[0].split("  ")[0] == "row"
    assert [line.split()[:3] for line in lines[1:3]] == [[ROW, "0", "40.00"], [ROW, "1", "44.00"]]
    assert len({line.index("here") for line in lines[1:3]}) == 1
    assert lines[3:5] == ["\nProtocol 1:", "  dataset: walker"]
    assert "  flip averaging: yes" in lines
    assert not any("keypoints:" in line for line in lines)  # the row's name says them


def test_as_json_the_hashes_are_whole(made):
    content = json.loads(entries_as_json(checkpoint_entries(made)))
    assert [(len(entry["sha256"]), len(entry["md5"])) for entry in content] == [(64, 32), (64, 32)]
    assert [entry["protocol"]["seeds"] for entry in content] == [[0, 1], [0, 1]]


def test_what_other_stages_depend_on_may_be_recorded_without_a_hash_of_dvc(root):
    before = checkpoint_entries(root)
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
    lock["stages"]["other"] = {"cmd": "a", "deps": [{"path": "s3://bucket/file", "etag": "1", "size": 2}]}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    assert checkpoint_entries(root) == before != []


def test_without_anything_the_list_is_empty(tmp_path):
    assert checkpoint_entries(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("dvc.lock", "stages: [1]", "dvc.lock: expected the stages as DVC records them"),
        ("dvc.lock", LOCK_WITHOUT_HASH, "dvc.lock: expected the stages as DVC records them"),
        (f"data/checkpoints/{ROW}/runaway/card.json", "{}", "runaway: expected a folder called run<seed>"),
    ],
)
def test_a_damaged_record_is_refused_by_name(name, content, complaint, root):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)
    with pytest.raises(UserError, match=complaint):
        checkpoint_entries(root)
