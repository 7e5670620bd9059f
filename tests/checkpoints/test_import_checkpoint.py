"""Public checkpoints come in with the weights they have, or not at all; nothing in them is executed."""

from __future__ import annotations

import os
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.checkpoints.import_checkpoint import Description, import_checkpoint
from pipeline.poses.checkpoint import load_checkpoint, read_card
from pipeline.system import archives
from pipeline.system.errors import UserError
from pipeline.system.files import sha256_of
from tests.fixtures.poseformer_bin import (
    Calls,
    Reference,
    pickled,
    random_poseformer,
    save,
    tensor,
    upstream_content,
    write_zip,
)
from tests.models.test_poseformer import wave_weights

torch.set_num_threads(1)
CPU = torch.device("cpu")
STATED = {"dataset": "h36m", "keypoints": "cpn_ft_h36m_dbb", "heads": 2}


def import_file(path: Path, **changes: Any) -> Path:
    """Returns the checkpoint folder made from `path`."""
    out = path.with_name("imported")
    import_checkpoint(path, out, Description(**{**STATED, **changes}))
    return out


def refusal(path: Path, **changes: Any) -> str:
    """Returns why the import of `path` is refused: one line that names the file, and nothing is left behind."""
    before = set(path.parent.iterdir())
    with pytest.raises(UserError) as caught:
        import_file(path, **changes)
    assert set(path.parent.iterdir()) == before
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), path.name)


# What is read.


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old layout"])
@pytest.mark.parametrize("parallel", [True, False], ids=["module.", "no prefix"])
def test_the_imported_model_computes_what_the_original_does_bit_for_bit(
    parallel: bool, old: bool, tmp_path: Path
) -> None:
    original = random_poseformer()
    path = save(upstream_content(original, parallel=parallel), tmp_path / "detected9f.bin", old=old)
    model, card = load_checkpoint(import_file(path), device=CPU)
    screen = torch.rand(3, 9, 17, 2) - 0.5
    with torch.no_grad():
        assert torch.equal(model(screen), original(screen))
    assert (card.row, card.frames, card.epoch) == ("h36m-cpn_ft_h36m_dbb-f9-poseformer", 9, 43)
    assert (card.seed, card.run_key, card.torch, card.validation_mpjpe_mm) == (None, None, None, None)
    assert card.imported_from is not None
    assert (card.imported_from.file, card.imported_from.sha256) == ("detected9f.bin", sha256_of(path))


def test_golden_numbers_of_the_authors_code_come_through_a_file(tmp_path: Path) -> None:
    weights = {f"module.{name}": weight.float() for name, weight in wave_weights(9, 17).items()}
    path = save({"epoch": 1, "model_pos": OrderedDict(weights)}, tmp_path / "epoch_1.bin")
    model, _ = load_checkpoint(import_file(path, heads=8), device=CPU)
    screen = 0.5 * torch.sin(0.013 * torch.arange(2 * 9 * 17 * 2, dtype=torch.float64))
    with torch.no_grad():
        lifted = model.double()(screen.reshape(2, 9, 17, 2))
    # The file holds float32: each number is that of the float64 fixture to seven digits.
    assert lifted.sum().item() == pytest.approx(3.9498063940, abs=1e-4)
    assert lifted.abs().sum().item() == pytest.approx(125.3647422280, abs=1e-4)
    assert lifted[0, 0, 0].tolist() == pytest.approx([1.8143532698, -0.9078720349, -0.7659963933], abs=1e-6)
    assert lifted[1, 0, -1].tolist() == pytest.approx([-1.7530087914, 0.0421608100, 1.6873694720], abs=1e-6)


def test_sizes_are_read_off_the_tensors(tmp_path: Path) -> None:
    sizes = {"frames": 27, "out_joints": 15, "in_channels": 3, "embed_dim_ratio": 4, "depth": 3, "mlp_ratio": 3.0}
    original = random_poseformer(**sizes, heads=4)
    path = save(upstream_content(original, steps=0), tmp_path / "a.bin")
    folder = import_file(path, heads=4, dataset="humaneva", in_skeleton="coco17", out_skeleton="humaneva15")
    card = read_card(folder)
    assert (card.frames, card.in_channels, card.in_skeleton, card.out_skeleton) == (27, 3, "coco17", "humaneva15")
    assert card.hyperparameters["embed_dim_ratio"] == 4
    assert card.hyperparameters["depth"] == 3
    assert card.hyperparameters["mlp_ratio"] == 3
    assert card.hyperparameters["heads"] == 4
    model, _ = load_checkpoint(folder, device=CPU)
    screen = torch.rand(1, 27, 17, 3)
    with torch.no_grad():
        assert torch.equal(model(screen), original(screen))


