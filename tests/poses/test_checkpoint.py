"""A checkpoint comes back as it was written, and whatever does not fit is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import MODELS
from pipeline.poses.checkpoint import build_model, load_checkpoint, read_card, read_history, write_checkpoint
from pipeline.system.errors import UserError
from tests.fixtures.networks import make_card
from tests.fixtures.walker import change_json

CPU = torch.device("cpu")
TRAINED: dict[str, Any] = {"epoch": 7, "validation_mpjpe_mm": 41.5, "run_key": "0123456789abcdef", "torch": "2.0.0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of a small RayFormer."""
    torch.manual_seed(0)
    card = make_card("rayformer", **TRAINED)
    write_checkpoint(tmp_path, build_model(card).state_dict(), card)
    return tmp_path


@pytest.mark.parametrize("name", MODELS)
def test_a_model_written_and_loaded_predicts_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = make_card(name, **TRAINED | {"validation_mpjpe_mm": None})
    model = build_model(card).eval()
    write_checkpoint(tmp_path, model.state_dict(), card)
    loaded, its_card = load_checkpoint(tmp_path, device=CPU)
    screen = torch.rand(2, 9, 17, 2)
    assert torch.equal(loaded(screen), model(screen))
    assert not loaded.training
    assert its_card == card


def test_the_same_weights_and_card_give_the_same_bytes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = tmp_path_factory.mktemp("again")
    model, card = load_checkpoint(folder, device=CPU)
    write_checkpoint(again, model.state_dict(), card)
    for file in ("weights.safetensors", "card.json"):
        assert (again / file).read_bytes() == (folder / file).read_bytes()


def test_a_card_knows_its_layouts() -> None:
    in_skeleton, out_skeleton = make_card().skeletons
    assert in_skeleton.name == out_skeleton.name == "h36m17"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model": "posformer"}, r"card\.json: model: expected one of linear, poseformer.*, found 'posformer'$"),
        ({"in_skeleton": "coco"}, r"card\.json: skeleton: expected one of h36m17.*, found 'coco'$"),
        ({"out_skeleton": "coco"}, r"card\.json: skeleton: expected one of h36m17.*, found 'coco'$"),
        ({"frames": "9"}, r"card\.json: frames: expected a valid integer, found '9'$"),
        ({"nickname": "best"}, r"card\.json: nickname: unknown key, found value 'best'$"),
        ({"hyperparameters": {"width": 15}}, r"card\.json: models\.rayformer: .* half the width 15, found 2$"),
        ({"hyperparameters": {"dept": 4}}, r"card\.json: models\.rayformer: unknown key 'dept'"),
        ({"frames": 10**9 + 1}, r"card\.json: frames: expected .*less than or equal to 100000, found 1000000001$"),
        (
            {"hyperparameters": {"depth": 10**9}},
            r"card\.json: models\.rayformer\.depth: .* equal to 1000, found 1000000000$",
        ),
        ({"frames": 8}, r"card\.json: models\.rayformer: expected an odd positive number of frames, found 8$"),
    ],
)
def test_a_card_that_names_what_is_not_there_is_refused(folder: Path, changes: Any, complaint: str) -> None:
    change_json(folder / "card.json", **changes)
    with pytest.raises(UserError, match=complaint):
        load_checkpoint(folder, device=CPU)


def test_a_card_of_a_model_larger_than_any_memory_is_refused_by_its_weights(folder: Path) -> None:
    change_json(folder / "card.json", hyperparameters={"width": 2 * 10**8, "heads": 2})
    with pytest.raises(UserError, match=r"weights\.safetensors: blocks.*: expected \(.*00000000.*\), found \("):
        load_checkpoint(folder, device=CPU)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"epoch\n1\n", "epoch"),
        (b"a" * 200_000, "Error: field larger"),
        (b"", "ValueError"),
        (b"\xff", "UnicodeDecode"),
    ],
)
def test_what_is_no_learning_curve_is_refused(folder: Path, content: bytes, found: str) -> None:
    (folder / "history.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"history\.csv: expected the .*, found .*{found}"):
        read_history(folder)


def test_a_card_with_a_missing_value_is_refused(folder: Path) -> None:
    content = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    del content["seed"]
    (folder / "card.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"card\.json: seed: expected a value, found none$"):
        read_card(folder)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run0/card\.json: expected a .*YAML file, found "):
        load_checkpoint(tmp_path / "run0", device=CPU)


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors: expected a safetensors file, found FileNotFoundError"):
        load_checkpoint(folder, device=CPU)


@pytest.mark.parametrize("kept_bytes", [0, 5, 200, -1])
def test_truncated_weights_are_refused(folder: Path, kept_bytes: int) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(UserError, match=r"weights\.safetensors: expected a safetensors file, found SafetensorError"):
        load_checkpoint(folder, device=CPU)


def test_weights_that_are_something_else_are_refused(folder: Path) -> None:
    torch.save({"head.bias": torch.zeros(3)}, folder / "weights.safetensors")
    with pytest.raises(UserError, match=r"weights\.safetensors: expected a safetensors file, found SafetensorError"):
        load_checkpoint(folder, device=CPU)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"norm.bias": None}, r"weights\.safetensors: norm\.bias: expected \(16,\), found none$"),
        ({"extra.bias": torch.zeros(4)}, r"weights\.safetensors: extra\.bias: expected no such tensor, found \(4,\)$"),
        ({"norm.bias": torch.zeros(4)}, r"weights\.safetensors: norm\.bias: expected \(16,\), found \(4,\)$"),
    ],
)
def test_tensors_that_do_not_fit_the_model_are_refused(folder: Path, changes: Any, complaint: str) -> None:
    path = folder / "weights.safetensors"
    weights = {**load_file(path), **changes}
    save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, path)
    with pytest.raises(UserError, match=complaint):
        load_checkpoint(folder, device=CPU)


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    change_json(folder / "card.json", model="poseformer")
    content = json.loads((folder / "card.json").read_text(encoding="utf-8")) | {"hyperparameters": {}}
    (folder / "card.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"weights\.safetensors: Spatial_.*: expected \(.*\), found none$"):
        load_checkpoint(folder, device=CPU)


@pytest.mark.parametrize("missing", ["rate_hz", "focal"])
def test_an_older_card_is_refused_with_what_to_add(folder: Path, missing: str) -> None:
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    del card[missing]
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(UserError, match=r'card\.json: expected rate_hz and focal .* add "rate_hz": 30.0, "focal": 2'):
        read_card(folder)
