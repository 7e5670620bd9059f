"""Motion capture filmed anew for every training window: another camera, body, motion and speed, new noise.

Only motion capture allows it: of a video there is one view. Cameras stand as in virtual_cameras.py, aimed at the same
point of the room; a window in which the new camera does not see the whole body keeps its own view.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipeline.config.params import Refilming
from pipeline.mocap.bodies import another_body, another_motion, around_one, uniform
from pipeline.mocap.cameras import AIM_HEIGHT_M
from pipeline.mocap.fresh_noise import detect_windows, hidden_joints, hide_joints
from pipeline.mocap.lenses import LENSES
from pipeline.poses.clips import Clip
from pipeline.poses.geometry import Camera, project
from pipeline.poses.windows import FrameTable, Windows, end_to_end, frames_at, window_index

FILLED = 0.7  # of the windows show joints that are not seen where the frames around suggest; see `hide_joints`
NEAREST_M = 0.5  # no joint of a new view that is used is nearer; keeps those of the others finite


@dataclass(frozen=True)
class Cameras:
    """Cameras with lenses: the rotation, the position in the world, and in pixels what `_lens` lists."""

    camera_from_world: Float[Tensor, "K 3 3"]
    position_m: Float[Tensor, "K 3"]
    lens: Float[Tensor, "K 11"]

    def __getitem__(self, chosen: Int[Tensor, " W"]) -> Cameras:
        return Cameras(self.camera_from_world[chosen], self.position_m[chosen], self.lens[chosen])


@dataclass(frozen=True)
class Room:
    """What it takes to film the clips of a FrameTable anew: the frames in the world (Z up, metres) and the cameras.

    `target_m` is where each clip's camera looks, `noise_px` the errors of its keypoints. `detected` says whether they
    are the simulated detector's.
    """

    joints_world_m: Float[Tensor, "N 17 3"]
    noise_px: Float[Tensor, "N 17 2"]
    cameras: Cameras  # of the clips
    target_m: Float[Tensor, "K 3"]
    lenses: Float[Tensor, "L 11"]
    rate_hz: float
    detected: bool


def room_of(clips: Sequence[Clip], *, device: torch.device, mapped_in: Path | None = None) -> Room:
    """The room in which virtual cameras filmed the clips; its frames in files of `mapped_in`, as in `frame_table`.

    Raises ValueError if the clips are of different rates.
    """
    rates = {clip.rate_hz for clip in clips}
    rate_hz = next(iter(rates))
    if len(rates) != 1 or rate_hz is None:
        raise ValueError(f"expected clips of one known rate, found {rates}")
    transforms = [clip.camera.camera_from_world for clip in clips]

    def on_device(arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays).astype(np.float32)).to(device)

    def flat(name: str, of_clip: Callable[[Clip], np.ndarray]) -> Tensor:
        arrays = (of_clip(clip).astype(np.float32) for clip in clips)
        file = mapped_in and mapped_in / f"{name}.npy"
        return end_to_end(arrays, sum(map(len, clips)), device=device, file=file)

    return Room(
        joints_world_m=flat("joints_world_m", _joints_world_m),
        noise_px=flat("noise_px", lambda clip: clip.pixels - project(_joints_camera_m(clip), clip.camera)),
        cameras=Cameras(
            camera_from_world=on_device([transform.rotation for transform in transforms]),
            position_m=on_device([transform.inverse().translation_m for transform in transforms]),
            lens=on_device([_lens(clip.camera) for clip in clips]),
        ),
        target_m=on_device([_aimed_at(clip.camera) for clip in clips]),
        lenses=on_device([_lens(camera) for camera in LENSES]),
        rate_hz=rate_hz,
        detected=clips[0].confidence is not None,
    )


def _joints_camera_m(clip: Clip) -> Float[np.ndarray, "F 17 3"]:
    return clip.joints_camera_m.astype(np.float64)


def _joints_world_m(clip: Clip) -> Float[np.ndarray, "F 17 3"]:
    return clip.camera.camera_from_world.inverse().apply(_joints_camera_m(clip))


def _aimed_at(camera: Camera) -> Float[np.ndarray, "3"]:
    """Where the optical axis meets the height that virtual cameras are aimed at."""
    position_m = camera.camera_from_world.inverse().translation_m
    forward = camera.camera_from_world.rotation[2]
    return position_m + (AIM_HEIGHT_M - position_m[2]) / forward[2] * forward


def _lens(camera: Camera) -> Float[np.ndarray, "11"]:
    """Focal lengths (2), centre (2), radial (3) and tangential (2) distortion, width and height."""
    assert camera.focal_px is not None
    assert camera.centre_px is not None
    size_px = (camera.width_px, camera.height_px)
    return np.array([*camera.focal_px, *camera.centre_px, *camera.radial, *camera.tangential, *size_px])


def refilm(
    room: Room, table: FrameTable, windows: Windows, refilming: Refilming, *, frames: int, seed: int
) -> tuple[Float[Tensor, "W T 17 C"], Float[Tensor, "W T 17 3"], Bool[Tensor, "W T"]]:
    """As `gather_windows`: keypoints and poses of the windows, and which frames are their own; filmed anew.

    What is drawn depends on `seed` alone.
    """
    generator = torch.Generator(device=table.clip_first.device).manual_seed(seed)
    index, own = window_index(table, windows, frames=frames)
    joints_m, played_own = frames_at(room.joints_world_m, index), own
    if refilming.speed > 0:
        joints_m, played_own = _at_another_speed(room, table, windows, frames, refilming.speed, generator)
    joints_m = another_motion(joints_m, refilming, generator)
    joints_m = another_body(joints_m, refilming, generator)
    cameras = room.cameras[windows.clip]
    if refilming.new_cameras:
        cameras = new_cameras(room, windows, refilming, generator)
    away_m = joints_m - rearrange(cameras.position_m, "w x -> w 1 1 x")
    joints_m = einsum(cameras.camera_from_world, away_m, "w c x, w t j x -> w t j c")
    own_screen = frames_at(table.screen, index)
    exact_px = project_windows(joints_m, cameras.lens)
    size_px = rearrange(cameras.lens[:, 9:], "w side -> w 1 1 side")
    in_view = ((exact_px >= 0) & (exact_px < size_px) & (joints_m[..., 2:] > NEAREST_M)).all((1, 2, 3))
    pixels, confidence = exact_px + frames_at(room.noise_px, index), own_screen[..., 2:]
    if room.detected:
        pixels, confidence = _detected(room, exact_px, pixels, confidence, cameras, refilming, generator)
    screen = torch.cat([(2 * pixels - size_px) / size_px[..., :1], confidence], -1)
    used = rearrange(in_view, "w -> w 1 1 1")
    return (
        torch.where(used, screen, own_screen),
        torch.where(used, joints_m - joints_m[:, :, :1], frames_at(table.pose_m, index)),
        torch.where(in_view[:, None], played_own, own),
    )


def _detected(
    room: Room,
    exact_px: Float[Tensor, "W T 17 2"],
    pixels: Float[Tensor, "W T 17 2"],
    confidence: Float[Tensor, "W T 17 1"],
    cameras: Cameras,
    refilming: Refilming,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "W T 17 2"], Float[Tensor, "W T 17 1"]]:
    """Keypoints and confidence with new errors, or the ones they have, and some joints not seen."""
    windows, frames = pixels.shape[:2]
    scores = confidence[..., 0]
    if refilming.new_noise:
        level = uniform(refilming.detector_level, windows, generator)
        half_width_px = cameras.lens[:, 9] / 2
        pixels, scores = detect_windows(
            exact_px, rate_hz=room.rate_hz, level=level, half_width_px=half_width_px, generator=generator
        )
    if refilming.missing_joints > 0:
        hidden = hidden_joints(
            windows, frames, share=refilming.missing_joints, rate_hz=room.rate_hz, generator=generator
        )
        filled = torch.rand(windows, generator=generator, device=generator.device) < FILLED
        pixels, scores = hide_joints(pixels, scores, hidden, filled)
    return pixels, scores[..., None]


def _at_another_speed(
    room: Room, table: FrameTable, windows: Windows, frames: int, change: float, generator: torch.Generator
) -> tuple[Float[Tensor, "W T 17 3"], Bool[Tensor, "W T"]]:
    """The windows played 1 - change to 1 + change times as fast, linear between frames."""
    speed = around_one(change, len(windows), generator)
    offset = torch.arange(frames, device=speed.device) - frames // 2
    wanted = windows.middle[:, None] + speed[:, None] * offset
    first, last = table.clip_first[windows.clip][:, None], table.clip_last[windows.clip][:, None]
    before = wanted.floor().long()
    share = rearrange(wanted - before, "w t -> w t 1 1")
    start, end = (frames_at(room.joints_world_m, index.clamp(first, last)) for index in (before, before + 1))
    return torch.lerp(start, end, share), (wanted >= first) & (wanted <= last)


def new_cameras(room: Room, windows: Windows, refilming: Refilming, generator: torch.Generator) -> Cameras:
    """Cameras anywhere around the targets and aimed at them, upright but for the roll, each with one of the lenses."""
    count = len(windows)
    azimuth = uniform((0.0, 2 * math.pi), count, generator)
    distance_m = uniform(refilming.distance_m, count, generator)
    height_m = uniform(refilming.height_m, count, generator)
    target_m = room.target_m[windows.clip]
    across_m = distance_m[:, None] * torch.stack([azimuth.cos(), azimuth.sin()], -1)
    position_m = torch.cat([target_m[:, :2] + across_m, height_m[:, None]], -1)
    forward = F.normalize(target_m - position_m, dim=-1)
    up = forward.new_tensor([[0.0, 0.0, 1.0]]).expand_as(forward)
    right = F.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    if refilming.roll_degrees > 0:
        roll = uniform((-refilming.roll_degrees, refilming.roll_degrees), count, generator).deg2rad()[:, None]
        right, down = roll.cos() * right + roll.sin() * down, roll.cos() * down - roll.sin() * right
    camera_from_world = torch.stack([right, down, forward], 1)
    lens = torch.randint(len(room.lenses), (count,), generator=generator, device=generator.device)
    return Cameras(camera_from_world, position_m, room.lenses[lens])


def project_windows(
    joints_camera_m: Float[Tensor, "W T 17 3"], lens: Float[Tensor, "W 11"]
) -> Float[Tensor, "W T 17 2"]:
    """Pixels of the joints in each window's lens, as `geometry.project`; joints nearer than NEAREST_M as if there."""
    lens = rearrange(lens, "w values -> w 1 1 values")
    focal_px, centre_px, radial, tangential = lens[..., :2], lens[..., 2:4], lens[..., 4:7], lens[..., 7:9]
    rays = joints_camera_m[..., :2] / joints_camera_m[..., 2:].clamp(min=NEAREST_M)
    r2 = (rays**2).sum(-1, keepdim=True)
    powers = torch.cat([r2, r2**2, r2**3], -1)
    scale = 1 + (radial * powers).sum(-1, keepdim=True) + (tangential * rays).sum(-1, keepdim=True)
    return focal_px * (rays * scale + tangential * r2) + centre_px