@pytest.mark.parametrize("state", ["before 1.17", "MT19937 by name"])
def test_random_states_of_older_numpy_are_ignored_too(state: str, tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    maker, args = {
        "before 1.17": (getattr(np.random, "__RandomState_ctor"), ()),
        "MT19937 by name": (random.__reduce__()[0], ("MT19937",)),
    }[state]
    content = upstream_content(random_poseformer(), steps=0)
    content["random_state"] = Calls(maker, *args, state=random.get_state(legacy=True))
    content["lr"] = np.float64(0.001)
    assert read_card(import_file(save(content, tmp_path / "a.bin"))).epoch == 43


def test_a_file_without_an_epoch_has_a_card_without_one(tmp_path: Path) -> None:
    path = save({"model_pos": random_poseformer().state_dict()}, tmp_path / "a.bin")
    assert read_card(import_file(path)).epoch is None


@pytest.mark.parametrize("epoch", ["forty", 3.0, None, True])
def test_an_epoch_that_is_no_count_is_not_taken(epoch: object, tmp_path: Path) -> None:
    path = save({"model_pos": random_poseformer().state_dict(), "epoch": epoch}, tmp_path / "a.bin")
    assert read_card(import_file(path)).epoch is None


def test_a_tensor_whose_numbers_lie_in_another_order_is_read(tmp_path: Path) -> None:
    weights = random_poseformer().state_dict()
    views = weights | {"head.1.weight": weights["head.1.weight"].t().contiguous().t()}
    model, _ = load_checkpoint(import_file(save({"model_pos": views}, tmp_path / "a.bin")), device=CPU)
    assert torch.equal(model.state_dict()["head.1.weight"], weights["head.1.weight"])


def test_tensors_that_share_a_storage_each_get_their_own_part(tmp_path: Path) -> None:
    weights = random_poseformer().state_dict()
    flat = torch.cat([weight.flatten() for weight in weights.values()])
    parts = flat.split([weight.numel() for weight in weights.values()])
    views = {name: part.view(weights[name].shape) for name, part in zip(weights, parts, strict=True)}
    model, _ = load_checkpoint(import_file(save({"model_pos": views}, tmp_path / "a.bin")), device=CPU)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


def bare(weights: dict[str, Any]) -> Any:
    return weights


SHAPES_OF_FILES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "bare": bare,
    "bare, in an OrderedDict": OrderedDict,
    "as state_dict": lambda weights: {"state_dict": weights, "epoch": 7, "optimizer": {"state": {}}},
    "as model": lambda weights: {"model": weights, "min_mpjpe": np.float64(40.0)},
    "as model_state_dict": lambda weights: {"model_state_dict": weights},
    "compiled": lambda weights: {f"_orig_mod.{name}": weight for name, weight in weights.items()},
    "parallel twice": lambda weights: {f"module.module.{name}": weight for name, weight in weights.items()},
    "compiled, then parallel": lambda weights: {f"module._orig_mod.{name}": weight for name, weight in weights.items()},
    "parallel, then compiled": lambda weights: {f"_orig_mod.module.{name}": weight for name, weight in weights.items()},
    "parameters": lambda weights: {name: torch.nn.Parameter(weight) for name, weight in weights.items()},
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old layout"])
@pytest.mark.parametrize("shape", SHAPES_OF_FILES)
def test_weights_are_found_where_scripts_put_them_and_by_whatever_prefix(shape: str, old: bool, tmp_path: Path) -> None:
    weights = random_poseformer().state_dict()
    path = save(SHAPES_OF_FILES[shape](dict(weights)), tmp_path / "a.bin", old=old)
    model, _ = load_checkpoint(import_file(path), device=CPU)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_come_in_as_the_same_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    halved = {name: weight.to(dtype) for name, weight in random_poseformer().state_dict().items()}
    model, _ = load_checkpoint(import_file(save(halved, tmp_path / "a.bin")), device=CPU)
    for name, weight in model.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, halved[name].float())


