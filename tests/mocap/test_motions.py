"""Motions and people that nobody captured keep what a body cannot change, and change what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from einops import rearrange
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from pipeline.config.params import Augmentation
from pipeline.mocap import motions
from pipeline.mocap.detector import in_planes
from pipeline.mocap.motions import bend_bodies, rotate
from pipeline.mocap.people import DEVIATION, HALF_DIFFERENCE, draw_people, scale_bones
from pipeline.poses.skeleton import H36M_17
from tests.fixtures.walker import AUGMENTATION, walker_joints_world_m

PARENTS = list(H36M_17.parents[1:])
CHANGES = ("bend", "lean", "tumble")


def windows_m(count: int = 300, frames: int = 27) -> Float[Tensor, "W T 17 3"]:
    walk_m = torch.from_numpy(walker_joints_world_m(count + frames - 1).astype(np.float32))
    return walk_m.unfold(0, frames, 1).permute(0, 3, 1, 2).contiguous()


def changed(share: float, *names: str) -> Float[Tensor, "W T 17 3"]:
    shares = {name: share if name in names else 0.0 for name in CHANGES}
    bent_m = bend_bodies(
        in_planes(windows_m()), Augmentation(**AUGMENTATION | shares), torch.Generator().manual_seed(0)
    )
    return out_of_planes(bent_m)


def out_of_planes(planes: Tensor) -> Tensor:
    return rearrange(planes, "j x t w -> w t j x")


def pelvis_frame(joints_m: Tensor) -> Float[Tensor, "W T 3 3"]:
    return rearrange(motions.trunk_frame(in_planes(joints_m), motions.HIPS), "a x t w -> w t a x")


def bone_lengths_m(joints_m: Tensor) -> Tensor:
    return torch.linalg.vector_norm(joints_m[..., 1:, :] - joints_m[..., PARENTS, :], dim=-1)


def flexion(joints_m: Tensor, start: int, middle: int, end: int) -> Tensor:
    upper, lower = (joints_m[:, :, far] - joints_m[:, :, near] for near, far in ((start, middle), (middle, end)))
    return torch.nn.functional.cosine_similarity(upper, lower, dim=-1).clamp(-1, 1).acos()


def test_vectors_turn_as_scipy_turns_them() -> None:
    random = np.random.default_rng(0)
    vectors, turns = random.normal(size=(50, 3)), random.normal(size=(50, 3)) * 2
    turned = rotate(*(torch.from_numpy(values.T[:, None]) for values in (vectors, turns)))
    np.testing.assert_allclose(turned[:, 0].T, Rotation.from_rotvec(turns).apply(vectors), atol=1e-12)
    assert torch.equal(rotate(torch.ones(3, 1, 1), torch.zeros(3, 1, 1)), torch.ones(3, 1, 1))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_bones_and_the_floor_and_moves_as_many_windows_as_its_share_says(name: str) -> None:
    before_m, after_m = windows_m(), changed(0.4, name)
    torch.testing.assert_close(bone_lengths_m(after_m), bone_lengths_m(before_m), rtol=0, atol=1e-5)
    lowest = [values[..., 2].amin((1, 2)) for values in (before_m, after_m)]
    torch.testing.assert_close(lowest[1], lowest[0], rtol=0, atol=1e-5)
    moved = (after_m - before_m).abs().amax((1, 2, 3)) > 1e-3
    assert 0.3 < moved.float().mean() < 0.5


def test_nobody_bends_a_knee_or_an_elbow_backwards_or_through_itself() -> None:
    after_m = changed(0.99, "bend")
    most = math.radians(motions.MOST_FLEXED_DEGREES) + 1e-3
    for start, middle, end in zip(motions.STARTS, motions.MIDDLES, motions.ENDS, strict=True):
        assert flexion(after_m, start, middle, end).max() < most
    pelvis = pelvis_frame(after_m)
    for hip, knee, foot in ((1, 2, 3), (4, 5, 6)):
        shin, thigh = after_m[:, :, foot] - after_m[:, :, knee], after_m[:, :, knee] - after_m[:, :, hip]
        hinge = torch.linalg.cross(thigh, shin) / thigh.norm(dim=-1, keepdim=True) / shin.norm(dim=-1, keepdim=True)
        to_the_left = (hinge * pelvis[:, :, 0]).sum(-1)
        bent = flexion(after_m, hip, knee, foot) > 0.5
        assert (to_the_left[bent] > 0).float().mean() > 0.85  # the shin goes back; turned hips turn the hinge


def test_bent_motion_is_as_smooth_as_the_captured_one_and_far_from_it() -> None:
    before_m, after_m = windows_m(), changed(0.99, "bend")
    jerk = [torch.diff(values, n=3, dim=1).norm(dim=-1).mean() for values in (before_m, after_m)]
    assert jerk[1] < 3 * jerk[0]  # the walker is as smooth as sines are
    relative = [values - values[:, :, :1] for values in (before_m, after_m)]
    assert 0.1 < (relative[1] - relative[0]).norm(dim=-1).mean() < 0.5


def test_a_bone_leaves_its_cone_in_no_window_unless_the_captured_one_did() -> None:
    before_m, after_m = windows_m(), changed(0.99, "bend")
    cosines, pelvis = [], pelvis_frame(before_m)  # which bending does not turn
    for values in (before_m, after_m):
        thigh = values[:, :, 2] - values[:, :, 1]
        local = torch.nn.functional.normalize((pelvis @ thigh[..., None])[..., 0], dim=-1)
        cosines.append(local @ torch.nn.functional.normalize(torch.tensor(motions.LEG_CONE[0]), dim=0))
    edge = math.cos(math.radians(motions.LEG_CONE[1]))
    assert (cosines[1].amin(1) >= cosines[0].amin(1).clamp(max=edge) - 1e-4).all()


def test_some_of_the_bent_crouch() -> None:
    height_m = changed(0.99, "bend")[:, :, 0, 2].mean(1)
    standing_m = windows_m()[:, :, 0, 2].mean()
    assert 0.02 < (height_m < 0.8 * standing_m).float().mean() < 0.3


def test_tumbling_bodies_lie_and_stand_on_their_heads_and_leaning_ones_do_not() -> None:
    up = {}
    for name in ("lean", "tumble"):
        after_m = changed(0.99, name)
        trunk = torch.nn.functional.normalize(after_m[:, 13, 8] - after_m[:, 13, 0], dim=-1)
        up[name] = trunk[:, 2]
    assert (up["tumble"] < -0.5).any()
    assert (up["tumble"].abs() < 0.3).any()
    assert up["lean"].min() > 0.3
    assert 0.9 < up["lean"].mean() < 0.99


def drawn_factors(spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    before_m = windows_m(4000, frames=1)
    after_m = out_of_planes(draw_people(in_planes(before_m), spread, torch.Generator().manual_seed(0)))
    return before_m, after_m, bone_lengths_m(after_m) / bone_lengths_m(before_m)


def test_people_vary_as_measured_and_left_as_right() -> None:
    before_m, after_m, factor = drawn_factors()
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor), rtol=1e-3, atol=0)
    for left, right in zip(H36M_17.left, H36M_17.right, strict=True):
        torch.testing.assert_close(factor[..., left - 1], factor[..., right - 1], rtol=1e-3, atol=0)
    thigh, forearm, breadth = (factor[:, 0, joint - 1].log() for joint in (2, 13, 11))
    for values, segment in ((thigh, 0), (forearm, 5), (breadth, 6)):
        expected = math.hypot(DEVIATION[segment], HALF_DIFFERENCE[segment])  # of women and men together
        assert values.std().item() == pytest.approx(expected, rel=0.05)
        assert values.mean().abs() < 0.005
    assert torch.corrcoef(torch.stack([thigh, forearm]))[0, 1] > 0.5
    directions = [(values[..., 1:, :] - values[..., PARENTS, :]) for values in (before_m, after_m)]
    torch.testing.assert_close(torch.cosine_similarity(*directions, dim=-1), torch.ones(factor.shape))


def test_a_wider_spread_makes_more_different_people_and_none_the_captured_ones() -> None:
    _, _, once = drawn_factors()
    _, _, twice = drawn_factors(2.0)
    torch.testing.assert_close(twice, once**2, rtol=1e-3, atol=0)


def test_bones_scaled_one_by_one_along_the_chain_are_scaled_at_once() -> None:
    random = torch.Generator().manual_seed(0)
    joints_m, factor = torch.randn(2, 3, 17, 3, generator=random), torch.rand(2, 16, generator=random) + 0.5
    expected_m = [joints_m[:, :, 0]]
    for joint, parent in enumerate(PARENTS, start=1):
        bone_m = joints_m[:, :, joint] - joints_m[:, :, parent]
        expected_m.append(expected_m[parent] + factor[:, None, None, joint - 1] * bone_m)
    scaled_m = out_of_planes(scale_bones(in_planes(joints_m), factor))
    torch.testing.assert_close(scaled_m, torch.stack(expected_m, 2))
