"""A take filmed anew is the same motion, of another body at another speed if so wanted, seen by another camera."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline.config.params import Refilming
from pipeline.mocap.augmentation import new_cameras, project_windows, refilm, room_of
from pipeline.mocap.bodies import ARMS, HIPS, LEGS, LIMBS, SHOULDERS, another_motion, with_bones_scaled, with_limbs_of
from pipeline.mocap.lenses import LENSES
from pipeline.poses.geometry import project
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import cut_windows, frame_table, gather_windows, tile_windows
from tests.fixtures.walker import REFILMING, walker_clips

CPU = torch.device("cpu")
NOTHING: dict[str, Any] = {
    "new_cameras": False, "roll_degrees": 0, "new_noise": False,
    "missing_joints": 0, "body_scale": 0, "limb_scale": 0, "speed": 0, "other_legs": 0, "other_arms": 0,
}  # fmt: skip


def refilmed(*, with_confidence: bool = False, frames: int = 9, seed: int = 0, **changes: Any):
    """Windows of the walker as they are and filmed anew with these changes alone."""
    clips = walker_clips((40, 31, 50), with_confidence=with_confidence)
    table = frame_table(clips, root=0, device=CPU)
    windows = tile_windows(table, stride=4)
    refilming = Refilming(**REFILMING | NOTHING | changes)
    plain = gather_windows(table, windows, frames=frames)
    return plain, refilm(room_of(clips, device=CPU), table, windows, refilming, frames=frames, seed=seed)


def walker_m() -> torch.Tensor:
    return torch.from_numpy(walker_clips((40,))[0].joints_camera_m.astype(np.float64))


def bone_lengths_m(pose_m: torch.Tensor) -> torch.Tensor:
    parents = [parent for parent, _ in H36M_17.bones]
    return torch.linalg.vector_norm(pose_m[..., 1:, :] - pose_m[..., parents, :], dim=-1)


@pytest.mark.parametrize("with_confidence", [False, True])
def test_without_changes_the_same_film_comes_out(with_confidence):
    plain, anew = refilmed(with_confidence=with_confidence)
    torch.testing.assert_close(anew[0], plain[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(anew[1], plain[1], rtol=0, atol=1e-5)
    assert torch.equal(anew[2], plain[2])


def test_another_camera_sees_the_same_upright_person_from_another_side():
    plain, anew = refilmed(new_cameras=True)
    assert (plain[1] - anew[1]).norm(dim=-1).mean() > 0.1
    distances_m = [torch.cdist(pose_m, pose_m) for pose_m in (plain[1], anew[1])]
    torch.testing.assert_close(*distances_m, rtol=0, atol=1e-5)  # one motion, turned


def test_keypoints_of_another_camera_lie_on_the_rays_to_the_joints():
    """With two joints on their rays the root's distance follows; all others must then agree with it."""
    clips = [replace(clip, camera=replace(clip.camera, name="a")) for clip in walker_clips((40,))]
    table = frame_table(clips, root=0, device=CPU)
    room = room_of(clips, device=CPU)
    lens = room.cameras.lens[:1].expand(1, -1)
    room = replace(room, lenses=lens)  # one lens without distortion
    refilming = Refilming(**REFILMING | NOTHING | {"new_cameras": True})
    screen, pose_m, _ = refilm(room, table, tile_windows(table, stride=4), refilming, frames=9, seed=3)
    rays = (screen * 500 + torch.tensor([500.0, 450.0]) - lens[0, 2:4]) / lens[0, :2]
    # rays_j (z + dz_j) - (x + dx_j) = 0 is linear in the root's place (x, y, z).
    rows = torch.stack(
        [
            torch.stack([-torch.ones_like(rays[..., 0]), torch.zeros_like(rays[..., 0]), rays[..., 0]], -1),
            torch.stack([torch.zeros_like(rays[..., 0]), -torch.ones_like(rays[..., 0]), rays[..., 1]], -1),
        ],
        -2,
    ).flatten(2, 3)
    right = (pose_m[..., :2] - rays * pose_m[..., 2:]).flatten(2, 3)[..., None]
    solution = torch.linalg.lstsq(rows.double(), right.double()).solution
    residual = rows.double() @ solution - right.double()
    assert residual.abs().max() < 1e-5
    distance_m = solution[..., 0].norm(dim=-1)
    assert distance_m.min() > 2.5
    assert distance_m.max() < 8


