"""Lifts one person live: a frame goes in, the pose some frames back comes out."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from jaxtyping import Float, Int

from pipeline.lift.image_poses import metres_from_image
from pipeline.lift.input import InputSettings, encode_keypoints, find_usable_frames, make_track, prepare_track
from pipeline.poses.frames import find_runs, interpolate
from pipeline.poses.geometry import Camera
from pipeline.poses.predict import TrainedModel
from pipeline.poses.windows import mirror
from pipeline.system.errors import UserError


class Stream:
    """Poses of one person, frame by frame, each from the model's window of frames up to the newest. See Lifter.stream.

    The frames are joints of `layout`, seen by `camera` at `rate_hz`.
    A pose is returned `latency` frames after its frame; 0 is causal. With a latency of half the window or more, and the
    recording at the model's rate, the poses are those of the whole recording lifted with stride 1, as long as all
    keypoints are seen. A joint not seen stays where it was, with confidence 0, for the longest gap; a frame with too
    few joints has a pose of NaN, and windows do not reach over it.
    """

    def __init__(
        self,
        model: TrainedModel,
        settings: InputSettings,
        *,
        layout: str,
        camera: Camera,
        rate_hz: float,
        latency: int,
    ) -> None:
        if not 0 < rate_hz < np.inf:
            raise UserError(f"rate: expected Hz over 0, found {rate_hz}")
        if latency < 0:
            raise UserError(f"latency: expected frames from 0, found {latency}")
        self.latency = latency
        self._model, self._settings, self._layout, self._camera = model, settings, layout, camera
        self._step = rate_hz / settings.rate_hz  # frames of the stream per frame of the model
        self._longest_gap = int(settings.max_gap_s * rate_hz + 1e-9)
        # frames of a window before the one whose pose is wanted
        reach = int(np.ceil(model.card.frames * self._step)) + 1
        self._screens: deque[Float[np.ndarray, "J_in C"] | None] = deque(maxlen=reach + latency)
        self._forget()

    def push(self, keypoints: Float[np.ndarray, "J C"]) -> Float[np.ndarray, "J_out 3"] | None:
        """Returns the pose `latency` frames before this frame, as Lifter does; None while there is no such frame yet.

        `keypoints` are pixels, and confidence where there is one, in the stream's layout; NaN is not seen. Raises
        UserError if they are not of that layout's shape.
        """
        self.add(keypoints)
        return self._lift(self.latency, finished=False) if self._pushed > self.latency else None

    def add(self, keypoints: Float[np.ndarray, "J C"]) -> None:
        """Takes a frame as `push` does, for those after it, without the cost of a pose."""
        track = prepare_track(make_track(keypoints[None], layout=self._layout), self._settings)
        pixels = self._hold_unseen(track.pixels)
        usable = find_usable_frames(pixels)[0]
        screen = encode_keypoints(pixels, track.confidence, self._camera, self._settings)
        self._screens.append(screen[0] if usable else None)
        self._pushed += 1

    def finish(self) -> list[Float[np.ndarray, "J_out 3"]]:
        """Returns the poses still due after the last frame, in order; the stream can then begin anew."""
        due = min(self.latency, self._pushed)
        poses_m = [self._lift(back, finished=True) for back in range(due - 1, -1, -1)]
        self._forget()
        return poses_m

    def _forget(self) -> None:
        joints = len(self._settings.skeleton.joints)
        self._screens.clear()
        self._last_pixels: Float[np.ndarray, "1 J_in 2"] = np.full((1, joints, 2), np.nan)
        self._unseen_frames: Int[np.ndarray, "1 J_in"] = np.zeros((1, joints), dtype=int)
        self._pushed = 0

    def _hold_unseen(self, pixels: Float[np.ndarray, "1 J_in 2"]) -> Float[np.ndarray, "1 J_in 2"]:
        """Returns the frame with joints that were seen a moment ago where they were then."""
        unseen = np.isnan(pixels).any(-1)
        self._unseen_frames = np.where(unseen, self._unseen_frames + 1, 0)
        held = unseen & (self._unseen_frames <= self._longest_gap)
        self._last_pixels = np.where(held[..., None], self._last_pixels, pixels)
        return self._last_pixels

    @torch.no_grad()
    def _lift(self, back: int, *, finished: bool) -> Float[np.ndarray, "J_out 3"]:
        """Returns the pose `back` frames before the newest.

        Where a run of frames with the person ends, its last frame is repeated; at the newest frame, unless the stream
        is finished, the window ends instead and the pose is taken from a later place in it.
        """
        in_skeleton, out_skeleton = self._model.card.skeletons
        screens, frames = list(self._screens), self._model.card.frames
        wanted = len(screens) - 1 - back
        if screens[wanted] is None:
            return np.full((len(out_skeleton.joints), 3), np.nan)
        runs = find_runs(np.array([screen is not None for screen in screens]))
        run = next(run for run in runs if run.start <= wanted < run.stop)
        middle_only, half = not self._model.predicts_every_frame, frames // 2
        ended = finished or run.stop < len(screens) or middle_only
        after = half if ended else min(half, int((run.stop - 1 - wanted) / self._step + 1e-9))
        place = frames - 1 - after
        times = wanted - run.start + (np.arange(frames) - place) * self._step
        screen = interpolate(np.stack([s for s in screens[run] if s is not None]), times)
        window = torch.from_numpy(screen).float()
        poses_m = self._model.network(torch.stack([window, mirror(window, in_skeleton)]))[
            :, 0 if middle_only else place
        ]
        pose_m = ((poses_m[0] + mirror(poses_m[1], out_skeleton)) / 2).numpy().astype(float)
        if self._model.card.output_unit == "half_image_widths":
            root_screen = screen[place, None, in_skeleton.root, :2]
            pose_m = metres_from_image(pose_m[None], root_screen, self._camera, out_skeleton)[0]
        return pose_m
