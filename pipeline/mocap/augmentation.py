"""Augmentation: every training window of motion capture is seen anew by another camera, as another body and motion.

Only motion capture allows it: of a video there is one view. Everything is drawn from one seed per training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.config.params import Augmentation
from pipeline.mocap.cameras import Cameras, aim_point, draw_cameras, draw_uniform, lens_values
from pipeline.mocap.detector import draw_unseen_joints, hide_joints, simulate_detector
from pipeline.mocap.lenses import LENSES
from pipeline.mocap.motions import bend_bodies
from pipeline.mocap.people import draw_people
from pipeline.mocap.takes import Take
from pipeline.poses.geometry import pixels_from_rays
from pipeline.poses.windows import Spans, Windows, spans_of_lengths, window_index

# Share of the windows whose unseen joints are interpolated over time, as the lifter does it in short gaps; in the
# others they lie in the middle of the body.
INTERPOLATED_SHARE = 0.7
NEAREST_M = 0.5  # no joint comes nearer to a camera
MARGIN = 0.97  # of the way from an image's centre to its edge that a body may fill: lens distortion shifts a little


@dataclass(frozen=True)
class MocapScene(Spans):
    """Takes end to end in the world (Z up, metres), and what the virtual cameras of training need.

    `target_m` is where the cameras of each take look. `with_detector` says whether keypoints are a simulated detector's
    or exact.
    """

    joints_world_m: Float[Tensor, "N 17 3"]
    target_m: Float[Tensor, "K 3"]
    lenses: Float[Tensor, "L 11"]
    rate_hz: float
    with_detector: bool


def mocap_scene(takes: Sequence[Take], *, with_detector: bool, device: torch.device) -> MocapScene:
    """Returns the scene of takes, which share one rate. Raises ValueError if they do not."""
    rates_hz = {take.rate_hz for take in takes}
    if len(rates_hz) != 1:
        raise ValueError(f"expected takes of one rate, found {sorted(rates_hz)}")
    first, last = spans_of_lengths([len(take) for take in takes])

    def on_device(arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays).astype(np.float32)).to(device)

    return MocapScene(
        clip_first=first.to(device),
        clip_last=last.to(device),
        joints_world_m=torch.from_numpy(np.concatenate([take.joints_world_m for take in takes])).float().to(device),
        target_m=on_device([aim_point(take.joints_world_m) for take in takes]),
        lenses=on_device([lens_values(camera) for camera in LENSES]),
        rate_hz=rates_hz.pop(),
        with_detector=with_detector,
    )


def augment_windows(
    scene: MocapScene, windows: Windows, augmentation: Augmentation, *, frames: int, seed: int
) -> tuple[Float[Tensor, "W T 17 C"], Float[Tensor, "W T 17 3"], Bool[Tensor, "W T"]]:
    """Returns the keypoints on the screen, the root-relative poses, and which frames count, of augmented windows.

    Frames that repeat a take's end do not count. What is drawn depends on `seed` alone.
    """
    generator = torch.Generator(device=scene.clip_first.device).manual_seed(seed)
    joints_m, counted = play_at_other_speeds(scene, windows, augmentation.speed, frames=frames, generator=generator)
    joints_m = bend_bodies(joints_m, augmentation, generator)
    if augmentation.people > 0:
        joints_m = draw_people(joints_m, augmentation.people, generator)
    cameras = draw_cameras(scene.target_m[windows.clip], scene.lenses, augmentation, generator)
    joints_m = step_back(see(joints_m, cameras), cameras)
    pixels = project_windows(joints_m, cameras.lens)
    size_px = rearrange(cameras.lens[:, 9:], "w side -> w 1 1 side")
    channels = []
    if scene.with_detector:
        pixels, confidence = _detect(scene, pixels, cameras, augmentation, generator)
        channels = [confidence[..., None]]
    screen = torch.cat([(2 * pixels - size_px) / size_px[..., :1], *channels], -1)
    return screen, joints_m - joints_m[:, :, :1], counted


def play_at_other_speeds(
    scene: MocapScene, windows: Windows, change: float, *, frames: int, generator: torch.Generator
) -> tuple[Float[Tensor, "W T 17 3"], Bool[Tensor, "W T"]]:
    """Returns the windows played 1 - change to 1 + change times as fast, linear between frames, and which count."""
    if change == 0:
        index, counted = window_index(scene, windows, frames=frames)
        return scene.joints_world_m[index], counted
    speed = draw_uniform((1 - change, 1 + change), len(windows), generator)
    offset = torch.arange(frames, device=speed.device) - frames // 2
    wanted = windows.middle[:, None] + speed[:, None] * offset
    first, last = scene.clip_first[windows.clip][:, None], scene.clip_last[windows.clip][:, None]
    before = wanted.floor().long()
    share = rearrange(wanted - before, "w t -> w t 1 1")
    start_m, end_m = (scene.joints_world_m[index.clamp(first, last)] for index in (before, before + 1))
    return torch.lerp(start_m, end_m, share), (wanted >= first) & (wanted <= last)


def see(joints_world_m: Float[Tensor, "W T 17 3"], cameras: Cameras) -> Float[Tensor, "W T 17 3"]:
    """Returns the joints in the frame of each window's camera."""
    from_camera_m = joints_world_m - rearrange(cameras.position_m, "w x -> w 1 1 x")
    return einsum(cameras.camera_from_world, from_camera_m, "w c x, w t j x -> w t j c")


