"""Clips -> windows of frames and back: all frames of a split in a few flat tensors, cut, padded, mirrored and stitched.

A window of T frames (T odd) around a middle frame belongs to one clip; places beyond the clip's ends repeat its first
or last frame, in training and in evaluation.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pipeline.poses.clips import Clip
from pipeline.poses.geometry import screen_from_pixels
from pipeline.poses.metrics import ClipScores, clip_scores
from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import UserError

FRAMES_IN_CACHE = 2048  # of windows that are lifted together on a CPU: more and what lies between leaves the cache


@dataclass(frozen=True)
class FrameTable:
    """The frames of K clips end to end, on one device; or the frames mapped from files and the rest on the device.

    `screen` holds normalised keypoints (and the confidence as third channel where there is one), `pose_m` the joints in
    the camera frame relative to the root, in metres. `scored` marks the frames that are to be scored.
    """

    screen: Float[Tensor, "N J_in C"]
    pose_m: Float[Tensor, "N J_out 3"]
    scored: Bool[Tensor, " N"]
    clip_first: Int[Tensor, " K"]
    clip_last: Int[Tensor, " K"]

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


def frame_table(clips: Sequence[Clip], *, root: int, device: torch.device, mapped_in: Path | None = None) -> FrameTable:
    """The frames of `clips`, keypoints normalised, poses relative to joint `root` (which becomes zero).

    With `mapped_in` the frames lie in files of that folder, whatever the device, and are read when they are needed.
    """
    lengths = torch.tensor([len(clip) for clip in clips])
    last = lengths.cumsum(0) - 1
    scored = np.concatenate([np.ones(len(clip), dtype=bool) if clip.scored is None else clip.scored for clip in clips])

    def flat(name: str, arrays: Iterable[np.ndarray]) -> Tensor:
        return end_to_end(arrays, int(lengths.sum()), device=device, file=mapped_in and mapped_in / f"{name}.npy")

    return FrameTable(
        screen=flat("screen", (screen_channels(clip) for clip in clips)),
        pose_m=flat("pose_m", (clip.joints_camera_m - clip.joints_camera_m[:, root : root + 1] for clip in clips)),
        scored=torch.from_numpy(scored).to(device),
        clip_first=(last - lengths + 1).to(device),
        clip_last=last.to(device),
    )


def end_to_end(arrays: Iterable[np.ndarray], frames: int, *, device: torch.device, file: Path | None) -> Tensor:
    """The arrays, of `frames` frames in all, as one tensor on the device; or in a new `file`, mapped into memory."""
    if file is None:
        return torch.from_numpy(np.concatenate(list(arrays))).to(device)
    file.parent.mkdir(parents=True, exist_ok=True)
    remaining = iter(arrays)
    start = next(remaining)
    written = np.lib.format.open_memmap(file, mode="w+", dtype=start.dtype, shape=(frames, *start.shape[1:]))
    first = 0
    for array in chain([start], remaining):
        written[first : first + len(array)] = array
        first += len(array)
    written.flush()
    return torch.from_numpy(np.load(file, mmap_mode="c"))  # "c": torch warns of arrays that may not be written


def frames_at(values: Float[Tensor, "N J D"], index: Int[Tensor, "*W T"]) -> Float[Tensor, "*W T J D"]:
    """`values[index]` on the device of `index`; of frames that are mapped from a file through pinned memory."""
    if values.device == index.device:
        return values[index]
    return values[index.cpu()].pin_memory().to(index.device, non_blocking=True)


def screen_channels(clip: Clip) -> Float[np.ndarray, "F J_in C"]:
    """What a model sees of a clip: normalised keypoints and, if there is one, the detector's confidence."""
    screen = screen_from_pixels(np.asarray(clip.pixels), clip.camera)
    if clip.confidence is None:
        return screen
    return np.concatenate([screen, clip.confidence[..., None]], axis=-1)