# What does not fit.


def save_changed(change: Callable[[dict[str, Any]], object], path: Path) -> Path:
    """Returns a file whose weights `change` has changed."""
    weights = dict(random_poseformer().state_dict())
    change(weights)
    return save({"model_pos": weights}, path / "a.bin")


def test_all_differences_are_listed_in_one_line(tmp_path: Path) -> None:
    def change(weights: dict[str, Any]) -> None:
        del weights["Temporal_norm.bias"], weights["head.0.weight"]
        weights["extra.\x1b[2Jweight"] = torch.zeros(1)
        weights["weighted_mean.weight"] = torch.zeros(1, 8, 1)

    assert refusal(save_changed(change, tmp_path)) == (
        "a.bin: expected the 62 tensors of a PoseFormer, found 2 missing: Temporal_norm.bias, head.0.weight; "
        r"1 unknown: extra.\x1b[2Jweight; 1 of another shape: weighted_mean.weight (1, 8, 1) for (1, 9, 1)"
    )


def test_a_prefix_on_some_names_only_is_a_difference(tmp_path: Path) -> None:
    message = refusal(save_changed(lambda w: w.update({"module.head.0.bias": w.pop("head.0.bias")}), tmp_path))
    assert message.endswith("1 missing: head.0.bias; 1 unknown: module.head.0.bias")


def test_a_long_list_of_differences_is_cut(tmp_path: Path) -> None:
    message = refusal(save_changed(lambda w: w.update({f"x{n}": torch.zeros(1) for n in range(9)}), tmp_path))
    assert message.endswith("found 9 unknown: x0, x1, x2, x3, x4, x5 and 3 more")


def test_a_block_of_an_absurd_number_is_a_difference(tmp_path: Path) -> None:
    message = refusal(save_changed(lambda w: w.update({"blocks.999999999.norm1.weight": torch.zeros(136)}), tmp_path))
    assert "1 unknown: blocks.999999999.norm1.weight" in message


@pytest.mark.parametrize(
    ("name", "model", "repository"),
    [
        ("expand_conv.weight", "VideoPose3D", "facebookresearch/VideoPose3D"),
        ("Freq_embedding.weight", "PoseFormerV2", "QitaoZhao/PoseFormerV2"),
        ("STEblocks.0.norm1.weight", "MixSTE, or a model built on it,", "JinluZhang1126/MixSTE"),
        ("blocks_st.0.norm1_s.weight", "MotionBERT", "Walter0807/MotionBERT"),
        ("backbone.expand_conv.weight", "network of MMPose, or one like it,", "open-mmlab/mmpose"),
    ],
)
def test_weights_of_another_model_are_called_by_its_name(
    name: str, model: str, repository: str, tmp_path: Path
) -> None:
    # Some of them have a PoseFormer's first tensors too.
    names = (name, "Spatial_patch_to_embedding.weight")
    path = save({"model_pos": {f"module.{name}": torch.zeros(3) for name in names}}, tmp_path / "a.bin")
    assert refusal(path) == (
        f"a.bin: expected a PoseFormer or a MotionAGFormer, found a {model} by the name of {name}; "
        f"the code of its authors reads it: github.com/{repository}"
    )


