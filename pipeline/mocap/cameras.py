"""Virtual cameras around motion capture that has no video: four fixed ones as in Human3.6M, or new ones in training.

What the fixed cameras see depends on the name of the take (and camera) alone, whatever else is prepared.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.config.params import Augmentation
from pipeline.mocap.detector import simulate_detector
from pipeline.mocap.lenses import LENSES
from pipeline.mocap.takes import TAKES, Take, read_take_split
from pipeline.poses.clips import Clip, read_split
from pipeline.poses.frames import find_runs
from pipeline.poses.geometry import Camera, RigidTransform, frames_in_view, project, rotation_looking_along

# Around the subject in Human3.6M the cameras stand at these azimuths, 4.5 to 6 m away and 1.5 to 1.8 m high.
AZIMUTHS_DEG = (70.0, -70.0, 110.0, -110.0)
AZIMUTH_JITTER_DEG = 15.0
DISTANCE_M = (4.5, 6.0)
HEIGHT_M = (1.5, 1.8)
AIM_HEIGHT_M = 0.9  # half of a standing person


@dataclass(frozen=True)
class Cameras:
    """A batch of cameras: rotations from the world, positions in it, and each lens as `lens_values` lists it."""

    camera_from_world: Float[Tensor, "W 3 3"]
    position_m: Float[Tensor, "W 3"]
    lens: Float[Tensor, "W 11"]


def generator_named(*names: str) -> np.random.Generator:
    """Returns a random generator whose seed is the hash of `names`."""
    digest = hashlib.sha256("/".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def aim_point(joints_world_m: Float[np.ndarray, "F J 3"]) -> Float[np.ndarray, "3"]:
    """Returns the point that the cameras of a take look at: the middle of the root's path, at AIM_HEIGHT_M."""
    path_m = joints_world_m[:, 0, :2]
    return np.append((path_m.min(0) + path_m.max(0)) / 2, AIM_HEIGHT_M)


def stand_around(
    target_m: Float[Tensor, "W 3"],
    azimuth: Float[Tensor, " W"],
    distance_m: Float[Tensor, " W"],
    height_m: Float[Tensor, " W"],
) -> tuple[Float[Tensor, "W 3 3"], Float[Tensor, "W 3"]]:
    """Returns rotations and positions of upright cameras that look at the targets.

    Each stands at `azimuth` (radians, from the world's x towards its y), `distance_m` away on the ground and `height_m`
    above the floor.
    """
    across_m = distance_m[:, None] * torch.stack([azimuth.cos(), azimuth.sin()], -1)
    position_m = torch.cat([target_m[:, :2] + across_m, height_m[:, None]], -1)
    return rotation_looking_along(target_m - position_m), position_m


def place_cameras(take_name: str, joints_world_m: Float[np.ndarray, "F J 3"]) -> list[Camera]:
    """Returns four cameras around a take, each with a lens of Human3.6M."""
    target_m = torch.from_numpy(aim_point(joints_world_m.astype(np.float64)))[None]
    heading_deg = generator_named(take_name).uniform(0, 360)
    cameras = []
    for lens, azimuth_deg in zip(LENSES, AZIMUTHS_DEG, strict=True):
        random = generator_named(take_name, lens.name)
        azimuth = np.radians(heading_deg + azimuth_deg + random.uniform(-AZIMUTH_JITTER_DEG, AZIMUTH_JITTER_DEG))
        place = (azimuth, random.uniform(*DISTANCE_M), random.uniform(*HEIGHT_M))
        rotation, position_m = (
            values[0].numpy() for values in stand_around(target_m, *torch.tensor(place, dtype=torch.float64)[:, None])
        )
        cameras.append(replace(lens, camera_from_world=RigidTransform(rotation, -rotation @ position_m)))
    return cameras


