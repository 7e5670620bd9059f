"""Motion capture filmed under conditions that training did not have: other cameras, bodies, rates and detectors.

Cameras stand where pipeline/mocap/cameras.py puts them and look at the same point, but for what a `View` changes.
Several conditions are compared on the same instants of the same takes: those that every one of them sees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float

from pipeline.mocap.cameras import aim_point, generator_named, place_cameras
from pipeline.mocap.detector import draw_unseen_joints, hide_joints, simulate_detector
from pipeline.mocap.people import scale_bones
from pipeline.mocap.takes import Take
from pipeline.poses.clips import Clip
from pipeline.poses.frames import find_runs, resample
from pipeline.poses.geometry import Camera, RigidTransform, camera_from_world_looking_at, frames_in_view, project
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError

CAPTURE_HZ = 60.0  # rate of the takes that excerpts are cut from
GRID = 12  # one frame in so many is scored
SCORED_HZ = CAPTURE_HZ / GRID  # all rates of video have a frame at these instants
SCORED_S, CONTEXT_S = 1.0, 1.6  # of an excerpt: what is scored, and what is seen before and after it
LEGS, ARMS = (2, 3, 5, 6), (12, 13, 15, 16)  # joints whose bone to the parent is a thigh or shin, an upper or forearm
MissingShown = Literal["interpolated", "middle"]


@dataclass(frozen=True)
class View:
    """Where the camera is and who stands before it; None and 1 are as in training.

    Height and horizontal distance are the camera's, from the floor and from the point it looks at. `focal` multiplies
    the lens's focal length; `roll_deg` turns the image clockwise. `body`, `legs` and `arms` multiply lengths of bones.
    """

    height_m: float | None = None
    distance_m: float | None = None
    focal: float = 1.0
    roll_deg: float = 0.0
    body: float = 1.0
    legs: float = 1.0
    arms: float = 1.0


@dataclass(frozen=True)
class Condition:
    """How a take is filmed and shown to the model.

    `level` is the simulated detector's; None gives exact projections. `missing` is the share of keypoints of which
    nothing is known: they are shown "interpolated" between the frames around the gap, or in the "middle" of the frame's
    other joints, with confidence 0. The video has `rate_hz`, its keypoints are resampled to `shown_hz`. `frames` is the
    length of the clips, None for all there is.
    """

    rate_hz: float
    shown_hz: float
    level: float | None
    view: View = View()
    missing: float = 0.0
    missing_shown: MissingShown = "interpolated"
    frames: int | None = None


@dataclass(frozen=True)
class Excerpt:
    """Frames `first` to `last` of a take in one of its cameras, at CAPTURE_HZ; `scored` to `scored_last` are scored."""

    take: Take
    camera: int
    first: int
    scored: int
    scored_last: int
    last: int

    @property
    def scored_frames(self) -> int:
        """The number of instants of SCORED_HZ that are scored."""
        return (self.scored_last - self.scored) // GRID + 1


def change_body(joints_world_m: Float[np.ndarray, "F 17 3"], view: View) -> Float[np.ndarray, "F 17 3"]:
    """Returns the same motion by another body: bones are scaled, then all of it about the floor under its root.

    The lowest point of the whole motion keeps its height, whatever the length of the legs.
    """
    factor = torch.ones(1, len(H36M_17.joints), dtype=torch.float64)
    factor[:, LEGS], factor[:, ARMS] = view.legs, view.arms
    planes_m = rearrange(torch.from_numpy(joints_world_m), "f j x -> j x f 1")
    joints_m = rearrange(scale_bones(planes_m, factor[:, 1:]), "j x f 1 -> f j x").numpy().copy()
    joints_m[..., 2] += joints_world_m[..., 2].min() - joints_m[..., 2].min()
    floor_m = joints_m[:, :1] * [1.0, 1.0, 0.0]
    return floor_m + view.body * (joints_m - floor_m)


def place_changed_cameras(take: Take, view: View, *, rate_hz: float) -> list[Camera]:
    """Returns the four cameras of the take filmed at `rate_hz`, changed as `view` says."""
    joints_m = resample(take.joints_world_m, rate_hz=take.rate_hz, wanted_hz=rate_hz)
    return [_change_camera(camera, aim_point(joints_m), view) for camera in place_cameras(take.name, joints_m)]


def _change_camera(camera: Camera, target_m: Float[np.ndarray, "3"], view: View) -> Camera:
    position_m = camera.camera_from_world.inverse().translation_m
    across_m = position_m[:2] - target_m[:2]
    if view.distance_m is not None:
        across_m = across_m / np.linalg.norm(across_m) * view.distance_m
    height_m = position_m[2] if view.height_m is None else view.height_m
    upright = camera_from_world_looking_at(np.append(target_m[:2] + across_m, height_m), target_m)
    cosine, sine = np.cos(np.radians(view.roll_deg)), np.sin(np.radians(view.roll_deg))
    rolled = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    assert camera.focal_px is not None
    return replace(
        camera,
        focal_px=(view.focal * camera.focal_px[0], view.focal * camera.focal_px[1]),
        camera_from_world=RigidTransform(rolled @ upright.rotation, rolled @ upright.translation_m),
    )


def cut_excerpts(takes: Sequence[Take], views: Collection[View], *, rate_hz: float, per_action: int) -> list[Excerpt]:
    """Returns at most `per_action` excerpts of each action, spread evenly over its takes, cameras and time.

    The takes have CAPTURE_HZ; `rate_hz` is that of the prepared data, whose cameras are used.
    In all frames of an excerpt every one of `views` has the whole body in the image. Excerpts start, end and are scored
    at instants of SCORED_HZ. Raises UserError if an action has none.
    """
    found: dict[str, list[Excerpt]] = {}
    for take in takes:
        excerpts = found.setdefault(take.action, [])
        for camera, seen in enumerate(_frames_all_views_see(take, views, rate_hz=rate_hz)):
            excerpts.extend(Excerpt(take, camera, *frames) for frames in _cut(seen))
    for action, excerpts in found.items():
        if not excerpts:
            raise UserError(f"test takes: expected frames of action {action} that all views see, found none")
    kept = {action: min(len(excerpts), per_action) for action, excerpts in found.items()}
    return [
        excerpts[place * len(excerpts) // kept[action]]
        for action, excerpts in found.items()
        for place in range(kept[action])
    ]


def _frames_all_views_see(take: Take, views: Collection[View], *, rate_hz: float) -> list[Bool[np.ndarray, " F"]]:
    """Returns for each camera which frames at CAPTURE_HZ all views see whole."""
    seen = [np.ones(len(take), dtype=bool) for _ in range(4)]
    for view in views:
        joints_m = change_body(take.joints_world_m, view)
        for number, camera in enumerate(place_changed_cameras(take, view, rate_hz=rate_hz)):
            seen[number] &= frames_in_view(camera.camera_from_world.apply(joints_m), camera)
    return seen


def _cut(seen: Bool[np.ndarray, " F"]) -> Iterator[tuple[int, int, int, int]]:
    """First, first scored, last scored and last frame of the excerpts of all stretches seen."""
    scored, context = round(SCORED_S * SCORED_HZ), round(CONTEXT_S * SCORED_HZ)
    for run in find_runs(seen):
        first, last = -(-run.start // GRID), (run.stop - 1) // GRID  # in instants
        for begin in range(first, last + 1, scored):
            end = min(begin + scored - 1, last)
            yield max(first, begin - context) * GRID, begin * GRID, end * GRID, min(last, end + context) * GRID


def film_excerpts(chosen: Sequence[Excerpt], condition: Condition, *, trained_hz: float) -> Iterator[Clip]:
    """Yields what a model sees of the excerpts under a condition; where clips are short, one for each scored instant.

    `trained_hz` is the rate of the prepared data, whose cameras are used.
    """
    for _, excerpts in groupby(chosen, key=lambda excerpt: excerpt.take.name):
        first, *others = excerpts
        cameras = place_changed_cameras(first.take, condition.view, rate_hz=trained_hz)
        joints_m = change_body(first.take.joints_world_m, condition.view)
        for excerpt in (first, *others):
            camera = cameras[excerpt.camera]
            joints_camera_m = camera.camera_from_world.apply(joints_m[excerpt.first : excerpt.last + 1])
            yield from _film(excerpt, joints_camera_m, camera, condition)


def _film(
    excerpt: Excerpt, captured_m: Float[np.ndarray, "F 17 3"], camera: Camera, condition: Condition
) -> Iterator[Clip]:
    take = excerpt.take
    seed = int(generator_named(take.name, camera.name, str(excerpt.scored), "generalise").integers(1 << 62))
    filmed_m = resample(captured_m, rate_hz=CAPTURE_HZ, wanted_hz=condition.rate_hz)
    seen = _detect(project(filmed_m, camera), camera, condition, torch.Generator().manual_seed(seed))
    seen = resample(seen, rate_hz=condition.rate_hz, wanted_hz=condition.shown_hz)
    joints_m = resample(captured_m, rate_hz=CAPTURE_HZ, wanted_hz=condition.shown_hz)
    scored = np.zeros(len(seen), dtype=bool)
    for instant in range(excerpt.scored, excerpt.scored_last + 1, GRID):
        scored[round((instant - excerpt.first) * condition.shown_hz / CAPTURE_HZ)] = True
    clip = Clip(
        take=take.name,
        subset=take.subset,
        subject=take.subject,
        action=take.action,
        camera=camera,
        rate_hz=condition.shown_hz,
        first_frame=excerpt.scored,
        pixels=seen[..., :2].astype(np.float32),
        joints_camera_m=joints_m.astype(np.float32),
        confidence=None if condition.level is None else seen[..., 2].astype(np.float32),
        scored=scored,
    )
    yield from [clip] if condition.frames is None else _short_clips(clip, condition.frames)


def _detect(
    exact_pixels: Float[np.ndarray, "F 17 2"], camera: Camera, condition: Condition, generator: torch.Generator
) -> Float[np.ndarray, "F 17 3"]:
    """Returns pixels and confidence as the condition's detector reports them; without one the confidence is 1."""
    pixels = torch.from_numpy(exact_pixels)[None]
    confidence = torch.ones_like(pixels[..., 0])
    if condition.level is not None:
        pixels, confidence = simulate_detector(
            pixels,
            rate_hz=condition.rate_hz,
            level=pixels.new_tensor([condition.level]),
            half_width_px=pixels.new_tensor([camera.width_px / 2]),
            generator=generator,
        )
    if condition.missing > 0:
        hidden = draw_unseen_joints(
            1, len(exact_pixels), share=condition.missing, rate_hz=condition.rate_hz, generator=generator
        )
        interpolated = torch.tensor([condition.missing_shown == "interpolated"])
        pixels, confidence = hide_joints(pixels, confidence, hidden, interpolated)
    return torch.cat([pixels, confidence[..., None]], -1)[0].numpy()


def _short_clips(clip: Clip, frames: int) -> Iterator[Clip]:
    """Yields for each scored frame a clip of `frames` frames around it, as far as there are so many."""
    assert clip.scored is not None
    for place in np.flatnonzero(clip.scored):
        first = int(np.clip(place - frames // 2, 0, max(len(clip) - frames, 0)))
        part = slice(first, first + frames)
        only = np.arange(len(clip)) == place
        yield replace(
            clip,
            first_frame=clip.first_frame + first,
            pixels=clip.pixels[part],
            joints_camera_m=clip.joints_camera_m[part],
            confidence=None if clip.confidence is None else clip.confidence[part],
            scored=only[part],
        )
