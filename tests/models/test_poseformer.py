"""PoseFormer computes what the authors' code computes, under the authors' tensor names."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from torch import Tensor

from models.layers import DropPath
from models.poseformer import PoseFormer

NORM_WEIGHTS = ("norm1.weight", "norm2.weight", "Spatial_norm.weight", "Temporal_norm.weight", "head.0.weight")


def authors_shapes(frames: int, joints: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor in a public checkpoint."""
    wide = 32 * joints
    shapes: dict[str, tuple[int, ...]] = {
        "Spatial_pos_embed": (1, joints, 32),
        "Temporal_pos_embed": (1, frames, wide),
        "Spatial_patch_to_embedding.weight": (32, 2),
        "Spatial_patch_to_embedding.bias": (32,),
        "weighted_mean.weight": (1, frames, 1),
        "weighted_mean.bias": (1,),
        "head.1.weight": (joints * 3, wide),
        "head.1.bias": (joints * 3,),
    }
    norms = {"Spatial_norm": 32, "Temporal_norm": wide, "head.0": wide}
    for stack, width in (("Spatial_blocks", 32), ("blocks", wide)):
        for block in (f"{stack}.{index}" for index in range(4)):
            norms |= {f"{block}.norm1": width, f"{block}.norm2": width}
            for layer, rows, columns in (
                ("attn.qkv", 3 * width, width),
                ("attn.proj", width, width),
                ("mlp.fc1", 2 * width, width),
                ("mlp.fc2", width, 2 * width),
            ):
                shapes |= {f"{block}.{layer}.weight": (rows, columns), f"{block}.{layer}.bias": (rows,)}
    for norm, width in norms.items():
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return shapes


def wave_weights(frames: int, joints: int) -> dict[str, Tensor]:
    """Weights in closed form: a sine over all values of each tensor, with a phase that grows from name to name."""
    weights = {}
    for phase, (name, shape) in enumerate(sorted(authors_shapes(frames, joints).items())):
        count = torch.Size(shape).numel()
        wave = 0.02 * torch.sin(0.1 * torch.arange(count, dtype=torch.float64) + 0.01 * phase)
        weights[name] = wave.reshape(shape) + float(name.endswith(NORM_WEIGHTS))
    return weights


def small_poseformer(**sizes: int) -> PoseFormer:
    """A small float64 model in evaluation, its positional embeddings not zero."""
    torch.manual_seed(0)
    defaults = {"frames": 9, "in_joints": 5, "out_joints": 4, "in_channels": 2}
    model = PoseFormer(**{**defaults, **sizes}, embed_dim_ratio=8, depth=2, heads=2).double().eval()
    torch.nn.init.normal_(model.Spatial_pos_embed)
    torch.nn.init.normal_(model.Temporal_pos_embed)
    return model


# Computed by the authors' code (github.com/zczcwh/PoseFormer) in float64 with these weights and this input.
@pytest.mark.parametrize(
    ("frames", "joints", "total", "total_abs", "first", "last"),
    [
        (9, 17, 3.9498063940, 125.3647422280, (1.8143532698, -0.9078720349, -0.7659963933),
         (-1.7530087914, 0.0421608100, 1.6873694720)),
        (27, 17, 3.8943947722, 123.6323962471, (1.8969370599, -0.9572504757, -0.7946350037),
         (-1.6317388613, 0.0277170938, 1.5818790775)),
        (81, 17, 4.0274921465, 127.6860236881, (1.9312046426, -0.9770673673, -0.8072529402),
         (-1.7079431313, 0.0286784893, 1.6570330378)),
        (27, 15, 2.3387104674, 107.1857599600, (1.7871314484, -1.0988560020, -0.3203141799),
         (1.1544382190, -1.9321515345, 1.2671104935)),
    ],
)  # fmt: skip
def test_output_is_that_of_the_authors_code(
    frames: int,
    joints: int,
    total: float,
    total_abs: float,
    first: tuple[float, float, float],
    last: tuple[float, float, float],
) -> None:
    model = PoseFormer(frames=frames, in_joints=joints, out_joints=joints, in_channels=2).double().eval()
    model.load_state_dict(wave_weights(frames, joints))
    screen = 0.5 * torch.sin(0.013 * torch.arange(2 * frames * joints * 2, dtype=torch.float64))
    with torch.no_grad():
        lifted = model(screen.reshape(2, frames, joints, 2))
    # The golden numbers have ten decimals.
    assert lifted.sum().item() == pytest.approx(total, abs=1e-9)
    assert lifted.abs().sum().item() == pytest.approx(total_abs, abs=1e-9)
    assert tuple(lifted[0, 0, 0].tolist()) == pytest.approx(first, abs=2e-10)
    assert tuple(lifted[1, 0, -1].tolist()) == pytest.approx(last, abs=2e-10)


