"""Public checkpoints come in with the weights they have, or not at all; nothing in them is executed."""

from __future__ import annotations

import os
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.checkpoints import torch_file
from pipeline.checkpoints.import_poseformer import import_checkpoint
from pipeline.poses.checkpoint import load_checkpoint, read_card
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


def imported(path: Path, **changes: Any) -> Path:
    """The checkpoint folder made from `path`."""
    out = path.with_name("imported")
    import_checkpoint(path, out, **{**STATED, **changes})
    return out


def refused(path: Path, **changes: Any) -> str:
    """Why the import of `path` is refused: one line that names the file, and nothing is left behind."""
    before = set(path.parent.iterdir())
    with pytest.raises(UserError) as caught:
        imported(path, **changes)
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
    model, card = load_checkpoint(imported(path), device=CPU)
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
    model, _ = load_checkpoint(imported(path, heads=8), device=CPU)
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
    folder = imported(path, heads=4, dataset="humaneva", in_skeleton="coco17", out_skeleton="humaneva15")
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
    assert read_card(imported(save(content, tmp_path / "a.bin"))).epoch == 43


def test_a_file_without_an_epoch_has_a_card_without_one(tmp_path: Path) -> None:
    path = save({"model_pos": random_poseformer().state_dict()}, tmp_path / "a.bin")
    assert read_card(imported(path)).epoch is None


@pytest.mark.parametrize("epoch", ["forty", 3.0, None, True])
def test_an_epoch_that_is_no_count_is_not_taken(epoch: object, tmp_path: Path) -> None:
    path = save({"model_pos": random_poseformer().state_dict(), "epoch": epoch}, tmp_path / "a.bin")
    assert read_card(imported(path)).epoch is None


def test_tensors_that_share_a_storage_each_get_their_own_part(tmp_path: Path) -> None:
    weights = random_poseformer().state_dict()
    flat = torch.cat([weight.flatten() for weight in weights.values()])
    parts = flat.split([weight.numel() for weight in weights.values()])
    views = {name: part.view(weights[name].shape) for name, part in zip(weights, parts, strict=True)}
    model, _ = load_checkpoint(imported(save({"model_pos": views}, tmp_path / "a.bin")), device=CPU)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


# What does not fit.


def changed(change: Callable[[dict[str, Any]], object], path: Path) -> Path:
    """A file whose weights `change` has changed."""
    weights = dict(random_poseformer().state_dict())
    change(weights)
    return save({"model_pos": weights}, path / "a.bin")


def test_all_differences_are_listed_in_one_line(tmp_path: Path) -> None:
    def change(weights: dict[str, Any]) -> None:
        del weights["Temporal_norm.bias"], weights["head.0.weight"]
        weights["extra.\x1b[2Jweight"] = torch.zeros(1)
        weights["weighted_mean.weight"] = torch.zeros(1, 8, 1)

    assert refused(changed(change, tmp_path)) == (
        "a.bin: expected the 62 tensors of a PoseFormer, found 2 missing: Temporal_norm.bias, head.0.weight; "
        r"1 unknown: extra.\x1b[2Jweight; 1 of another shape: weighted_mean.weight (1, 8, 1) for (1, 9, 1)"
    )


def test_a_prefix_on_some_names_only_is_a_difference(tmp_path: Path) -> None:
    message = refused(changed(lambda w: w.update({"module.head.0.bias": w.pop("head.0.bias")}), tmp_path))
    assert message.endswith("1 missing: head.0.bias; 1 unknown: module.head.0.bias")


def test_a_long_list_of_differences_is_cut(tmp_path: Path) -> None:
    message = refused(changed(lambda w: w.update({f"x{n}": torch.zeros(1) for n in range(9)}), tmp_path))
    assert message.endswith("found 9 unknown: x0, x1, x2, x3, x4, x5 and 3 more")