def step_back(joints_camera_m: Float[Tensor, "W T 17 3"], cameras: Cameras) -> Float[Tensor, "W T 17 3"]:
    """Moves cameras back along their axes, as far as it takes, until they see the whole body in every frame."""
    focal_px, centre_px, size_px = cameras.lens[:, :2], cameras.lens[:, 2:4], cameras.lens[:, 9:]
    widest_ray = MARGIN * torch.minimum(centre_px, size_px - centre_px) / focal_px
    depth_needed_m = (joints_camera_m[..., :2].abs() / rearrange(widest_ray, "w side -> w 1 1 side")).amax(-1)
    missing_m = depth_needed_m.clamp(min=NEAREST_M) - joints_camera_m[..., 2]
    back_m = missing_m.amax((1, 2)).clamp(min=0)
    return torch.cat([joints_camera_m[..., :2], joints_camera_m[..., 2:] + rearrange(back_m, "w -> w 1 1 1")], -1)


def project_windows(
    joints_camera_m: Float[Tensor, "W T 17 3"], lens: Float[Tensor, "W 11"]
) -> Float[Tensor, "W T 17 2"]:
    """Returns the pixels of the joints in each window's lens."""
    lens = rearrange(lens, "w values -> w 1 1 values")
    rays = joints_camera_m[..., :2] / joints_camera_m[..., 2:]
    pixels: Tensor = pixels_from_rays(rays, lens[..., :2], lens[..., 2:4], lens[..., 4:7], lens[..., 7:9])
    return pixels


def _detect(
    scene: MocapScene,
    pixels: Float[Tensor, "W T 17 2"],
    cameras: Cameras,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "W T 17 2"], Float[Tensor, "W T 17"]]:
    """Keypoints and confidence of a detector of varying quality, some joints not seen."""
    windows, frames = pixels.shape[:2]
    pixels, confidence = simulate_detector(
        pixels,
        rate_hz=scene.rate_hz,
        level=draw_uniform(augmentation.detector_level, windows, generator),
        half_width_px=cameras.lens[:, 9] / 2,
        generator=generator,
    )
    if augmentation.missing_joints > 0:
        hidden = draw_unseen_joints(
            windows, frames, share=augmentation.missing_joints, rate_hz=scene.rate_hz, generator=generator
        )
        interpolated = torch.rand(windows, generator=generator, device=generator.device) < INTERPOLATED_SHARE
        pixels, confidence = hide_joints(pixels, confidence, hidden, interpolated)
    return pixels, confidence
