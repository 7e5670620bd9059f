"""MotionAGFormer's public files come in with the weights they have, and a card that says what goes in and comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.motionagformer import MotionAGFormer
from pipeline.checkpoints.import_checkpoint import Description, import_checkpoint
from pipeline.poses.checkpoint import load_checkpoint, read_card
from pipeline.system.errors import UserError
from tests.fixtures.motionagformer_file import (
    published_content,
    wave_motionagformer,
    wave_screen,
)
from tests.fixtures.poseformer_bin import save

torch.set_num_threads(1)
NAME = "motionagformer-xs-h36m.pth.tr"


def small_motionagformer() -> MotionAGFormer:
    torch.manual_seed(3)
    model = MotionAGFormer(frames=9, in_joints=17, out_joints=17, in_channels=3, width=16, depth=2, heads=2).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


def import_file(path: Path, **changes: Any) -> Path:
    out = path.with_name("imported")
    import_checkpoint(path, out, Description(**{"dataset": "h36m", "keypoints": "sh_ft_h36m", "heads": 2, **changes}))
    return out


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old layout"])
def test_the_imported_model_computes_what_the_original_does_bit_for_bit(old: bool, tmp_path: Path) -> None:
    original = small_motionagformer()
    path = save(published_content(original), tmp_path / NAME, old=old)
    model, _ = load_checkpoint(import_file(path), device=torch.device("cpu"))
    screen = torch.rand(3, 9, 17, 3) - 0.5
    with torch.no_grad():
        assert torch.equal(model(screen), original(screen))


def test_numbers_of_the_authors_code_come_through_a_file(tmp_path: Path) -> None:
    path = save(published_content(wave_motionagformer("XS", frames=9).float(), steps=0), tmp_path / NAME)
    model, card = load_checkpoint(import_file(path, heads=8), device=torch.device("cpu"))
    assert card.hyperparameters == {"width": 64, "depth": 12, "heads": 8, "mlp_ratio": 4.0}
    with torch.no_grad():
        pose = model(wave_screen(batch=2, frames=9).float())
    assert pose.sum().item() == pytest.approx(177.63454414, abs=1e-3)
    assert pose[0, 0, 0].tolist() == pytest.approx((-0.15941565, 0.46064821, 0.49351934), abs=1e-5)
    assert pose[1, -1, -1].tolist() == pytest.approx((-0.38254491, 0.64835097, 0.53757969), abs=1e-5)


def test_the_card_says_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    card = read_card(import_file(save(published_content(small_motionagformer()), tmp_path / NAME)))
    assert (card.row, card.epoch, card.frames) == ("h36m-sh_ft_h36m-f9-motionagformer", 58, 9)
    assert (card.in_skeleton, card.out_skeleton, card.in_channels, card.rate_hz) == ("h36m17", "h36m17", 3, 50)
    assert (card.focal, card.output_unit) == (None, "half_image_widths")
    assert card.imported_from is not None
    assert card.imported_from.convention == (
        "in: h36m17 at x / width * 2 - 1 and y / width * 2 - height / width of the pixels, with the confidence from 0 "
        "to 1 as third channel; out: half image widths relative to the root, the depth in the image's scale at the root"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("layers.1.fusion.bias"), "141 tensors of a MotionAGFormer, found 1 missing: layers.1.fusion."),
        (lambda w: w.update({"layers.0.mlp.x": torch.zeros(1)}), "found 1 unknown: layers.0.mlp.x$"),
        (lambda w: w.pop("pos_embed"), "expected a MotionAGFormer with the tensor pos_embed, found none; the file has"),
        (lambda w: w.update({"layers.0.graph_temporal.mixer.batch_norm.weight": torch.ones(8)}), "odd positive number"),
        (lambda w: w.update({"layers.0.fusion.bias": torch.tensor([1, 2])}), "expected float32, .* found torch.int64"),
    ],
)
def test_weights_that_are_not_all_of_a_motionagformer_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    weights = {
        name.removeprefix("module."): w for name, w in published_content(small_motionagformer())["model"].items()
    }
    change(weights)
    with pytest.raises(UserError, match=message):
        import_file(save({"model": weights}, tmp_path / NAME))


@pytest.mark.parametrize("stated", [{"dataset": "mpi_inf_3dhp"}, {"in_skeleton": "mpi_inf_3dhp17"}])
def test_weights_trained_on_another_dataset_are_refused_as_their_order_and_unit_are_others(
    stated: dict[str, str], tmp_path: Path
) -> None:
    path = save(published_content(small_motionagformer()), tmp_path / NAME)
    with pytest.raises(UserError, match=r"expected dataset h36m and layouts h36m17, which alone are known .* found "):
        import_file(path, **stated)
    assert not path.with_name("imported").exists()