def test_a_block_of_an_absurd_number_is_a_difference(tmp_path: Path) -> None:
    message = refused(changed(lambda w: w.update({"blocks.999999999.norm1.weight": torch.zeros(136)}), tmp_path))
    assert "1 unknown: blocks.999999999.norm1.weight" in message


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("expand_conv.weight", "VideoPose3D"),
        ("Freq_embedding.weight", "PoseFormerV2"),
        ("STEblocks.0.norm1.weight", "MixSTE"),
    ],
)
def test_weights_of_another_model_are_called_by_its_name(name: str, model: str, tmp_path: Path) -> None:
    path = save({"model_pos": {f"module.{name}": torch.zeros(3), "module.x": torch.zeros(1)}}, tmp_path / "a.bin")
    assert refused(path) == (
        "a.bin: expected a PoseFormer with the tensor Spatial_patch_to_embedding.weight, found none "
        f"(but {name}: this is a {model})"
    )


def test_weights_of_an_unknown_model_are_shown(tmp_path: Path) -> None:
    path = save({"model_pos": {"fc.weight": torch.zeros(3), "fc.bias": torch.zeros(1)}}, tmp_path / "a.bin")
    assert refused(path).endswith("found none; the file has fc.weight, fc.bias")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(Spatial_pos_embed=torch.zeros(17, 8)), r"tensor Spatial_pos_embed, found shape \(17, 8\);"),
        (lambda w: w.update({"head.1.bias": w["head.1.bias"].double()}), "tensor head.1.bias: expected float32, found"),
        (lambda w: w["head.1.bias"].fill_(torch.nan), "tensor head.1.bias: expected finite numbers, found NaN"),
        (lambda w: w.update(Temporal_pos_embed=torch.zeros(1, 8, 136)), "expected an odd positive number of frames"),
        (
            lambda w: w.update({"head.1.weight": torch.zeros(136, 51).t()}),
            "tensor head.1.weight: expected its numbers in order in its storage, found a view",
        ),
        (lambda w: w.update(x=3), "model_pos: expected tensors by name, found int"),
        (lambda w: w.update({3: torch.zeros(1)}), "model_pos: expected tensors by name"),
        (lambda w: w.clear(), "expected a dict with the weights as 'model_pos', found none"),
        (
            lambda w: w.update({"Spatial_patch_to_embedding.weight": torch.zeros(0, 2)}),
            r"tensor Spatial_patch_to_embedding.weight, found shape \(0, 2\);",
        ),
        (
            lambda w: w.update({"Spatial_patch_to_embedding.weight": torch.zeros(8, 4)}),
            "expected 2 or 3 channels, found 4",
        ),
    ],
)
def test_tensors_that_cannot_be_used_are_named(change: Any, message: str, tmp_path: Path) -> None:
    assert re.search(message, refused(changed(change, tmp_path)))


@pytest.mark.parametrize("content", [{"epoch": 3}, [1], {"model_pos": [1]}, None])
def test_a_file_without_weights_is_refused(content: object, tmp_path: Path) -> None:
    message = refused(save(content, tmp_path / "a.bin"))
    assert message == "a.bin: expected a dict with the weights as 'model_pos', found none"


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"dataset": "h3.6m"}, r"^dataset: expected one of cmu, h36m, humaneva, mpi_inf_3dhp, found 'h3\.6m'$"),
        ({"keypoints": "CPN"}, "expected <dataset>-<keypoints>-f<frames>-<model>"),
        ({"in_skeleton": "coco"}, "^in-skeleton: expected one of h36m17, coco17, .*, found 'coco'$"),
        ({"out_skeleton": "coco"}, "^out-skeleton: expected one of h36m17, coco17, .*, found 'coco'$"),
        ({"in_skeleton": "humaneva15"}, r"a\.bin: in joints: expected 15 as in layout humaneva15, found 17$"),
        ({"out_skeleton": "humaneva15"}, r"a\.bin: out joints: expected 15 as in layout humaneva15, found 17$"),
        ({"heads": 3}, r"a\.bin: models\.poseformer: expected a number of heads that divides the width 8, found 3$"),
    ],
)
def test_what_is_stated_must_be_known_and_go_with_the_tensors(stated: Any, message: str, tmp_path: Path) -> None:
    assert re.search(message, refused(changed(lambda w: None, tmp_path), **stated))


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="imported: expected a new folder, found one that exists"):
        imported(changed(lambda w: None, tmp_path))
    assert (tmp_path / "imported" / "thesis.txt").read_text() == "mine"