def test_weights_of_an_unknown_model_are_shown(tmp_path: Path) -> None:
    path = save({"model_pos": {"fc.weight": torch.zeros(3), "fc.bias": torch.zeros(1)}}, tmp_path / "a.bin")
    assert refusal(path) == (
        "a.bin: expected a PoseFormer (Spatial_patch_to_embedding.weight) or a MotionAGFormer (joints_embed.weight), "
        "found fc.weight, fc.bias"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(Spatial_pos_embed=torch.zeros(17, 8)), r"tensor Spatial_pos_embed, found shape \(17, 8\)$"),
        (
            lambda w: w.update({"head.1.bias": w["head.1.bias"].double()}),
            "tensor head.1.bias: expected float32, float16 or bfloat16, found torch.float64; ",
        ),
        (lambda w: w["head.1.bias"].fill_(torch.nan), "tensor head.1.bias: expected finite numbers, found NaN"),
        (lambda w: w.update(Temporal_pos_embed=torch.zeros(1, 8, 136)), "expected an odd positive number of frames"),
        (lambda w: w.update(x=3), r"model_pos: expected tensors by name, found 'x' \(int\)$"),
        (lambda w: w.update({3: torch.zeros(1)}), r"model_pos: expected tensors by name, found 3 \(a tensor of"),
        (lambda w: w.clear(), r"found 'model_pos' \(a dict of 0\)$"),
        (
            lambda w: w.update({"Spatial_patch_to_embedding.weight": torch.zeros(0, 2)}),
            r"tensor Spatial_patch_to_embedding.weight, found shape \(0, 2\)$",
        ),
        (
            lambda w: w.update({"Spatial_patch_to_embedding.weight": torch.zeros(8, 4)}),
            "expected 2 or 3 channels, found 4",
        ),
    ],
)
def test_tensors_that_cannot_be_used_are_named(change: Any, message: str, tmp_path: Path) -> None:
    assert re.search(message, refusal(save_changed(change, tmp_path)))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"epoch": 3, "net": {"a": 1}}, "'epoch' (int), 'net' (a dict of 1)"),
        ({"a": torch.zeros(2), "epoch": 3}, "'a' (a tensor of shape (2,)), 'epoch' (int)"),
        ({"model": {"a": 1}, "state_dict": {"a": 1}}, "'model' (a dict of 1), 'state_dict' (a dict of 1)"),
        ({}, "an empty dict"),
        ([1], "a value of type list"),
        (None, "a value of type NoneType"),
    ],
)
def test_a_file_without_weights_is_refused_with_what_it_holds(content: object, found: str, tmp_path: Path) -> None:
    assert refusal(save(content, tmp_path / "a.bin")) == (
        "a.bin: expected the weights by name, as a whole or as one of 'model_pos', 'state_dict', 'model', "
        f"'model_state_dict', found {found}"
    )


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"dataset": "h3.6m"}, r"^dataset: expected one of mocap, h36m, humaneva, mpi_inf_3dhp, found 'h3\.6m'$"),
        ({"keypoints": "CPN"}, "expected <dataset>-<keypoints>-f<frames>-<model>"),
        ({"in_skeleton": "coco"}, "^in-skeleton: expected one of h36m17, coco17, .*, found 'coco'$"),
        ({"out_skeleton": "coco"}, "^out-skeleton: expected one of h36m17, coco17, .*, found 'coco'$"),
        ({"in_skeleton": "humaneva15"}, r"a\.bin: in joints: expected 15 as in layout humaneva15, found 17$"),
        ({"out_skeleton": "humaneva15"}, r"a\.bin: out joints: expected 15 as in layout humaneva15, found 17$"),
        ({"heads": 3}, r"a\.bin: models\.poseformer: expected a number of heads that divides the width 8, found 3$"),
    ],
)
def test_what_is_stated_must_be_known_and_go_with_the_tensors(stated: Any, message: str, tmp_path: Path) -> None:
    assert re.search(message, refusal(save_changed(lambda w: None, tmp_path), **stated))


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="imported: expected a new folder, found one that exists"):
        import_file(save_changed(lambda w: None, tmp_path))
    assert (tmp_path / "imported" / "thesis.txt").read_text() == "mine"


# What is damaged.


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old layout"])
@pytest.mark.parametrize("kept", [0, 3, 14, 20, 300, 0.2, 0.5, 0.9, 0.999, -1])
def test_a_truncated_file_is_refused(kept: float, old: bool, tmp_path: Path) -> None:
    path = save(upstream_content(random_poseformer()), tmp_path / "a.bin", old=old)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert refusal(path).startswith("a.bin: ")