def test_cameras_lean_by_as_much_as_the_roll_at_most_and_still_look_at_the_same_point():
    clips = walker_clips((40,))
    table, room = frame_table(clips, root=0, device=CPU), room_of(clips, device=CPU)
    windows = tile_windows(table, stride=1)
    cameras = {
        roll: new_cameras(room, windows, Refilming(**REFILMING | {"roll_degrees": roll}), torch.Generator())
        for roll in (0.0, 20.0)
    }
    upright, leaning = (cameras[roll].camera_from_world.double() for roll in cameras)
    seen_m = leaning @ (room.target_m[windows.clip] - cameras[20.0].position_m).double()[..., None]
    assert seen_m[:, :2].abs().max() < 1e-5
    torch.testing.assert_close(leaning @ leaning.mT, torch.eye(3).double().expand_as(leaning), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.linalg.det(leaning), torch.ones(len(leaning)).double(), rtol=0, atol=1e-6)
    assert upright[:, 0, 2].abs().max() < 1e-6  # the camera's right is level
    lean = torch.atan2(leaning[:, 0, 2], -leaning[:, 1, 2]).rad2deg()
    assert 15 < lean.abs().max() <= 20
    assert lean.min() < -5 < 5 < lean.max()


def test_a_camera_that_does_not_see_the_whole_body_is_not_used():
    plain, anew = refilmed(new_cameras=True, body_scale=0.5, speed=0.5, distance_m=(0.6, 0.7))
    for own, other in zip(plain, anew, strict=True):
        assert torch.equal(own, other)


def test_a_body_is_scaled_whole():
    plain, anew = refilmed(body_scale=0.3)
    ratio = bone_lengths_m(anew[1]) / bone_lengths_m(plain[1])
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio), rtol=1e-3, atol=0)
    assert ratio.min() > 0.7 - 1e-3
    assert ratio.max() < 1.3 + 1e-3
    assert ratio[:, 0, 0].std() > 0.05


def test_limbs_are_scaled_left_and_right_alike_and_nothing_else_is():
    plain, anew = refilmed(limb_scale=0.3)
    ratio = bone_lengths_m(anew[1]) / bone_lengths_m(plain[1])
    scaled = {joint for pair in LIMBS for joint in pair}
    for joint in range(1, 17):
        if joint not in scaled:
            torch.testing.assert_close(ratio[..., joint - 1], torch.ones_like(ratio[..., 0]), rtol=1e-3, atol=0)
    for left, right in LIMBS:
        torch.testing.assert_close(ratio[..., left - 1], ratio[..., right - 1], rtol=2e-3, atol=0)
        assert ratio[:, 0, left - 1].std() > 0.05


def test_bones_scaled_by_one_stay():
    joints_m = torch.randn(2, 3, 17, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(with_bones_scaled(joints_m, torch.ones(2, 17)), joints_m)


@pytest.mark.parametrize(("limbs", "trunk"), [(LEGS, HIPS), (ARMS, SHOULDERS)])
def test_exchanged_limbs_keep_their_motion_about_the_trunk_and_their_bones(limbs, trunk):
    """A motion with the limbs of the same motion turned and moved elsewhere is that motion."""
    joints_m = walker_m()
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(len(joints_m), 3, 3)))[0]
    turn *= np.linalg.det(turn)[:, None, None]
    elsewhere_m = joints_m @ torch.from_numpy(turn) + 3.0
    exchanged_m = with_limbs_of(joints_m[None], elsewhere_m[None], limbs=limbs, trunk=trunk)[0]
    torch.testing.assert_close(exchanged_m, joints_m, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("limbs", "trunk"), [(LEGS, HIPS), (ARMS, SHOULDERS)])
def test_exchanged_limbs_are_the_other_ones_and_nothing_else_moves(limbs, trunk):
    joints_m = walker_m()
    other_m = joints_m.flip(0)
    exchanged_m = with_limbs_of(joints_m[None], other_m[None], limbs=limbs, trunk=trunk)[0]
    moving = [joint for _, joints in limbs for joint in joints]
    staying = [joint for joint in range(17) if joint not in moving]
    assert torch.equal(exchanged_m[:, staying], joints_m[:, staying])
    torch.testing.assert_close(bone_lengths_m(exchanged_m), bone_lengths_m(joints_m), rtol=0, atol=1e-6)
    for start, joints in limbs:  # angles within the limb are the other one's
        reach = (exchanged_m[:, joints[-1]] - exchanged_m[:, start]).norm(dim=-1)
        torch.testing.assert_close(reach, (other_m[:, joints[-1]] - other_m[:, start]).norm(dim=-1))
    assert (exchanged_m - joints_m)[:, moving].norm(dim=-1).max() > 0.05