def draw_cameras(
    target_m: Float[Tensor, "W 3"],
    lenses: Float[Tensor, "L 11"],
    augmentation: Augmentation,
    generator: torch.Generator,
) -> Cameras:
    """Draws a camera for each target: anywhere around it, upright but for the roll, with one of the lenses."""
    count = len(target_m)
    azimuth = draw_uniform((0.0, 2 * math.pi), count, generator)
    distance_m = draw_uniform(augmentation.distance_m, count, generator)
    height_m = draw_uniform(augmentation.height_m, count, generator)
    rotation, position_m = stand_around(target_m, azimuth, distance_m, height_m)
    if augmentation.roll_degrees > 0:
        widest = augmentation.roll_degrees
        roll = draw_uniform((-widest, widest), count, generator).deg2rad()[:, None]
        right, down, forward = rotation.unbind(1)
        right, down = roll.cos() * right + roll.sin() * down, roll.cos() * down - roll.sin() * right
        rotation = torch.stack([right, down, forward], 1)
    lens = torch.randint(len(lenses), (count,), generator=generator, device=generator.device)
    return Cameras(rotation, position_m, lenses[lens])


def draw_uniform(ends: tuple[float, float], count: int, generator: torch.Generator) -> Float[Tensor, " W"]:
    """Draws `count` numbers between the two ends."""
    low, high = ends
    return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)


def lens_values(camera: Camera) -> Float[np.ndarray, "11"]:
    """Returns focal lengths (2), centre (2), radial (3) and tangential (2) distortion, width and height in pixels."""
    assert camera.focal_px is not None
    assert camera.centre_px is not None
    size_px = (camera.width_px, camera.height_px)
    return np.array([*camera.focal_px, *camera.centre_px, *camera.radial, *camera.tangential, *size_px])


def film(take: Take, *, detector_level: float | None) -> tuple[list[Clip], dict[str, int]]:
    """Returns the clips of a take: for each camera every run of frames in which it sees the whole body.

    With `detector_level` None the keypoints are exact projections, else those of a simulated detector with confidence.
    Also returned: for each camera the number of frames that it does not see whole, which are in no clip.
    """
    joints_world_m = np.asarray(take.joints_world_m, dtype=np.float64)
    clips: list[Clip] = []
    dropped: dict[str, int] = {}
    for camera in place_cameras(take.name, joints_world_m):
        joints_camera_m = camera.camera_from_world.apply(joints_world_m)
        seen = frames_in_view(joints_camera_m, camera)
        dropped[camera.name] = int((~seen).sum())
        pixels = np.full((*joints_camera_m.shape[:2], 2), np.nan)
        pixels[seen] = project(joints_camera_m[seen], camera)
        confidence = None
        if detector_level is not None:
            pixels, confidence = _detect(pixels, take, camera, level=detector_level)
        for run in find_runs(seen):
            clips.append(
                Clip(
                    take=take.name,
                    subset=take.subset,
                    subject=take.subject,
                    action=take.action,
                    camera=camera,
                    rate_hz=take.rate_hz,
                    first_frame=run.start,
                    pixels=pixels[run].astype(np.float32),
                    joints_camera_m=joints_camera_m[run].astype(np.float32),
                    confidence=None if confidence is None else confidence[run].astype(np.float32),
                )
            )
    return clips, dropped


def _detect(
    pixels: Float[np.ndarray, "F 17 2"], take: Take, camera: Camera, *, level: float
) -> tuple[Float[np.ndarray, "F 17 2"], Float[np.ndarray, "F 17"]]:
    seed = int(generator_named(take.name, camera.name, "detector").integers(1 << 62))
    found, confidence = simulate_detector(
        torch.from_numpy(pixels)[None],
        rate_hz=take.rate_hz,
        level=torch.tensor([level], dtype=torch.float64),
        half_width_px=torch.tensor([camera.width_px / 2], dtype=torch.float64),
        generator=torch.Generator().manual_seed(seed),
    )
    return found[0].numpy(), confidence[0].numpy()


def read_clips(folder: Path, *, detector_level: float | None) -> list[Clip]:
    """Reads the clips of a prepared split: those of video as they are, takes of motion capture as the cameras see them.

    Raises UserError if a file is missing or damaged.
    """
    if not (folder / TAKES).exists():
        return read_split(folder)
    return [clip for take in read_take_split(folder) for clip in film(take, detector_level=detector_level)[0]]
