"""An augmented window is the same motion, of another body at another speed if so wanted, seen by another camera."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from pipeline.config.params import Augmentation
from pipeline.mocap.augmentation import MARGIN, MocapScene, augment_windows, mocap_scene, project_windows, step_back
from pipeline.mocap.cameras import Cameras, draw_cameras, lens_values
from pipeline.mocap.detector import in_planes
from pipeline.mocap.lenses import LENSES
from pipeline.mocap.takes import Take
from pipeline.poses.geometry import project
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import Windows, tile_windows, window_index
from tests.fixtures.walker import AUGMENTATION, camera_at, walker_takes

CPU = torch.device("cpu")
NOTHING: dict[str, Any] = {
    "roll_degrees": 0, "missing_joints": 0, "people": 0, "size": 1, "speed": 0, "bend": 0, "lean": 0, "tumble": 0,
}  # fmt: skip


def only(**changes: Any) -> Augmentation:
    """New cameras, and these changes alone."""
    return Augmentation(**AUGMENTATION | NOTHING | changes)


def scene_of(lengths: tuple[int, ...] = (40, 31, 50), *, with_detector: bool = False) -> MocapScene:
    return mocap_scene(walker_takes(lengths), with_detector=with_detector, device=CPU)


def augmented(augmentation: Augmentation, scene: MocapScene | None = None, *, seed: int = 0):
    """Windows of the walker in the world as they are, relative to the root, and augmented."""
    scene = scene or scene_of()
    windows = tile_windows(scene, stride=4)
    index, _ = window_index(scene, windows, frames=9)
    world_m = scene.joints_world_m[index]
    return world_m - world_m[:, :, :1], augment_windows(scene, windows, augmentation, frames=9, seed=seed)


def walker_m() -> Float[Tensor, "T 17 3"]:
    return torch.from_numpy(walker_takes((40,))[0].joints_world_m.astype(np.float64))


def bone_lengths_m(pose_m: Tensor) -> Tensor:
    parents = [parent for parent, _ in H36M_17.bones]
    return torch.linalg.vector_norm(pose_m[..., 1:, :] - pose_m[..., parents, :], dim=-1)


def test_another_camera_sees_the_same_person_from_another_side():
    plain_m, (_, pose_m, counted) = augmented(only())
    assert (plain_m - pose_m).norm(dim=-1).mean() > 0.1
    torch.testing.assert_close(torch.cdist(pose_m, pose_m), torch.cdist(plain_m, plain_m), rtol=0, atol=1e-5)
    assert not counted.all()  # places beyond a take's ends repeat a frame that is not learnt twice
    assert counted[:, 4].sum() > 20


def test_keypoints_lie_on_the_rays_to_the_joints():
    """With two joints on their rays the root's distance follows; all others must then agree with it."""
    lens = torch.from_numpy(lens_values(camera_at(0.5))).float()[None]
    scene = replace(scene_of(), lenses=lens)  # one lens without distortion
    _, (screen, pose_m, _) = augmented(only(), scene, seed=3)
    rays = (screen * 500 + torch.tensor([500.0, 450.0]) - lens[0, 2:4]) / lens[0, :2]
    # rays_j (z + dz_j) - (x + dx_j) = 0 is linear in the root's place (x, y, z).
    zero, one = torch.zeros_like(rays[..., 0]), torch.ones_like(rays[..., 0])
    rows = torch.stack([torch.stack([-one, zero, rays[..., 0]], -1), torch.stack([zero, -one, rays[..., 1]], -1)], -2)
    rows = rows.flatten(2, 3).double()
    right = (pose_m[..., :2] - rays * pose_m[..., 2:]).flatten(2, 3)[..., None].double()
    solution = torch.linalg.lstsq(rows, right).solution
    assert (rows @ solution - right).abs().max() < 1e-5
    distance_m = solution[..., 0].norm(dim=-1)
    assert distance_m.min() > 2.5
    assert distance_m.max() < 8


def test_cameras_lean_by_as_much_as_the_roll_at_most_and_still_look_at_the_same_point():
    scene = scene_of((40,))
    target_m = scene.target_m.expand(40, 3)
    upright, leaning = (
        draw_cameras(target_m, scene.lenses, only(roll_degrees=roll), torch.Generator()) for roll in (0.0, 20.0)
    )
    rotation = leaning.camera_from_world.double()
    seen_m = rotation @ (target_m - leaning.position_m).double()[..., None]
    assert seen_m[:, :2].abs().max() < 1e-5
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand_as(rotation), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(40).double(), rtol=0, atol=1e-6)
    assert upright.camera_from_world[:, 0, 2].abs().max() < 1e-6  # the camera's right is level
    lean = torch.atan2(rotation[:, 0, 2], -rotation[:, 1, 2]).rad2deg()
    assert 15 < lean.abs().max() <= 20
    assert lean.min() < -5 < 5 < lean.max()