# What is damaged.


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old layout"])
@pytest.mark.parametrize("kept", [0, 3, 14, 20, 300, 0.2, 0.5, 0.9, 0.999, -1])
def test_a_truncated_file_is_refused(kept: float, old: bool, tmp_path: Path) -> None:
    path = save(upstream_content(random_poseformer()), tmp_path / "a.bin", old=old)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert refused(path).startswith("a.bin: ")


def test_a_changed_byte_in_the_numbers_is_found(tmp_path: Path) -> None:
    original = random_poseformer()
    path = save(upstream_content(original), tmp_path / "a.bin")
    numbers = original.state_dict()["head.1.bias"].numpy().tobytes()
    content = path.read_bytes()
    assert content.count(numbers) == 1
    path.write_bytes(content.replace(numbers, b"\1" + numbers[1:]))
    assert "Bad CRC-32" in refused(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.bin") == "none.bin: expected a file of torch.save, found no such file"
    (tmp_path / "a.bin").write_text("<html>404</html>")
    assert refused(tmp_path / "a.bin") == "a.bin: expected a file of torch.save, found other content"
    (tmp_path / "folder.bin").mkdir()
    assert "folder.bin: expected a whole file of torch.save, found IsADirectoryError" in refused(
        tmp_path / "folder.bin"
    )
    path = write_zip(tmp_path / "b.bin", {"a/b.npy": b""})
    assert refused(path) == "b.bin: expected data.pkl in the archive's one folder, found 0 such files"


# What is hostile.


def live_payloads(marker: Path) -> dict[str, Any]:
    """Objects that make the file `marker` when they are unpickled without care."""
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
def test_what_a_file_asks_to_run_is_not_run(name: str, old: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    content = upstream_content(random_poseformer(), steps=0) | {"extra": live_payloads(marker)[name]}
    path = save(content, tmp_path / "a.bin", old=old)
    message = refused(path)
    assert re.search("expected arrays, dicts, lists, numbers and strings, found a call of '[a-z_]+", message), message
    assert not marker.exists()
    torch.load(path, weights_only=False)  # The payload is a live one: read without care it runs.
    assert marker.exists()


@pytest.mark.parametrize("name", ["torch.load", "torch._utils._rebuild_parameter", "numpy.random._pickle.__x"])
def test_other_functions_of_torch_and_numpy_are_not_admitted(name: str, tmp_path: Path) -> None:
    module, _, function = name.rpartition(".")
    payload = f"\x80\x02c{module}\n{function}\n)R.".encode("latin1")
    path = write_zip(tmp_path / "a.bin", {"a/data.pkl": payload})
    assert refused(path).endswith(f"found a call of '{name}'")


def by_hand(path: Path, described: Calls, *, numbers: int = 4, key: str = "0", **more: bytes) -> Path:
    """An archive with one tensor that is described by hand, under the name of the first that is looked at."""
    content = {"model_pos": {"Spatial_patch_to_embedding.weight": described}}
    members = {"a/data.pkl": pickled(content), f"a/data/{key}": bytes(4 * numbers)}
    return write_zip(path / "a.bin", members | {f"a/{name}": content for name, content in more.items()})


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (tensor((2, 2), (2, 1), count=2**60), f"storage '0': expected {2**62} bytes, found 16 bytes"),
        (tensor((2, 2), (2, 1), count=3), "storage '0': expected 12 bytes, found 16 bytes"),
        (tensor((2, 2), (2, 1), count=4, key="1"), "storage '1': expected 16 bytes, found none"),
        (tensor((2, 2), (2, 1), count=4, key="../data.pkl"), "storage '../data.pkl': expected 16 bytes, found none"),
        (tensor((2, 2), (2, 1), count=-1), "expected references to storages of numbers, found another"),
        (tensor((2, -2), (2, 1), count=4), "expected a tensor's storage, offset, shape and strides"),
        (tensor((2, 2), (2,), count=4), "expected one stride for each of at most 8 axes, found 2 and 1"),
        (tensor((1,) * 9, (1,) * 9, count=4), "expected one stride for each of at most 8 axes, found 9 and 9"),
        (tensor(4, 1, count=4), "expected a tensor's storage, offset, shape and strides"),
        (Calls(torch._utils._rebuild_tensor_v2, 0, 0, (1,), (1,)), "expected a tensor's storage, offset, shape"),
        (Calls(torch._utils._rebuild_tensor_v2), "expected a whole pickle, found TypeError"),
        (Reference("module", "x"), "expected references to storages of numbers, found another"),
        (Reference("storage", os.system, "0", "cpu", 4), "found a call of 'posix.system'"),
        (Calls(torch.FloatStorage, 10**12), "expected 'torch.FloatStorage' as a name alone, found a call of it"),
        (Calls(OrderedDict, [["a", 1]]), "expected a whole pickle, found TypeError"),
    ],
)
def test_absurd_tensors_are_refused_before_memory_is_taken(described: Calls, message: str, tmp_path: Path) -> None:
    assert message in refused(by_hand(tmp_path, described))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (tensor((10**6, 10**6), (0, 0), count=4), f"expected tensors of at most the file's own .* {4 * 10**12}$"),
        (tensor((2, 2), (2, 1), count=4, offset=1), "tensor x: expected its numbers in order in its storage"),
        (tensor((2, 2), (1, 2), count=4), "tensor x: expected its numbers in order in its storage"),
        (tensor((2, 3), (3, 1), count=4), "tensor x: expected its numbers in order in its storage"),
    ],
)
def test_tensors_beyond_their_storage_are_refused(described: Calls, message: str, tmp_path: Path) -> None:
    path = by_hand(tmp_path, described)
    with pytest.raises(UserError, match=message):
        torch_file.read_torch_file(path, lambda content: {"x": next(iter(content["model_pos"].values()))})


