"""Motion capture without video, filmed: four virtual cameras stand around each take, as those of Human3.6M did.

Every random choice is seeded by the name of the take (and camera), so a take looks the same whatever else is prepared.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from pipeline.mocap.detector_noise import detect
from pipeline.mocap.lenses import LENSES
from pipeline.poses.clips import Clip
from pipeline.poses.frames import find_runs, resample
from pipeline.poses.geometry import Camera, camera_from_world_looking_at, frames_in_view, project

# Around the subject in Human3.6M the cameras stand at these azimuths, 4.5 to 6 m away and 1.5 to 1.8 m high.
AZIMUTHS_DEG = (70.0, -70.0, 110.0, -110.0)
AZIMUTH_JITTER_DEG = 15.0
DISTANCE_M = (4.5, 6.0)
HEIGHT_M = (1.5, 1.8)
AIM_HEIGHT_M = 0.9


@dataclass(frozen=True)
class Take:
    """One recording of one person. `split` is the published one: "train" or "test"."""

    name: str
    subset: str
    action: str
    split: str
    subject: str
    rate_hz: float
    joints_world_m: Float[np.ndarray, "F 17 3"]


def generator_named(*names: str) -> np.random.Generator:
    """A random generator whose seed is the hash of `names`."""
    digest = hashlib.sha256("/".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def place_cameras(take_name: str, joints_world_m: Float[np.ndarray, "F J 3"]) -> list[Camera]:
    """Four cameras aimed at the middle of the root's path, each with a lens of Human3.6M."""
    path_m = joints_world_m[:, 0, :2]
    target_m = np.append((path_m.min(0) + path_m.max(0)) / 2, AIM_HEIGHT_M)
    heading_deg = generator_named(take_name).uniform(0, 360)
    cameras = []
    for lens, azimuth_deg in zip(LENSES, AZIMUTHS_DEG, strict=True):
        random = generator_named(take_name, lens.name)
        azimuth = np.radians(heading_deg + azimuth_deg + random.uniform(-AZIMUTH_JITTER_DEG, AZIMUTH_JITTER_DEG))
        distance_m = random.uniform(*DISTANCE_M)
        across_m = distance_m * np.array([np.cos(azimuth), np.sin(azimuth)])
        position_m = np.append(target_m[:2] + across_m, random.uniform(*HEIGHT_M))
        cameras.append(replace(lens, camera_from_world=camera_from_world_looking_at(position_m, target_m)))
    return cameras


def film(take: Take, *, rate_hz: float, detector_level: float | None) -> tuple[list[Clip], dict[str, int]]:
    """The clips of a take: of every camera, every stretch of frames in which it sees the whole body.

    With `detector_level` None the keypoints are exact projections, else those of a simulated detector with confidence.
    Also returned: for each camera the number of frames that it does not see whole, which are in no clip.
    """
    joints_world_m = resample(take.joints_world_m, rate_hz=take.rate_hz, wanted_hz=rate_hz)
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
            random = generator_named(take.name, camera.name, "detector")
            half_width_px = camera.width_px / 2
            pixels, confidence = detect(
                pixels, rate_hz=rate_hz, level=detector_level, half_width_px=half_width_px, random=random
            )
        for stretch in find_runs(seen):
            clips.append(
                Clip(
                    take=take.name,
                    subset=take.subset,
                    subject=f"{take.subset}-{take.subject}",
                    action=take.action,
                    camera=camera,
                    rate_hz=rate_hz,
                    first_frame=stretch.start,
                    pixels=pixels[stretch].astype(np.float32),
                    joints_camera_m=joints_camera_m[stretch].astype(np.float32),
                    confidence=None if confidence is None else confidence[stretch].astype(np.float32),
                )
            )
    return clips, dropped