def test_a_changed_byte_in_the_numbers_is_found(tmp_path: Path) -> None:
    original = random_poseformer()
    path = save(upstream_content(original), tmp_path / "a.bin")
    numbers = original.state_dict()["head.1.bias"].numpy().tobytes()
    content = path.read_bytes()
    assert content.count(numbers) == 1
    path.write_bytes(content.replace(numbers, b"\1" + numbers[1:]))
    assert "found BadZipFile: a wrong checksum of " in refusal(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.bin") == "none.bin: expected a whole file of torch.save, found no such file"
    (tmp_path / "a.bin").write_text("<html>404</html>")
    assert refusal(tmp_path / "a.bin") == "a.bin: expected a whole file of torch.save, found Unsupported operand 60"
    path = write_zip(tmp_path / "b.bin", {"a/b.npy": b""})
    assert refusal(path).startswith("b.bin: expected a whole file of torch.save, found RuntimeError")


# What is hostile.


def live_payloads(marker: Path) -> dict[str, Any]:
    """Returns objects that make the file `marker` when they are unpickled without care."""
    write = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Calls(os.system, f"touch '{marker}'"),
        "eval": Calls(eval, write),
        "exec": Calls(exec, write),
        "a class": Calls(type(marker).touch, marker),
        "in an array": np.array([Calls(os.system, f"touch '{marker}'")], dtype=object),
        "as a state": Calls(OrderedDict, state={"x": Calls(os.system, f"touch '{marker}'")}),
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old layout"])
@pytest.mark.parametrize("name", live_payloads(Path("x")))
def test_what_a_file_asks_to_run_is_not_run_but_named(name: str, old: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    content = upstream_content(random_poseformer(), steps=0) | {"extra": live_payloads(marker)[name]}
    path = save(content, tmp_path / "a.bin", old=old)
    message = refusal(path)
    assert re.fullmatch(r"a.bin: expected a whole file of torch.save, found a call of '[a-z_.]+'", message), message
    assert not marker.exists()
    torch.load(path, weights_only=False)  # The payload is a live one: read without care it runs.
    assert marker.exists()


@pytest.mark.parametrize("name", ["torch.load", "torch.hub.load", "numpy.random._pickle.__x", "numpy.load"])
def test_other_functions_of_torch_and_numpy_are_not_admitted(name: str, tmp_path: Path) -> None:
    module, _, function = name.rpartition(".")
    payload = f"\x80\x02c{module}\n{function}\n)R.".encode("latin1")
    path = write_zip(tmp_path / "a.bin", {"a/data.pkl": payload, "a/byteorder": b"little", "a/version": b"3\n"})
    assert refusal(path).endswith(f"found a call of '{name}'")


@pytest.mark.parametrize(
    "described",
    [
        tensor((2, 2), (2, 1), count=2**60),
        tensor((2, 2), (2, 1), count=4, key="../data.pkl"),
        tensor((2, 2), (2, 1), count=4, offset=1),
        tensor((2, -2), (2, 1), count=4),
        tensor((10**6, 10**6), (0, 0), count=4),
        Calls(torch._utils._rebuild_tensor_v2),
        Reference("storage", os.system, "0", "cpu", 4),
        Calls(torch.FloatStorage, 10**12),
    ],
)
def test_absurd_tensors_are_refused(described: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMORY_BYTES", 512 << 20)
    content = {"model_pos": {"Spatial_patch_to_embedding.weight": described}}
    members = {"a/data.pkl": pickled(content), "a/data/0": bytes(16), "a/byteorder": b"little", "a/version": b"3\n"}
    message = refusal(write_zip(tmp_path / "a.bin", members))
    assert re.match("a.bin: expected (a whole file of torch.save, found|to be read in 512 MiB of memory)", message)


def test_other_files_of_weights_are_named_with_the_way_from_them(tmp_path: Path) -> None:
    save_file(random_poseformer().state_dict(), tmp_path / "a.bin")
    assert refusal(tmp_path / "a.bin") == (
        "a.bin: expected a whole file of torch.save, found a safetensors file; make one of it with "
        "torch.save(safetensors.torch.load_file(PATH), NEW)"
    )
    path = write_zip(tmp_path / "b.bin", {"b/data.pkl": pickled({}), "b/constants.pkl": b"", "b/code/x.py": b""})
    assert refusal(path) == (
        "b.bin: expected a whole file of torch.save, found a TorchScript program; where you trust it: "
        "torch.save(torch.jit.load(PATH).state_dict(), NEW)"
    )


def test_a_whole_model_is_refused_with_the_way_to_its_weights(tmp_path: Path) -> None:
    path = save({"model_pos": torch.nn.DataParallel(random_poseformer())}, tmp_path / "a.bin")
    assert refusal(path) == (
        "a.bin: expected a whole file of torch.save, found a call of 'torch.nn.parallel.data_parallel.DataParallel'; "
        "save the model's state_dict() alone, with the code that made this file and where you trust it"
    )


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    members = {"a/data.pkl": pickled({}), "a/data/0": bytes(50_000_000)}
    path = write_zip(tmp_path / "a.bin", members, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert refusal(path).endswith("found BadZipFile: compressed content, which torch does not write")