def test_one_storage_with_two_lengths_is_refused(tmp_path: Path) -> None:
    two = [tensor((1,), (1,), count=4), tensor((1,), (1,), count=5)]
    path = write_zip(tmp_path / "a.bin", {"a/data.pkl": pickled(two), "a/data/0": bytes(16)})
    assert "expected one type and length of storage '0', found two" in refused(path)


@pytest.mark.parametrize(
    "name", ["a/../../evil", "/etc/evil", "../evil", "a\\..\\evil", "C:/evil", "a//evil", "./evil"]
)
def test_names_that_lead_out_of_the_archive_are_refused(name: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.bin", {"a/data.pkl": pickled({}), name: b""})
    assert refused(path).startswith("a.bin: expected names such as archive/data/0 in the archive, found '")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    members = {"a/data.pkl": pickled({}), "a/data/0": bytes(50_000_000)}
    path = write_zip(tmp_path / "a.bin", members, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert refused(path).endswith("expected uncompressed content, as torch.save writes it, found other")


def test_compression_that_gains_nothing_is_refused_too(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.bin", {"a/data.pkl": pickled({})})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 10] = zipfile.ZIP_DEFLATED
    path.write_bytes(content)
    assert refused(path).endswith("expected uncompressed content, as torch.save writes it, found other")


def test_files_that_overlap_in_the_archive_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.bin", {"a/data.pkl": pickled({}), "a/data/0": bytes(1000), "a/data/1": b""})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # of data/1 in the table of contents: let it be as long as the other
    content[entry + 20 : entry + 28] = struct.pack("<II", 1000, 1000)
    path.write_bytes(content)
    assert re.search("expected at most the archive's own [0-9]+ bytes in it, found [0-9]+$", refused(path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_in_the_archive_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.bin", {"a/data.pkl": pickled({})})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/data.pkl", pickled([]))
    assert refused(path) == "a.bin: expected files of different names in the archive, found one twice"


def test_two_folders_with_data_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.bin", {"a/data.pkl": pickled({}), "b/data.pkl": pickled({})})
    assert refused(path).endswith("found 2 such files")


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("MAX_FILE_BYTES", "a.bin: expected at most 2 bytes, found "),
        ("MAX_PICKLE_BYTES", "a.bin: data.pkl: expected at most 2 bytes, found "),
        ("MAX_MEMBERS", "a.bin: expected at most 2 files in the archive, found "),
    ],
)
def test_sizes_have_bounds(limit: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(upstream_content(random_poseformer()), tmp_path / "a.bin")
    monkeypatch.setattr(torch_file, limit, 2)
    assert refused(path).startswith(message)


def test_the_number_of_tensors_has_a_bound(tmp_path: Path) -> None:
    path = changed(lambda w: w.update({f"x{n}": w["head.1.bias"] for n in range(2000)}), tmp_path)
    assert refused(path) == "a.bin: model_pos: expected at most 2000 tensors, found 2062"


def test_numbers_of_the_other_byte_order_are_refused(tmp_path: Path) -> None:
    path = by_hand(tmp_path, tensor((2, 2), (2, 1), count=4), byteorder=b"big")
    assert refused(path) == "a.bin: byteorder: expected little, found another"


def old_layout(path: Path, *, version: object = 1001, system: object = None, keys: object = ("0",), count: int = 4):
    """A file of the layout before torch 1.6 by hand."""
    content = {"model_pos": {"Spatial_patch_to_embedding.weight": tensor((2, 2), (2, 1), count=4)}}
    parts = [version, system or {"little_endian": True}, content, list(keys) if isinstance(keys, tuple) else keys]
    pickles = b"".join(pickled(part) for part in parts)
    path = path / "a.bin"
    path.write_bytes(torch_file.OLD_MAGIC + pickles + struct.pack("<q", count) + bytes(16))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"expected a PoseFormer with the tensor Spatial_pos_embed, found none"),
        ({"version": 1000}, "a.bin: version: expected 1001, found another"),
        ({"system": {"little_endian": False}}, "a.bin: system: expected little_endian True"),
        ({"system": [1]}, "a.bin: system: expected little_endian True"),
        ({"keys": ("0", "0")}, "a.bin: keys: expected the 1 storages of the content once each, found others"),
        ({"keys": ("1",)}, "a.bin: keys: expected the 1 storages of the content once each, found others"),
        ({"keys": ()}, "a.bin: keys: expected the 1 storages of the content once each, found others"),
        ({"keys": 3}, "a.bin: keys: expected the 1 storages of the content once each, found others"),
        ({"count": 2**60}, "a.bin: storage '0': expected 4 numbers, found another count or the file's end"),
        ({"count": -1}, "a.bin: storage '0': expected 4 numbers, found another count or the file's end"),
    ],
)
def test_a_damaged_file_of_the_old_layout_is_refused(changes: Any, message: str, tmp_path: Path) -> None:
    assert message in refused(old_layout(tmp_path, **changes))


def test_numbers_that_end_early_in_the_old_layout_are_refused(tmp_path: Path) -> None:
    path = old_layout(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(path) == "a.bin: storage '0': expected 4 numbers, found another count or the file's end"


def test_the_magic_of_the_old_layout_is_that_of_torch(tmp_path: Path) -> None:
    path = save({"model_pos": random_poseformer().state_dict()}, tmp_path / "a.bin", old=True)
    assert path.read_bytes().startswith(torch_file.OLD_MAGIC)
