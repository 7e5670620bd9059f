"""Describes scenes to look at: moving skeletons in an upright world, with the keypoints they were lifted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.poses.clips import Clip
from pipeline.poses.geometry import Camera, RigidTransform
from pipeline.poses.metrics import MM_PER_M
from pipeline.poses.row_metrics import ExampleClips
from pipeline.poses.skeleton import SKELETONS, Skeleton

SHOWN_S = 4.0  # length of an example clip
ASSUMED_HZ = 30.0  # of clips whose rate nobody published
WORLD_FROM_LEVEL_CAMERA = RigidTransform(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]))


@dataclass(frozen=True)
class Body:
    """A moving skeleton in a scene: Z up, metres, NaN in frames without it. `faint` is for a truth behind a prediction.

    `pixels` are the keypoints that it was lifted from, in `in_skeleton`, where there are any.
    """

    name: str
    skeleton: Skeleton
    joints_world_m: Float[np.ndarray, "F J 3"]
    faint: bool = False
    pixels: Float[np.ndarray, "F J_in 2"] | None = None
    in_skeleton: Skeleton | None = None


@dataclass(frozen=True)
class Scene:
    """Bodies of equally many frames to be played together, and a caption that says what they are."""

    title: str
    caption: str
    rate_hz: float
    bodies: tuple[Body, ...]
    image_size_px: tuple[int, int] | None = None
    error_mm: Float[np.ndarray, " F"] | None = None  # over time, where the truth is known


def clip_scenes(row: str, examples: ExampleClips) -> list[Scene]:
    """Returns the example clips as scenes to be played."""
    skeleton = SKELETONS[examples.skeleton]
    scenes = []
    for clip in examples.clips:
        rate = "" if clip.rate_known else f" Rate unknown, taken as {ASSUMED_HZ:g} Hz."
        bodies = (
            Body("prediction", skeleton, np.array(clip.predicted_mm) / MM_PER_M),
            Body("truth", skeleton, np.array(clip.true_mm) / MM_PER_M, faint=True),
        )
        scenes.append(
            Scene(
                title=f"{clip.rank.capitalize()}: {clip.action}, {clip.mpjpe_mm:.1f} mm",
                caption=f"{row}, clip {clip.clip}. Colour: prediction of run {examples.seed}; grey: truth.{rate}",
                rate_hz=clip.rate_hz,
                bodies=bodies,
                error_mm=np.array(clip.error_mm),
            )
        )
    return scenes


def has_known_place(camera: Camera) -> bool:
    """Returns whether a camera's place in the world is known: an unknown one is the identity, which no dataset has."""
    rotation = camera.camera_from_world.rotation
    return not np.array_equal(rotation, np.eye(3)) or bool(camera.camera_from_world.translation_m.any())


def world_from_camera_of(clip: Clip, joints_camera_m: Float[np.ndarray, "F J 3"]) -> RigidTransform:
    """Returns the world from the clip's camera; a camera of unknown place is taken as level over the lowest feet."""
    if has_known_place(clip.camera):
        return clip.camera.camera_from_world.inverse()
    lowest_m = np.percentile(WORLD_FROM_LEVEL_CAMERA.apply(joints_camera_m)[..., 2].min(1), 5)
    return RigidTransform(WORLD_FROM_LEVEL_CAMERA.rotation, np.array([0.0, 0.0, -lowest_m]))
