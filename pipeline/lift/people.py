"""Values of lifting: what a 2D detector saw, the people in it, and the same people in 3D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from pipeline.poses.geometry import Camera, RigidTransform
from pipeline.poses.skeleton import Skeleton

# Standing heights in metres: one for everybody, one for each of some persons, or none known.
BodyHeights: TypeAlias = float | Mapping[str, float] | None


@dataclass(frozen=True)
class InputOptions:
    """What the user states about an input, which goes before what the file says; None is not stated.

    `format` is a name of pipeline.lift.formats.FORMATS, `layout` one of pipeline.lift.layouts.LAYOUTS, `units` one of
    pipeline.lift.reading.keypoints.UNITS. `detector` finds the people of a video, one of
    pipeline.lift.video.detectors.DETECTORS, with the model `detector_model`, None its own. `video` chooses one of
    several videos in the input. With `y_up` y counts from the bottom edge of the image. `highest_score` is the score
    that means certainty, where confidence does not run from 0 to 1. `overlay_on` is the video of keypoints, to draw
    people on.
    """

    format: str | None = None
    layout: str | None = None
    rate_hz: float | None = None
    image_size_px: tuple[int, int] | None = None  # width, height
    camera_file: Path | None = None
    detector: str = "mediapipe"
    detector_model: Path | None = None
    video: str | None = None
    units: str | None = None
    y_up: bool = False
    highest_score: float | None = None
    overlay_on: Path | None = None


@dataclass(frozen=True)
class LiftOptions:
    """Whom to lift (everybody if `persons` is None), through which lens, and how to smooth the result over time.

    The lens is given by `focal_px` or by `fov_deg`, the angle over the longer side of the image; it goes before the
    recording's camera. `smooth` is a name of pipeline.lift.body.smoothing.FILTERS; None does not smooth. People are
    scaled to the heights stated in `body_height_m`, see pipeline/lift/body/height.py; others stay as the model predicts
    them. With `lock_feet` feet stay in place while they rest, see pipeline/lift/body/feet.py. `force` lifts what
    pipeline.lift.plausibility doubts.
    """

    persons: tuple[str, ...] | None = None
    focal_px: float | None = None
    fov_deg: float | None = None
    smooth: str | None = None
    body_height_m: BodyHeights = None
    lock_feet: bool = False
    force: bool = False


@dataclass(frozen=True)
class Detection:
    """One person in one frame: x, y and the confidence of each joint, and the id that the file gives."""

    keypoints: Float[np.ndarray, "J 3"]
    person: str | None


@dataclass(frozen=True)
class Detections:
    """What a reader found in an input: by frame number the people seen in it, as the file has them.

    `layout` is that of the joints where the file or its format says it, as `layout_from` tells in words, and `joints`
    their names where the file has them; else the number of joints must tell. x and y are in `units`, see
    pipeline.lift.reading.keypoints, as `units_from` tells in words. `times_s` are when the frames, numbered from 0,
    were taken, if not at a constant rate. `notes` are what the user should know of the reading, such as files left out.
    """

    layout: str | None
    frames: dict[int, list[Detection]]
    image_size_px: tuple[int, int] | None = None
    rate_hz: float | None = None
    camera: Camera | None = None
    joints: tuple[str, ...] | None = None
    units: str = "pixels"
    units_from: str = "as in all such files; --units to change"
    notes: tuple[str, ...] = ()
    layout_from: str = "named in the file"
    times_s: Float[np.ndarray, " F"] | None = None


@dataclass(frozen=True)
class Track:
    """One person in consecutive frames of a recording, as a detector saw him.

    Joints are in the layout called `layout`, see pipeline/lift/layouts.py. A joint that was not seen has NaN pixels and
    confidence 0; in a frame in which the person was not seen all joints are so. Confidence runs from 0 to 1.
    """

    person: str
    layout: str
    first_frame: int
    pixels: Float[np.ndarray, "F J 2"]
    confidence: Float[np.ndarray, "F J"]

    def __len__(self) -> int:
        return len(self.pixels)

    def keep(self, seen: Bool[np.ndarray, "F J"]) -> Track:
        """Returns the track in which joints are not seen that are not `seen`."""
        pixels, confidence = np.where(seen[..., None], self.pixels, np.nan), np.where(seen, self.confidence, 0.0)
        return replace(self, pixels=pixels, confidence=confidence)


@dataclass(frozen=True)
class Recording:
    """The people of an input, and as much about the video as is known (else None).

    `reading` says in words how the input was read: its format, layout and units, and why.
    """

    source: str
    frames: int
    tracks: tuple[Track, ...]
    rate_hz: float | None = None
    image_size_px: tuple[int, int] | None = None  # width, height
    camera: Camera | None = None  # with its lens, where the file has it
    reading: tuple[str, ...] = ()


@dataclass(frozen=True)
class LiftedPerson:
    """One person in 3D, frame by frame at the recording's rate. Frames that could not be lifted are NaN.

    `joints_camera_m` are relative to the root joint, in the camera frame; the root's path in the camera frame is
    `root_camera_m`. `pixels` and `confidence` are what the model saw, in `Lifted.in_skeleton`; `filled` marks keypoints
    that were not seen but filled in from the frames around. `scale` is how many times the model's prediction he is, so
    that he has his stated height. In `swapped` frames the detector's left and right were exchanged back.
    """

    person: str
    first_frame: int
    pixels: Float[np.ndarray, "F J_in 2"]
    confidence: Float[np.ndarray, "F J_in"]
    filled: Bool[np.ndarray, "F J_in"]
    joints_camera_m: Float[np.ndarray, "F J_out 3"]
    root_camera_m: Float[np.ndarray, "F 3"]
    scale: float = 1.0
    swapped: int = 0

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def placed_camera_m(self) -> Float[np.ndarray, "F J_out 3"]:
        """The joints in the camera frame, not relative to the root."""
        return self.joints_camera_m + self.root_camera_m[:, None]


@dataclass(frozen=True)
class FilmedOn:
    """The video that people were seen in: its frames are theirs by number, if `numbered`, or else by time."""

    video: Path
    numbered: bool


@dataclass(frozen=True)
class Lifted:
    """A recording lifted to 3D.

    `world_from_camera` turns the camera frame (x right, y down, z forward) to an upright world: Z up, metres, feet at
    Z = 0. `assumed` says in words what was not known but assumed, such as the lens; `card` is the model's.
    `filmed_on` is the video, where it is at hand.
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
    filmed_on: FilmedOn | None = None

    def joints_world_m(self, person: LiftedPerson) -> Float[np.ndarray, "F J_out 3"]:
        """Returns the person's joints in the upright world, in metres, NaN in frames that could not be lifted."""
        return self.world_from_camera.apply(person.placed_camera_m)