def tile_windows(table: FrameTable, *, stride: int, phase: Int[Tensor, " K"] | None = None) -> Windows:
    """Windows whose middle `stride` frames tile every clip; the first tile begins `phase` frames before the clip.

    With stride 1 there is a window around every frame.
    """
    first = table.clip_first if phase is None else table.clip_first - phase
    count = (table.clip_last - first) // stride + 1
    clip = torch.arange(len(count), device=count.device).repeat_interleave(count)
    number = torch.arange(len(clip), device=count.device) - (count.cumsum(0) - count)[clip]
    middle = first[clip] + number * stride + stride // 2
    return Windows(middle, clip, torch.zeros_like(middle, dtype=torch.bool))


def epoch_windows(
    table: FrameTable,
    *,
    frames: int,
    every_frame: bool,
    flips: bool,
    clip_weights: Float[Tensor, " K"] | None,
    at_most: int | None,
    generator: torch.Generator,
) -> Windows:
    """The windows of one epoch in random order, `at_most` of them where that is given (just as many if they are drawn).

    For a model that predicts the middle frame there is one around every frame; for a model that predicts every frame of
    its window they tile each clip from a random start, so that each frame is predicted once. With `flips` each window
    comes twice, plain and mirrored. With `clip_weights` windows are drawn with replacement, those of clip k in
    proportion to its weight. The order depends on the generator (of the CPU) alone, not on the device.
    """
    device = table.clip_first.device
    phase = torch.randint(0, frames, table.clip_first.shape, generator=generator).to(device)
    windows = tile_windows(table, stride=frames, phase=phase) if every_frame else tile_windows(table, stride=1)
    if flips:
        windows = Windows(
            torch.cat([windows.middle, windows.middle]),
            torch.cat([windows.clip, windows.clip]),
            torch.cat([windows.flipped, ~windows.flipped]),
        )
    if clip_weights is None:
        order = torch.randperm(len(windows), generator=generator)
    else:
        weights = clip_weights[windows.clip.cpu()]
        order = torch.multinomial(weights, at_most or len(windows), replacement=True, generator=generator)
    return windows[order[:at_most].to(device)]


def balancing_weights(clips: Sequence[Clip], balance: float) -> Float[Tensor, " K"] | None:
    """For each clip the (frames of its action)^-balance, so that 1 shows all actions alike; None for balance 0."""
    if balance == 0:
        return None
    frames: Counter[str] = Counter()
    for clip in clips:
        frames[clip.action] += len(clip)
    return torch.tensor([frames[clip.action] ** -balance for clip in clips], dtype=torch.float64)


def window_index(table: FrameTable, windows: Windows, *, frames: int) -> tuple[Int[Tensor, "W T"], Bool[Tensor, "W T"]]:
    """Which frame stands at each place of the windows, and whether it is its own (not a repeated end of the clip)."""
    wanted = windows.middle[:, None] + torch.arange(frames, device=windows.middle.device) - frames // 2
    index = wanted.clamp(table.clip_first[windows.clip][:, None], table.clip_last[windows.clip][:, None])
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
    return frames_at(table.screen, index), frames_at(table.pose_m, index), own