def test_as_many_windows_as_the_share_says_have_limbs_of_others():
    clips = walker_clips((400,))
    joints_m = room_of(clips, device=CPU).joints_world_m.unfold(0, 9, 1).permute(0, 3, 1, 2)
    refilming = Refilming(**REFILMING | NOTHING | {"other_legs": 0.25})
    moved = (another_motion(joints_m, refilming, torch.Generator()) != joints_m).any(-1).any(1)
    assert not moved[:, [0, *range(7, 17)]].any()
    assert 0.2 < moved[:, 3].float().mean() < 0.3


def test_at_another_speed_a_steady_motion_moves_by_another_step():
    clips = walker_clips((60,))
    drift_m = np.arange(60, dtype=np.float32)[:, None, None] * np.float32([0.01, 0, 0])
    clips = [replace(clip, joints_camera_m=clip.joints_camera_m[:1] + drift_m) for clip in clips]
    clips = [replace(clip, pixels=project(clip.joints_camera_m, clip.camera)) for clip in clips]
    table, room = frame_table(clips, root=0, device=CPU), room_of(clips, device=CPU)
    windows = tile_windows(table, stride=9)[1:5]
    refilming = Refilming(**REFILMING | NOTHING | {"speed": 0.5})
    screen, _, own = refilm(room, table, windows, refilming, frames=9, seed=0)
    steps = screen.diff(dim=1)[:, :, 0, 0] / gather_windows(table, windows, frames=9)[0].diff(dim=1)[:, :, 0, 0]
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), rtol=1e-2, atol=0)
    assert steps.min() > 0.49
    assert steps.max() < 1.51
    assert steps[:, 0].std() > 0.05
    assert own.all()


def test_old_errors_stay_with_a_new_view_and_new_ones_replace_them():
    _, kept = refilmed(with_confidence=True, new_cameras=True)
    _, exact = refilmed(new_cameras=True)
    torch.testing.assert_close(kept[0][..., :2], exact[0], rtol=0, atol=1e-4)  # the walker's are exact
    _, noisy = refilmed(with_confidence=True, new_cameras=True, new_noise=True)
    error_px = 500 * (noisy[0][..., :2] - exact[0]).norm(dim=-1)
    assert 1 < error_px.median() < 20
    assert not torch.equal(noisy[0][..., 2], kept[0][..., 2])


def test_hidden_joints_have_no_confidence():
    plain, anew = refilmed(with_confidence=True, missing_joints=0.3)
    hidden = anew[0][..., 2] == 0
    assert 0.2 < hidden.float().mean() < 0.4
    torch.testing.assert_close(anew[0][~hidden], plain[0][~hidden], rtol=0, atol=1e-4)


def test_what_is_drawn_depends_on_the_seed_alone():
    first, again, other = (refilmed(with_confidence=True, seed=seed, **REFILMING)[1][0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_windows_are_mirrored_after_they_were_filmed():
    clips = walker_clips((40,))
    table = frame_table(clips, root=0, device=CPU)
    windows = tile_windows(table, stride=9)
    gather = partial(refilm, room_of(clips, device=CPU), refilming=Refilming(**REFILMING), seed=5)
    cut = partial(cut_windows, table, in_skeleton=H36M_17, out_skeleton=H36M_17, frames=9, every_frame=True)
    plain, _, _ = cut(windows=windows, gather=gather)
    flipped, _, _ = cut(windows=replace(windows, flipped=~windows.flipped), gather=gather)
    torch.testing.assert_close(flipped[..., 0], -plain[:, :, H36M_17.mirrored, 0])


def test_windows_are_projected_as_single_frames_are():
    joints_m = np.random.default_rng(0).uniform([-1, -1, 4], [1, 1, 6], size=(4, 5, 17, 3)).astype(np.float32)
    lens = torch.stack(
        [torch.tensor([*c.focal_px, *c.centre_px, *c.radial, *c.tangential, c.width_px, c.height_px]) for c in LENSES]
    )
    pixels = project_windows(torch.from_numpy(joints_m), lens)
    for place, camera in enumerate(LENSES):
        np.testing.assert_allclose(pixels[place].numpy(), project(joints_m[place], camera), rtol=0, atol=1e-2)


def test_clips_of_different_rates_are_not_filmed_together():
    first, second = walker_clips((10, 10))
    with pytest.raises(ValueError, match="expected clips of one known rate, found"):
        room_of([first, replace(second, rate_hz=50.0)], device=CPU)


def test_a_range_begins_with_its_lower_end():
    with pytest.raises(ValidationError, match="the lower end first"):
        Refilming(**REFILMING | {"height_m": (2.0, 1.0)})
    assert not Refilming(**REFILMING | NOTHING).active
    assert Refilming(**REFILMING | NOTHING | {"speed": 0.1}).active
