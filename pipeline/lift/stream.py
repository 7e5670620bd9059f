"""Lifting one person live: a frame goes in, the pose some frames back comes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from pipeline.poses.frames import interpolate
from pipeline.poses.skeleton import Skeleton
from pipeline.poses.windows import mirror
from pipeline.system.errors import UserError

Seen = tuple[Float[np.ndarray, "J_in 2"], Float[np.ndarray, " J_in"]]


class Stream:
    """Poses of one person, frame by frame, each from the model's window of frames up to the newest. See Lifter.stream.

    A pose is returned `latency` frames after its own; 0 is causal. With a latency of half the window or more, and the
    recording at the model's rate, the poses are those of the whole recording lifted with stride 1, as long as all
    keypoints are seen. A joint not seen stays where it was, with confidence 0, for the longest gap; a frame with too
    few joints has a pose of NaN, and windows do not reach over it.
    """

    def __init__(
        self,
        model: nn.Module,
        in_skeleton: Skeleton,
        out_skeleton: Skeleton,
        *,
        frames: int,
        middle_only: bool,
        step: float,
        latency: int,
        longest_gap: int,
        least_seen: float,
        as_seen: Callable[[Float[np.ndarray, "J C"]], Seen],
        screen: Callable[[Float[np.ndarray, "F J_in 2"], Float[np.ndarray, "F J_in"]], Float[np.ndarray, "F J_in D"]],
    ) -> None:
        """`step` is the recording's frames per frame of the model; `as_seen` and `screen` make keypoints its input."""
        if latency < 0:
            raise UserError(f"latency: expected frames from 0, found {latency}")
        self.latency = latency
        self._model, self._in_skeleton, self._out_skeleton = model, in_skeleton, out_skeleton
        self._frames, self._middle_only, self._step = frames, middle_only, step
        self._longest_gap, self._least_seen = longest_gap, least_seen
        self._as_seen, self._screen = as_seen, screen
        reach = int(np.ceil(frames * step)) + 1  # a window's frames before the pose that is due
        self._kept: deque[Float[np.ndarray, "J_in D"] | None] = deque(maxlen=reach + latency)
        self._last: Seen | None = None
        self._unseen_for: Int[np.ndarray, " J_in"] = np.zeros(len(in_skeleton.joints), dtype=int)
        self._pushed = 0

    def push(self, keypoints: Float[np.ndarray, "J C"]) -> Float[np.ndarray, "J_out 3"] | None:
        """The pose `latency` frames before this frame, as Lifter gives it; None while there is no such frame yet.

        `keypoints` are pixels, and confidence where there is one, in the stream's layout; NaN is not seen.
        """
        pixels, confidence = self._held(*self._as_seen(keypoints))
        usable = np.isfinite(pixels).all(1).sum() >= self._least_seen
        self._kept.append(self._screen(pixels[None], confidence[None])[0] if usable else None)
        self._pushed += 1
        return self._pose(self.latency, over=False) if self._pushed > self.latency else None

    def finish(self) -> list[Float[np.ndarray, "J_out 3"]]:
        """The poses still due after the last frame, in order; the stream can then begin anew."""
        due = min(self.latency, self._pushed)
        poses_m = [self._pose(back, over=True) for back in range(due - 1, -1, -1)]
        self._kept.clear()
        self._last = None
        self._unseen_for[:] = 0
        self._pushed = 0
        return poses_m

    def _held(self, pixels: Float[np.ndarray, "J_in 2"], confidence: Float[np.ndarray, " J_in"]) -> Seen:
        """The frame with joints that were seen shortly before put there, with confidence 0."""
        unseen = np.isnan(pixels).any(1)
        self._unseen_for = np.where(unseen, self._unseen_for + 1, 0)
        if self._last is not None:
            held = unseen & (self._unseen_for <= self._longest_gap)
            pixels = np.where(held[:, None], self._last[0], pixels)
        self._last = pixels, confidence
        return self._last

    @torch.no_grad()
    def _pose(self, back: int, *, over: bool) -> Float[np.ndarray, "J_out 3"]:
        """The pose `back` frames before the newest. At the end of a stretch of frames its last one is repeated."""
        kept = list(self._kept)
        due = len(kept) - 1 - back
        if kept[due] is None:
            return np.full((len(self._out_skeleton.joints), 3), np.nan)
        first = max((at + 1 for at in range(due) if kept[at] is None), default=0)
        stop = next((at for at in range(due, len(kept)) if kept[at] is None), len(kept))
        half = self._frames // 2
        ended = over or stop < len(kept) or self._middle_only
        ahead = half if ended else min(half, int((stop - 1 - due) / self._step + 1e-9))
        place = self._frames - 1 - ahead
        times = due - first + (np.arange(self._frames) - place) * self._step
        stretch = np.stack([frame for frame in kept[first:stop] if frame is not None])
        window = torch.from_numpy(interpolate(stretch, times)).float()
        both = torch.stack([window, mirror(window, self._in_skeleton)])
        poses_m = self._model(both)[:, 0 if self._middle_only else place]
        pose_m = (poses_m[0] + mirror(poses_m[1], self._out_skeleton)) / 2
        return pose_m.numpy().astype(float)
