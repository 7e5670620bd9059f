"""Values of lifting: people as a 2D detector saw them, and the same people in 3D."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipeline.poses.geometry import Camera, RigidTransform
from pipeline.poses.skeleton import Skeleton


@dataclass(frozen=True)
class Track:
    """One person in consecutive frames of a recording, as a detector saw him.

    Joints are those of the layout called `layout` (see keypoint_layouts.py). A joint that was not seen has NaN pixels
    and confidence 0; frames in which the person was not seen have no joint that was. Confidence runs from 0 to 1.
    """

    person: str
    layout: str
    first_frame: int
    pixels: Float[np.ndarray, "F J 2"]
    confidence: Float[np.ndarray, "F J"]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Recording:
    """What a keypoint file tells: its people, and as much about the video as is written there (else None)."""

    source: str
    frames: int
    tracks: tuple[Track, ...]
    rate_hz: float | None = None
    image_size_px: tuple[int, int] | None = None  # width, height
    camera: Camera | None = None  # with its intrinsics, where the file has them


@dataclass(frozen=True)
class LiftedPerson:
    """One person in 3D, frame by frame at the recording's own rate. Frames that could not be lifted are NaN.

    `joints_camera_m` are relative to the root joint, in the camera frame; the root's path in the camera frame is
    `root_camera_m`. `pixels` and `confidence` are what the model saw, in `Lifted.in_skeleton`; `filled` marks keypoints
    that were not seen but filled in from the frames around.
    """

    person: str
    first_frame: int
    pixels: Float[np.ndarray, "F J_in 2"]
    confidence: Float[np.ndarray, "F J_in"]
    filled: Bool[np.ndarray, "F J_in"]
    joints_camera_m: Float[np.ndarray, "F J_out 3"]
    root_camera_m: Float[np.ndarray, "F 3"]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Lifted:
    """A recording lifted to 3D.

    `world_from_camera` turns the camera frame (x right, y down, z forward) to an upright world: Z up, metres, feet at
    Z = 0. `assumed` says in words what was not known but assumed, such as the lens; `card` is the model's.
    """

    source: str
    frames: int
    rate_hz: float
    image_size_px: tuple[int, int]
    in_skeleton: Skeleton
    out_skeleton: Skeleton
    camera: Camera
    world_from_camera: RigidTransform
    people: tuple[LiftedPerson, ...]
    assumed: tuple[str, ...]
    card: dict[str, Any]

    def joints_world_m(self, person: LiftedPerson) -> Float[np.ndarray, "F J_out 3"]:
        """The person's joints where he is: Z up, metres, NaN in frames that could not be lifted."""
        return self.world_from_camera.apply(person.joints_camera_m + person.root_camera_m[:, None])
