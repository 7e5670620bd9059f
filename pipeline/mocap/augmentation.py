"""Augmentation: every training window of motion capture is seen anew by another camera, as another body and motion.

Only motion capture allows it: of a video there is one view. Everything is drawn from one seed per training step.

Windows are planes here, of joints, coordinates, frames and windows, whose long inner axes a processor can vectorise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.config.params import Augmentation
from pipeline.mocap.cameras import Cameras, aim_point, draw_cameras, draw_uniform, lens_values
from pipeline.mocap.detector import draw_unseen_joints, hide_joints, in_planes, simulate_detector
from pipeline.mocap.lenses import LENSES
from pipeline.mocap.motions import bend_bodies
from pipeline.mocap.people import draw_people
from pipeline.mocap.takes import Take
from pipeline.poses.geometry import pixels_from_rays
from pipeline.poses.skeleton import H36M_17
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

    joints_m = torch.from_numpy(np.concatenate([take.joints_world_m for take in takes]))
    return MocapScene(
        clip_first=first.to(device),
        clip_last=last.to(device),
        joints_world_m=joints_m.float().to(device),
        target_m=on_device([aim_point(take.joints_world_m) for take in takes]),
        lenses=on_device([lens_values(camera) for camera in LENSES]),
        rate_hz=rates_hz.pop(),
        with_detector=with_detector,
    )


def augment_windows(
    scene: MocapScene, windows: Windows, augmentation: Augmentation, *, frames: int, seed: int
) -> tuple[Float[Tensor, "W T 17 C"], Float[Tensor, "W T 17 3"], Bool[Tensor, "W T"]]:
    """Returns the keypoints on the screen, the root-relative poses, and which frames count, of augmented windows.

    Those to be flipped are mirrored. Frames that repeat a take's end do not count. What is drawn depends on `seed`
    alone.
    """
    generator = torch.Generator(device=scene.clip_first.device).manual_seed(seed)
    joints_m, counted = play_at_other_speeds(scene, windows, augmentation.speed, frames=frames, generator=generator)
    joints_m = bend_bodies(joints_m, augmentation, generator)
    if augmentation.people > 0:
        joints_m = draw_people(joints_m, augmentation.people, generator)
    joints_m = augmentation.size * joints_m  # the floor stays where it is
    cameras = draw_cameras(scene.target_m[windows.clip], scene.lenses, augmentation, generator)
    joints_m = step_back(see(joints_m, cameras), cameras)
    pixels = project_windows(joints_m, cameras.lens)
    size_px = rearrange(cameras.lens[:, 9:], "w side -> side 1 w")
    channels = []
    if scene.with_detector:
        pixels, confidence = _detect(scene, pixels, cameras, augmentation, generator)
        channels = [confidence[:, None]]
    screen = torch.cat([(2 * pixels - size_px) / size_px[:1], *channels], 1)
    mirrored = (mirror_planes(values, windows.flipped) for values in (screen, joints_m - joints_m[0]))
    screen, pose_m = (rearrange(values, "j x t w -> w t j x").contiguous() for values in mirrored)
    return screen, pose_m, counted


def mirror_planes(values: Float[Tensor, "17 D T W"], flipped: Bool[Tensor, " W"]) -> Float[Tensor, "17 D T W"]:
    """Returns the windows with the `flipped` ones mirrored: x negated, left and right joints exchanged."""
    mirrored = values.index_select(0, torch.tensor(H36M_17.mirrored, device=values.device))
    mirrored[:, 0] *= -1
    return torch.lerp(values, mirrored, flipped.to(values.dtype))  # exactly one or the other, and quick


def play_at_other_speeds(
    scene: MocapScene, windows: Windows, change: float, *, frames: int, generator: torch.Generator
) -> tuple[Float[Tensor, "17 3 T W"], Bool[Tensor, "W T"]]:
    """Returns the windows played 1 - change to 1 + change times as fast, linear between frames, and which count."""
    if change == 0:
        index, counted = window_index(scene, windows, frames=frames)
        return in_planes(scene.joints_world_m[index]), counted
    speed = draw_uniform((1 - change, 1 + change), len(windows), generator)
    offset = torch.arange(frames, device=speed.device) - frames // 2
    wanted = windows.middle[:, None] + speed[:, None] * offset
    first, last = scene.clip_first[windows.clip][:, None], scene.clip_last[windows.clip][:, None]
    before = wanted.floor().long()
    start_m, end_m = (scene.joints_world_m[index.clamp(first, last)] for index in (before, before + 1))
    joints_m = torch.lerp(start_m, end_m, rearrange(wanted - before, "w t -> w t 1 1"))
    return in_planes(joints_m), (wanted >= first) & (wanted <= last)


def see(joints_world_m: Float[Tensor, "17 3 T W"], cameras: Cameras) -> Float[Tensor, "17 3 T W"]:
    """Returns the joints in the frame of each window's camera."""
    x_m, y_m, z_m = (joints_world_m - rearrange(cameras.position_m, "w x -> x 1 w")).unbind(1)
    axes = rearrange(cameras.camera_from_world, "w c x -> c x w").contiguous()
    return torch.stack([axis[0] * x_m + axis[1] * y_m + axis[2] * z_m for axis in axes], 1)


def step_back(joints_camera_m: Float[Tensor, "17 3 T W"], cameras: Cameras) -> Float[Tensor, "17 3 T W"]:
    """Moves cameras back along their axes, as far as it takes, until they see the whole body in every frame."""
    focal_px, centre_px, size_px = cameras.lens[:, :2], cameras.lens[:, 2:4], cameras.lens[:, 9:]
    widest_ray = MARGIN * torch.minimum(centre_px, size_px - centre_px) / focal_px
    depth_needed_m = (joints_camera_m[:, :2].abs() / rearrange(widest_ray, "w side -> side 1 w")).amax(1)
    missing_m = depth_needed_m.clamp(min=NEAREST_M) - joints_camera_m[:, 2]
    moved_m = joints_camera_m.clone()
    moved_m[:, 2] += missing_m.amax(0).amax(0).clamp(min=0)
    return moved_m


def project_windows(
    joints_camera_m: Float[Tensor, "17 3 T W"], lens: Float[Tensor, "W 11"]
) -> Float[Tensor, "17 2 T W"]:
    """Returns the pixels of the joints in each window's lens."""
    lens = lens.T.contiguous().T  # in planes, too
    rays = rearrange(joints_camera_m[:, :2] / joints_camera_m[:, 2:], "j x t w -> j t w x")
    pixels: Tensor = pixels_from_rays(rays, lens[..., :2], lens[..., 2:4], lens[..., 4:7], lens[..., 7:9])
    return rearrange(pixels, "j t w x -> j x t w")


def _detect(
    scene: MocapScene,
    pixels: Float[Tensor, "17 2 T W"],
    cameras: Cameras,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "17 2 T W"], Float[Tensor, "17 T W"]]:
    """Keypoints and confidence of a detector of varying quality, some joints not seen."""
    frames, windows = pixels.shape[2:]
    pixels, confidence = simulate_detector(
        rearrange(pixels, "j x t w -> w t j x"),
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
    return in_planes(pixels), in_planes(confidence)
