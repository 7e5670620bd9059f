"""Clips -> windows of frames and back: all frames of a split in a few flat tensors, cut, padded, mirrored and stitched.

A window of T frames (T odd) around a middle frame belongs to one clip; places beyond the clip's ends repeat its first
or last frame, in training and in evaluation.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from pipeline.poses.clips import Clip
from pipeline.poses.geometry import screen_from_pixels
from pipeline.poses.skeleton import Skeleton


@dataclass(frozen=True)
class Spans:
    """Where the K clips (or takes) lie among N frames end to end: the first and the last frame of each."""

    clip_first: Int[Tensor, " K"]
    clip_last: Int[Tensor, " K"]


@dataclass(frozen=True)
class FrameTable(Spans):
    """The frames of K clips end to end, on one device.

    `screen` holds normalised keypoints (and the confidence as third channel where there is one), `pose_m` the joints in
    the camera frame relative to the root, in metres. `scored` marks the frames that are to be scored.
    """

    screen: Float[Tensor, "N J_in C"]
    pose_m: Float[Tensor, "N J_out 3"]
    scored: Bool[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.screen)


@dataclass(frozen=True)
class Windows:
    """Windows to cut: the frame in the middle (it may lie beyond the clip's ends), the clip, and whether to mirror."""

    middle: Int[Tensor, " W"]
    clip: Int[Tensor, " W"]
    flipped: Bool[Tensor, " W"]

    def __len__(self) -> int:
        return len(self.middle)

    def __getitem__(self, chosen: slice | Int[Tensor, " V"]) -> Windows:
        return Windows(self.middle[chosen], self.clip[chosen], self.flipped[chosen])


@dataclass(frozen=True)
class Sampling:
    """How the windows of an epoch are sampled.

    With `flips` each window comes twice, plain and mirrored. With `clip_weights` windows are drawn with replacement,
    those of clip k in proportion to its weight. `at_most` limits their number; None: all there are.
    """

    flips: bool
    clip_weights: Float[Tensor, " K"] | None
    at_most: int | None


def spans_of_lengths(lengths: Sequence[int]) -> tuple[Int[Tensor, " K"], Int[Tensor, " K"]]:
    """Returns the first and last frames of clips of these lengths end to end."""
    counts = torch.tensor(lengths)
    last = counts.cumsum(0) - 1
    return last - counts + 1, last


def frame_table(clips: Sequence[Clip], *, root: int, device: torch.device) -> FrameTable:
    """Returns the frames of `clips`, keypoints normalised, poses relative to joint `root` (which becomes zero)."""
    first, last = spans_of_lengths([len(clip) for clip in clips])
    scored = [np.ones(len(clip), dtype=bool) if clip.scored is None else clip.scored for clip in clips]
    relative_m = [clip.joints_camera_m - clip.joints_camera_m[:, root : root + 1] for clip in clips]
    return FrameTable(
        clip_first=first.to(device),
        clip_last=last.to(device),
        screen=torch.from_numpy(np.concatenate([screen_channels(clip) for clip in clips])).to(device),
        pose_m=torch.from_numpy(np.concatenate(relative_m)).to(device),
        scored=torch.from_numpy(np.concatenate(scored)).to(device),
    )


def screen_channels(clip: Clip) -> Float[np.ndarray, "F J_in C"]:
    """What a model sees of a clip: normalised keypoints and, if there is one, the detector's confidence."""
    screen = screen_from_pixels(np.asarray(clip.pixels), clip.camera)
    if clip.confidence is None:
        return screen
    return np.concatenate([screen, clip.confidence[..., None]], axis=-1)


def tile_windows(spans: Spans, *, stride: int, phase: Int[Tensor, " K"] | None = None) -> Windows:
    """Windows whose middle `stride` frames tile every clip; the first tile begins `phase` frames before the clip.

    With stride 1 there is a window around every frame.
    """
    first = spans.clip_first if phase is None else spans.clip_first - phase
    count = (spans.clip_last - first) // stride + 1
    clip = torch.arange(len(count), device=count.device).repeat_interleave(count)
    number = torch.arange(len(clip), device=count.device) - (count.cumsum(0) - count)[clip]
    middle = first[clip] + number * stride + stride // 2
    return Windows(middle, clip, torch.zeros_like(middle, dtype=torch.bool))


def epoch_windows(
    spans: Spans, sampling: Sampling, *, frames: int, every_frame: bool, generator: torch.Generator
) -> Windows:
    """The windows of one epoch in random order, `at_most` of them where that is given (just as many if they are drawn).

    For a model that predicts the middle frame there is one around every frame; for a model that predicts every frame of
    its window they tile each clip from a random start, so that each frame is predicted once. The order depends on the
    generator (of the CPU) alone, not on the device.
    """
    device = spans.clip_first.device
    phase = torch.randint(0, frames, spans.clip_first.shape, generator=generator).to(device)
    windows = tile_windows(spans, stride=frames, phase=phase) if every_frame else tile_windows(spans, stride=1)
    if sampling.flips:
        windows = Windows(
            torch.cat([windows.middle, windows.middle]),
            torch.cat([windows.clip, windows.clip]),
            torch.cat([windows.flipped, ~windows.flipped]),
        )
    if sampling.clip_weights is None:
        order = torch.randperm(len(windows), generator=generator)
    else:
        weights = sampling.clip_weights[windows.clip.cpu()]
        order = torch.multinomial(weights, sampling.at_most or len(windows), replacement=True, generator=generator)
    return windows[order[: sampling.at_most].to(device)]


def balancing_weights(actions: Sequence[str], lengths: Sequence[int], balance: float) -> Float[Tensor, " K"] | None:
    """Returns for each recording (frames of its action)^-balance: 1 shows all actions alike; None for balance 0."""
    if balance == 0:
        return None
    frames: Counter[str] = Counter()
    for action, length in zip(actions, lengths, strict=True):
        frames[action] += length
    return torch.tensor([frames[action] ** -balance for action in actions], dtype=torch.float64)


def window_index(spans: Spans, windows: Windows, *, frames: int) -> tuple[Int[Tensor, "W T"], Bool[Tensor, "W T"]]:
    """Which frame stands at each place of the windows, and whether it is its own (not a repeated end of the clip)."""
    wanted = windows.middle[:, None] + torch.arange(frames, device=windows.middle.device) - frames // 2
    index = wanted.clamp(spans.clip_first[windows.clip][:, None], spans.clip_last[windows.clip][:, None])
    return index, index == wanted


def mirror(values: Float[Tensor, "*N J D"], skeleton: Skeleton) -> Float[Tensor, "*N J D"]:
    """The mirror image: x negated, left and right joints exchanged. Its own inverse."""
    sign = torch.ones(values.shape[-1], dtype=values.dtype, device=values.device)
    sign[0] = -1
    return values[..., skeleton.mirrored, :] * sign


def mirror_windows(
    values: Float[Tensor, "W T J D"], flipped: Bool[Tensor, " W"], skeleton: Skeleton
) -> Float[Tensor, "W T J D"]:
    """The windows with the `flipped` ones mirrored: one gather of numbers, one product."""
    joints, coordinates = values.shape[2:]
    place = torch.arange(joints * coordinates)
    source = rearrange(rearrange(place, "(j d) -> j d", d=coordinates)[list(skeleton.mirrored)], "j d -> (j d)")
    sign = 1.0 - 2.0 * (place % coordinates == 0)
    source, sign, place = (tensor.to(values.device, non_blocking=True) for tensor in (source, sign, place))
    each = rearrange(flipped, "w -> w 1 1")
    flat = rearrange(values, "w t j d -> w t (j d)")
    mirrored = flat.gather(2, torch.where(each, source, place).expand(flat.shape)) * torch.where(each, sign, 1.0)
    return rearrange(mirrored, "w t (j d) -> w t j d", d=coordinates)


def gather_windows(
    table: FrameTable, windows: Windows, *, frames: int
) -> tuple[Float[Tensor, "W T J_in C"], Float[Tensor, "W T J_out 3"], Bool[Tensor, "W T"]]:
    """Keypoints and poses of the windows' frames, not mirrored, and which frames are not repeated ends of the clip."""
    index, own = window_index(table, windows, frames=frames)
    return table.screen[index], table.pose_m[index], own


def keep_predicted_frames(values: Shaped[Tensor, "W T *S"], *, every_frame: bool) -> Shaped[Tensor, "W T_out *S"]:
    """Returns what belongs to the frames that a model predicts: all of a window, or the middle one."""
    middle = values.shape[1] // 2
    return values if every_frame else values[:, middle : middle + 1]


def every_nth(table: FrameTable, step: int, *, fraction: float = 1.0) -> Bool[Tensor, " N"]:
    """Marks the first frame to be scored of every clip and each `step`-th of those after it.

    With `fraction` below 1 only that part of each clip's frames, in one stretch, whose start depends on their number
    alone (see `stretch`).
    """
    lengths = table.clip_last - table.clip_first + 1
    scored = table.scored.long()
    before = scored.cumsum(0) - scored
    since_start = before - before[table.clip_first].repeat_interleave(lengths)
    marked = table.scored
    if fraction < 1:
        counts = (before + scored)[table.clip_last] - before[table.clip_first]
        stretches = torch.tensor([stretch(count, fraction) for count in counts.tolist()], device=scored.device)
        first, end = rearrange(stretches, "k side -> side k")
        since_start = since_start - first.repeat_interleave(lengths)
        marked = marked & (since_start >= 0) & (since_start < (end - first).repeat_interleave(lengths))
    return marked & (since_start % step == 0)


def stretch(frames: int, fraction: float) -> tuple[int, int]:
    """First frame and end of the stretch of `fraction` of a clip, at least one frame, that stands for the whole clip.

    The same for all clips of one length, on every machine: the start is drawn by the hash of the length, as Pavllo et
    al. 2019 do it.
    """
    kept = min(frames, max(1, round(frames * fraction)))
    places = frames - kept + 1
    digest = hashlib.sha256(str(frames).encode()).digest()
    first = int(int.from_bytes(digest[:4], "little") / (2**32 - 1) * places)
    first = min(first, places - 1)
    return first, first + kept