@pytest.mark.parametrize(
    ("frames", "joints", "parameters"),
    [
        (9, 17, 9_563_645),
        (27, 17, 9_573_455),
        (81, 17, 9_602_885),
        (243, 17, 9_691_175),
        (27, 15, 7_465_289),
        (43, 15, 7_472_985),
        (81, 15, 7_491_263),
    ],
)
def test_tensor_names_shapes_and_parameter_count_are_those_of_the_authors_code(
    frames: int, joints: int, parameters: int
) -> None:
    with torch.device("meta"):
        model = PoseFormer(frames=frames, in_joints=joints, out_joints=joints, in_channels=2)
    tensors = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert tensors == authors_shapes(frames, joints)
    assert len(tensors) == 110
    assert sum(weight.numel() for weight in model.parameters()) == parameters


def test_positional_embeddings_start_at_zero_and_drop_rates_grow_to_a_tenth_in_both_stacks() -> None:
    model = PoseFormer(frames=9, in_joints=2, out_joints=2, in_channels=2)
    assert not model.Spatial_pos_embed.any()
    assert not model.Temporal_pos_embed.any()
    for stack in (model.Spatial_blocks, model.blocks):
        rates = [part.rate for part in stack.modules() if isinstance(part, DropPath)]
        assert rates == pytest.approx([0, 1 / 30, 2 / 30, 0.1])


def test_a_clip_lifted_from_shared_frame_features_equals_window_by_window() -> None:
    model = small_poseformer()
    clip = torch.rand(20, 5, 2, dtype=torch.float64)
    windows = rearrange(clip.unfold(0, 9, 1), "b j c t -> b t j c")
    features = rearrange(model.spatial_features(clip).unfold(0, 9, 1), "b d t -> b t d")
    torch.testing.assert_close(model.lift_features(features), model(windows), rtol=0, atol=1e-12)


def test_a_joint_the_output_lacks_and_the_confidence_both_matter() -> None:
    model = small_poseformer(out_joints=1, in_channels=3)
    screen = torch.rand(1, 9, 5, 3, dtype=torch.float64)
    moved, doubted = screen.clone(), screen.clone()
    moved[0, 4, 4, 0] += 0.5
    doubted[0, 4, 0, 2] = 0
    assert not torch.allclose(model(moved), model(screen))
    assert not torch.allclose(model(doubted), model(screen))


def test_training_drops_branches_and_evaluation_does_not() -> None:
    torch.manual_seed(0)
    model = PoseFormer(frames=3, in_joints=2, out_joints=2, in_channels=2, drop_path=0.5)
    screen = torch.rand(8, 3, 2, 2)
    assert not torch.allclose(model(screen), model(screen), atol=1e-4)
    model.eval()
    assert torch.equal(model(screen), model(screen))


def test_a_window_of_another_length_is_refused() -> None:
    model = small_poseformer()
    # One frame would broadcast against the positional embedding of nine.
    with pytest.raises(ValueError, match=r"features of a window: expected shape \(\.\.\., 9, 40\), found \(2, 1, 40\)"):
        model(torch.rand(2, 1, 5, 2, dtype=torch.float64))
