"""Poses in the image become the poses in metres that cast them, for a body of the assumed size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import nn

from pipeline.lift.image_poses import ADULT_BONES_M, metres_from_image
from pipeline.lift.lifter import Lifter
from pipeline.poses.geometry import Camera, pixels_from_screen, project, screen_from_pixels
from pipeline.poses.predict import TrainedModel
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import mirror
from tests.fixtures.lifting import SIZE, recording_of, track_of, walker_keypoints, write_small_checkpoint
from tests.fixtures.motionagformer_file import walker_in_the_image
from tests.fixtures.walker import camera_at, walker_joints_world_m

BENT = replace(camera_at(0.3, distance_m=3.0), radial=(-0.2, 0.2, -0.01), tangential=(0.001, -0.002))


def measure_bones_m(joints_m: Float[np.ndarray, "F J 3"]) -> Float[np.ndarray, " F"]:
    return sum((np.linalg.norm(joints_m[:, a] - joints_m[:, b], axis=-1) for a, b in H36M_17.bones), np.zeros(1))


def scale_of_depth(camera: Camera, root_m: Float[np.ndarray, "F 1"]) -> Float[np.ndarray, "F 1"]:
    assert camera.focal_px is not None
    return camera.focal_px[0] / root_m


def scale_of_labels(camera: Camera, root_m: Float[np.ndarray, "F 1"]) -> Float[np.ndarray, "F 1"]:
    """That of the public labels: a pixel more for a square of two metres."""
    assert camera.focal_px is not None
    return (2 * camera.focal_px[0] / root_m + 1) / 2


@pytest.mark.parametrize(
    ("camera", "px_per_m", "atol_m"),
    [(camera_at(0.4), scale_of_depth, 1e-9), (BENT, scale_of_depth, 1e-6), (camera_at(0.4), scale_of_labels, 0.003)],
)
def test_the_walker_comes_back_from_his_image(
    camera: Camera, px_per_m: Callable[[Camera, Float[np.ndarray, "F 1"]], Float[np.ndarray, "F 1"]], atol_m: float
) -> None:
    joints_m = camera.camera_from_world.apply(walker_joints_world_m(12))
    screen = screen_from_pixels(project(joints_m, camera), camera)
    depth_m, root_m = joints_m[..., 2], joints_m[:, :1, 2]
    depth = (depth_m - root_m) * px_per_m(camera, root_m) * 2 / camera.width_px
    pose = np.concatenate([screen - screen[:, :1], depth[..., None]], axis=-1)
    expected_m = joints_m - joints_m[:, :1]
    expected_m *= (ADULT_BONES_M / measure_bones_m(expected_m))[:, None, None]
    found_m = metres_from_image(pose, screen[:, 0], camera, H36M_17)
    np.testing.assert_allclose(found_m, expected_m, atol=atol_m)


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lift") / "run0"
    write_small_checkpoint(folder, "motionagformer", focal=None, output_unit="half_image_widths")
    return Lifter.load(folder, stride=1)


def test_people_have_the_assumed_size_which_is_said(lifter):
    lifted = lifter.lift(recording_of(track_of(walker_keypoints(20))))
    (person,) = lifted.people
    np.testing.assert_allclose(measure_bones_m(person.joints_camera_m), ADULT_BONES_M, atol=1e-6)
    assert any(
        "body size: an adult's, bones of 4.15 m in all, as the model predicts none" in line for line in lifted.assumed
    )
    assert lifted.card["output_unit"] == "half_image_widths"


def test_a_scaled_image_gives_the_same_pose(lifter):
    keypoints = walker_keypoints(20)
    poses_m = lifter(keypoints * [2.5, 2.5, 1], layout="h36m17", image_size=(2500, 2500))
    np.testing.assert_allclose(poses_m, lifter(keypoints, layout="h36m17", image_size=SIZE), atol=1e-5)


def test_a_stream_gives_the_same_poses(lifter):
    keypoints = walker_keypoints(25)
    stream = lifter.stream(layout="h36m17", image_size=SIZE, latency=4)
    poses_m = [pose_m for frame in keypoints if (pose_m := stream.push(frame)) is not None]
    whole_m = lifter(keypoints, layout="h36m17", image_size=SIZE)
    np.testing.assert_allclose(np.array(poses_m + stream.finish()), whole_m, atol=1e-5)


def test_the_network_sees_pixels_by_the_width_of_the_image_whatever_the_lens_and_the_confidence(lifter, monkeypatch):
    seen: list[torch.Tensor] = []
    forward = lifter.model.network.forward
    monkeypatch.setattr(lifter.model.network, "forward", lambda screen: seen.append(screen) or forward(screen))
    keypoints = walker_keypoints(9)
    lens = Camera("telephoto", 800, 1400, (4000.0, 4000.0), (390.0, 710.0), radial=(-0.1, 0.0, 0.0))
    lifter(keypoints, layout="h36m17", image_size=(800, 1400), camera=lens)
    expected = np.stack([keypoints[..., 0] / 400 - 1, keypoints[..., 1] / 400 - 1.75, keypoints[..., 2]], axis=-1)
    np.testing.assert_allclose(seen[0][4].numpy(), expected, atol=1e-6)


class Oracle(nn.Module):
    """Knows the pose in the image of each frame that it was made with, and of its mirror image."""

    predicts = "every_frame"

    def __init__(self, screen: Float[torch.Tensor, "F 17 3"], pose: Float[torch.Tensor, "F 17 3"]) -> None:
        super().__init__()
        self.known = torch.cat([screen, mirror(screen, H36M_17)])
        self.poses = torch.cat([pose, mirror(pose, H36M_17)])

    def forward(self, screen: Float[torch.Tensor, "B T 17 3"]) -> Float[torch.Tensor, "B T 17 3"]:
        distance = torch.cdist(screen.flatten(2), self.known.flatten(1))
        return self.poses[distance.argmin(-1)]


def test_with_a_perfect_network_a_person_stands_where_he_walks_as_large_as_is_assumed(lifter):
    camera = camera_at(0.4)
    screen, pose = walker_in_the_image(camera, 30)
    keypoints = np.concatenate([pixels_from_screen(screen[..., :2].numpy(), camera), np.ones((30, 17, 1))], axis=-1)
    perfect = replace(lifter, model=TrainedModel(Oracle(screen, pose), lifter.card))
    (person,) = perfect.lift(replace(recording_of(track_of(keypoints)), camera=camera)).people
    joints_m = camera.camera_from_world.apply(walker_joints_world_m(30))
    joints_m *= ADULT_BONES_M / measure_bones_m(joints_m)[0]
    np.testing.assert_allclose(person.joints_camera_m, joints_m - joints_m[:, :1], atol=1e-4)
    inner = slice(8, -8)  # the distance is filtered over time
    np.testing.assert_allclose(person.root_camera_m[inner], joints_m[inner, 0], atol=0.02)