def cut_windows(
    table: FrameTable,
    windows: Windows,
    in_skeleton: Skeleton,
    out_skeleton: Skeleton,
    *,
    frames: int,
    every_frame: bool,
    gather: Callable[..., tuple[Tensor, Tensor, Tensor]] = gather_windows,
) -> tuple[Float[Tensor, "W T J_in C"], Float[Tensor, "W T_out J_out 3"], Bool[Tensor, "W T_out"]]:
    """Keypoints of the windows, the poses to predict (of every frame, or the middle one), and which poses are to count.

    Poses at repeated ends do not count. Mirrored windows are mirrored. `gather` takes what `gather_windows` does
    and may film the frames anew.
    """
    screen, pose_m, own = gather(table, windows, frames=frames)
    if not every_frame:
        middle = slice(frames // 2, frames // 2 + 1)
        pose_m, own = pose_m[:, middle], own[:, middle]
    screen = mirror_windows(screen, windows.flipped, in_skeleton)
    return screen, mirror_windows(pose_m, windows.flipped, out_skeleton), own


@torch.no_grad()
def predict_frames(
    model: nn.Module,
    table: FrameTable,
    in_skeleton: Skeleton,
    out_skeleton: Skeleton,
    *,
    frames: int,
    stride: int,
    flip_averaging: bool,
    wanted: Bool[Tensor, " N"] | None = None,
    batch_windows: int = 512,
) -> Float[Tensor, "N J_out 3"]:
    """The model's pose of every frame of the table, each predicted once, by the window in whose middle it lies.

    A model that predicts every frame of its window keeps the middle `stride` of them; one that predicts the middle
    frame alone needs stride 1. Where `wanted` is given, windows without a wanted frame are left out and their poses
    zero. With `flip_averaging` the prediction is averaged with the mirrored one of the mirrored window. The model is
    put into evaluation mode.
    """
    model.eval()
    first_kept = frames // 2 - stride // 2
    kept = slice(first_kept, first_kept + stride)
    windows = tile_windows(table, stride=stride)
    if wanted is not None:
        index, own = window_index(table, windows, frames=stride)
        windows = windows[torch.nonzero((wanted[index] & own).any(1))[:, 0]]
    poses_m = torch.zeros_like(table.pose_m)
    for start in range(0, len(windows), batch_windows):
        batch = windows[start : start + batch_windows]
        index, own = window_index(table, batch, frames=frames)
        frame, place = torch.unique(index, return_inverse=True)
        screen = table.screen[frame]
        predicted_m = _predict_windows(model, screen, place)
        if flip_averaging:
            mirrored_m = mirror(_predict_windows(model, mirror(screen, in_skeleton), place), out_skeleton)
            predicted_m = (predicted_m + mirrored_m) / 2
        kept_m = predicted_m if predicted_m.shape[1] == 1 else predicted_m[:, kept]
        index, own = index[:, kept], own[:, kept]
        poses_m[index[own]] = kept_m[own]
    return poses_m


def _predict_windows(
    model: nn.Module, screen: Float[Tensor, "N J_in C"], frame: Int[Tensor, "W T"]
) -> Float[Tensor, "W T_out J_out 3"]:
    """The model's poses for windows of the frames numbered in `frame`.

    Overlapping windows share frames: what a model computes of single frames (`spatial_features`) it computes once.
    """
    spatial_features: Callable[[Tensor], Tensor] | None = getattr(model, "spatial_features", None)
    if spatial_features is None:
        return model(screen[frame])
    lift_features: Callable[[Tensor], Tensor] = getattr(model, "lift_features")  # noqa: B009, mypy knows no such method
    features = spatial_features(screen)
    at_once = max(1, FRAMES_IN_CACHE // frame.shape[1]) if screen.device.type == "cpu" else len(frame)
    return torch.cat([lift_features(features[part]) for part in frame.split(at_once)])


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


def scores_of_actions(
    clips: Sequence[Clip],
    poses_m: Float[Tensor, "N J_out 3"],
    table: FrameTable,
    wanted: Bool[Tensor, " N"],
    *,
    pck_joints: Sequence[int] = (),
    joint_names: Sequence[str] = (),
) -> list[tuple[Clip, str, ClipScores]]:
    """Every metric over the wanted frames of every action of every clip: (clip, action, scores).

    `pck_joints` and `joint_names` add metrics as in `clip_scores`. An action without wanted frames is left out. Raises
    UserError naming a clip that cannot be scored.
    """
    predicted_m, targets_m, chosen = poses_m.cpu().numpy(), table.pose_m.cpu().numpy(), wanted.cpu().numpy()
    scores = []
    for clip, first, last in zip(clips, table.clip_first.tolist(), table.clip_last.tolist(), strict=True):
        for action, shows_it in clip.frames_per_action.items():
            own = first + np.flatnonzero(chosen[first : last + 1] & shows_it)
            if not len(own):
                continue
            try:
                own_scores = clip_scores(
                    predicted_m[own], targets_m[own], pck_joints=pck_joints, joint_names=joint_names
                )
            except UserError as error:
                raise UserError(f"clip {clip.name}: {error}") from error
            scores.append((clip, action, own_scores))
    return scores