def test_a_camera_steps_back_just_until_it_sees_the_whole_body():
    lens = torch.from_numpy(lens_values(camera_at(0.0))).float()[None]
    cameras = Cameras(torch.eye(3)[None], torch.zeros(1, 3), lens)
    joints_m = torch.randn(17, 3, 4, 1, generator=torch.Generator().manual_seed(0))
    moved_m = step_back(joints_m, cameras)
    assert torch.equal(moved_m[:, :2], joints_m[:, :2])
    share = (moved_m[:, :2] / moved_m[:, 2:]).abs()[..., 0].amax((0, 2)) * lens[0, :2] / torch.tensor([500.0, 450.0])
    assert share.max().item() == pytest.approx(MARGIN, abs=1e-5)
    far_m = joints_m + torch.tensor([0.0, 0.0, 50.0])[:, None, None]
    assert torch.equal(step_back(far_m, cameras), far_m)


@pytest.mark.parametrize("distance_m", [(0.6, 0.7), (4.5, 6.0)])
def test_every_joint_is_in_the_image_however_near_the_cameras_stand(distance_m):
    _, (screen, _, _) = augmented(only(distance_m=distance_m, people=3.0, tumble=0.5, speed=0.5))
    assert screen[..., 0].abs().max() <= 1
    assert screen[..., 1].abs().max() <= 1.002  # images are 1000 or 1002 px high


def test_at_another_speed_a_steady_motion_moves_by_another_step():
    body_m = np.random.default_rng(0).uniform([-0.5, -0.5, 0.5], [0.5, 0.5, 1.5], size=(17, 3))
    joints_m = np.broadcast_to(body_m, (60, 17, 3)).astype(np.float32)
    joints_m[:, 16, 0] = 0.01 * np.arange(60)  # one hand glides along
    take = Take("steady", "s", "a", "train", "p", 30.0, joints_m)
    scene = mocap_scene([take], with_detector=False, device=CPU)
    windows = Windows(torch.full((200,), 30), torch.zeros(200, dtype=torch.long), torch.zeros(200, dtype=torch.bool))
    _, pose_m, counted = augment_windows(scene, windows, only(speed=0.5), frames=9, seed=0)
    step_m = (pose_m[:, 1:, 16] - pose_m[:, :-1, 16]).norm(dim=-1)
    torch.testing.assert_close(step_m, step_m[:, :1].expand_as(step_m), rtol=0, atol=1e-5)
    assert 0.005 - 1e-5 < step_m.min() < 0.006
    assert 0.014 < step_m.max() < 0.015 + 1e-5
    assert counted.all()


def test_bodies_of_another_size_are_that_many_times_as_large():
    _, (_, pose_m, _) = augmented(only())
    _, (_, smaller_m, _) = augmented(only(size=0.9))
    torch.testing.assert_close(bone_lengths_m(smaller_m), 0.9 * bone_lengths_m(pose_m), rtol=0, atol=1e-5)


def test_a_simulated_detector_errs_in_pixels_and_leaves_the_poses():
    _, (exact, pose_m, _) = augmented(only())
    _, (noisy, same_m, _) = augmented(only(), scene_of(with_detector=True))
    torch.testing.assert_close(same_m, pose_m)
    error_px = 500 * (noisy[..., :2] - exact).norm(dim=-1)
    assert 0.5 < error_px.median() < 5
    assert noisy.shape[-1] == 3
    assert exact.shape[-1] == 2


def test_joints_that_are_not_seen_have_no_confidence():
    _, (screen, _, _) = augmented(only(missing_joints=0.3), scene_of(with_detector=True))
    assert 0.2 < (screen[..., 2] == 0).float().mean() < 0.4


def test_the_same_seed_draws_the_same_and_another_otherwise():
    scene, everything = scene_of(with_detector=True), Augmentation(**AUGMENTATION)
    first, again, other = (augmented(everything, scene, seed=seed)[1][0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_windows_are_projected_as_single_frames_are():
    joints_m = np.random.default_rng(0).uniform([-1, -1, 4], [1, 1, 6], size=(4, 5, 17, 3)).astype(np.float32)
    lens = torch.from_numpy(np.stack([lens_values(camera) for camera in LENSES])).float()
    pixels = rearrange(project_windows(in_planes(torch.from_numpy(joints_m)), lens), "j x t w -> w t j x")
    for place, camera in enumerate(LENSES):
        np.testing.assert_allclose(pixels[place].numpy(), project(joints_m[place], camera), rtol=0, atol=1e-2)


def test_takes_of_different_rates_are_no_scene():
    first, second = walker_takes((10, 10))
    with pytest.raises(ValueError, match="expected takes of one rate, found"):
        mocap_scene([first, replace(second, rate_hz=50.0)], with_detector=False, device=CPU)


def test_a_range_begins_with_its_lower_end():
    with pytest.raises(ValidationError, match="the lower end first"):
        Augmentation(**AUGMENTATION | {"height_m": (2.0, 1.0)})
