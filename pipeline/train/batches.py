"""What a run learns from, and its batches, step by step: windows cut or augmented, this rank's share in parts.

Each batch is drawn whole on every rank, from seeds that know neither ranks nor parts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.config.params import TrainingConfig
from pipeline.mocap.augmentation import MocapScene, augment_windows, mocap_scene
from pipeline.mocap.cameras import read_clips
from pipeline.mocap.takes import Take, read_take_split
from pipeline.poses.clips import Clip, read_split
from pipeline.poses.skeleton import SKELETONS, Skeleton
from pipeline.poses.windows import (
    FrameTable,
    Sampling,
    Spans,
    Windows,
    balancing_weights,
    epoch_windows,
    frame_table,
    gather_windows,
    keep_predicted_frames,
    mirror_windows,
)
from pipeline.system.errors import UserError
from pipeline.train import distributed


@dataclass(frozen=True)
class Data:
    """What a run learns from, clips of video or takes of motion capture, and what it validates on."""

    train: FrameTable | MocapScene
    clip_names: list[str]  # of the training clips or takes
    clip_weights: Tensor | None  # of the training clips or takes
    validation: FrameTable | None  # where no takes are held out
    validation_clips: list[Clip]
    in_skeleton: Skeleton
    out_skeleton: Skeleton

    @property
    def device(self) -> torch.device:
        """Where the frames are."""
        return self.train.clip_first.device


@dataclass(frozen=True)
class Part:
    """Windows that go through the model together: keypoints, the true poses, and which of them count."""

    screen: Float[Tensor, "W T J_in C"]
    pose_m: Float[Tensor, "W T_out J_out 3"]
    counted: Bool[Tensor, "W T_out"]


@dataclass(frozen=True)
class Batch:
    """This rank's parts of a step's batch; of the whole batch the clips, how many poses, and how many of them count.

    Where none counts, `counted` is 1 and the loss is zero.
    """

    parts: list[Part]
    clips: Tensor
    poses: int
    counted: Float[Tensor, ""]


@dataclass(frozen=True)
class Epoch:
    """The windows of one epoch in their order, cut into steps."""

    windows: Windows
    number: int  # from 0
    steps: int


def read_data(prepared: Path, config: TrainingConfig, device: torch.device) -> Data:
    """Reads the row's training and validation data onto the device.

    Raises UserError if the prepared data are missing or damaged, or do not fit the configuration.
    """
    for name in (config.in_skeleton, config.out_skeleton):
        if name not in SKELETONS:
            known = ", ".join(SKELETONS)
            raise UserError(f"{prepared / 'training.json'}: skeleton: expected one of {known}, found '{name}'")
    in_skeleton, out_skeleton = SKELETONS[config.in_skeleton], SKELETONS[config.out_skeleton]
    recordings: list[Clip] | list[Take]
    train: FrameTable | MocapScene
    if config.augmentation is None:
        recordings = read_split(prepared / "train")
        train = _read_table(recordings, prepared / "train", config, device)
    else:
        recordings = read_take_split(prepared / "train")
        train = mocap_scene(recordings, with_detector=config.in_channels == 3, device=device)
    validation = read_clips(prepared / "validation", detector_level=config.detector_level)
    return Data(
        train=train,
        clip_names=[recording.name for recording in recordings],
        clip_weights=balancing_weights(
            [recording.action for recording in recordings], list(map(len, recordings)), config.training.action_balance
        ),
        validation=_read_table(validation, prepared / "validation", config, device) if validation else None,
        validation_clips=validation,
        in_skeleton=in_skeleton,
        out_skeleton=out_skeleton,
    )


def _read_table(clips: list[Clip], folder: Path, config: TrainingConfig, device: torch.device) -> FrameTable:
    in_skeleton, out_skeleton = SKELETONS[config.in_skeleton], SKELETONS[config.out_skeleton]
    table = frame_table(clips, root=out_skeleton.root, device=device)
    expected = (len(in_skeleton.joints), config.in_channels)
    if tuple(table.screen.shape[1:]) != expected or table.pose_m.shape[1] != len(out_skeleton.joints):
        found = f"{tuple(table.screen.shape[1:])} and {table.pose_m.shape[1]} joints"
        raise UserError(f"{folder}: expected keypoints {expected} as training.json says, found {found}")
    return table


def draw_epoch(
    data: Data, config: TrainingConfig, *, every_frame: bool, number: int, generator: torch.Generator
) -> Epoch:
    """Draws the windows of epoch `number` (from 0) and their order from the generator."""
    training, spans = config.training, Spans(data.train.clip_first, data.train.clip_last)
    sampling = Sampling(training.flip_augmentation, data.clip_weights, training.windows_per_epoch)
    windows = epoch_windows(spans, sampling, frames=config.frames, every_frame=every_frame, generator=generator)
    return Epoch(windows, number, math.ceil(len(windows) / training.batch_windows))


def batches_from(
    step: int, data: Data, config: TrainingConfig, epoch: Epoch, *, every_frame: bool, seed: int
) -> Iterator[Batch]:
    """Yields the batches of an epoch from a step on; what is augmented is drawn from `seed` and the step's number."""
    size = config.training.batch_windows
    for number in range(step, epoch.steps):
        windows = epoch.windows[number * size : (number + 1) * size]
        step_seed = seed_of_step(seed, epoch.number * epoch.steps + number)
        yield _make_batch(data, config, windows, every_frame=every_frame, seed=step_seed)


def seed_of_step(seed: int, step: int, rank: int = 0) -> int:
    """Returns the seed of a step, so that what it draws does not depend on where an interrupted run went on."""
    text = f"{seed}/{step}" + f"/{rank}" * (rank > 0)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def _make_batch(data: Data, config: TrainingConfig, windows: Windows, *, every_frame: bool, seed: int) -> Batch:
    if isinstance(data.train, FrameTable):
        screen, pose_m, counted = gather_windows(data.train, windows, frames=config.frames)
        screen = mirror_windows(screen, windows.flipped, data.in_skeleton)
        pose_m = mirror_windows(pose_m, windows.flipped, data.out_skeleton)
    else:
        assert config.augmentation is not None
        screen, pose_m, counted = augment_windows(
            data.train, windows, config.augmentation, frames=config.frames, seed=seed
        )
    pose_m, counted = (keep_predicted_frames(values, every_frame=every_frame) for values in (pose_m, counted))
    parts = []
    for first, end in shares(len(windows), count=config.micro_batches):
        part, counts = slice(first, end), counted[first:end]
        if first == end:  # where there are more parts than windows: all ranks take every step, with something
            part, counts = slice(0, 1), torch.zeros_like(counted[:1])
        parts.append(Part(screen[part], pose_m[part], counts))
    frames = counted.to(pose_m.dtype).sum().clamp(min=1)
    return Batch(parts, windows.clip, counted.numel(), frames)


def shares(windows: int, *, count: int) -> list[tuple[int, int]]:
    """Returns first and end of each of this rank's `count` parts of a batch; parts differ by one window at most."""
    parts = distributed.count() * count
    return [
        (windows * part // parts, windows * (part + 1) // parts)
        for part in range(distributed.rank() * count, (distributed.rank() + 1) * count)
    ]
