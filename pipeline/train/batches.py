"""What a run learns from, and its batches, step by step: windows cut, filmed anew, this rank's share in parts.

Each batch is drawn whole on every rank, from seeds that know neither ranks nor parts.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.config.params import TrainingConfig
from pipeline.mocap.augmentation import Room, refilm, room_of
from pipeline.poses.clips import Clip, read_split
from pipeline.poses.skeleton import SKELETONS, Skeleton
from pipeline.poses.windows import (
    FrameTable,
    Windows,
    balancing_weights,
    cut_windows,
    epoch_windows,
    frame_table,
    gather_windows,
)
from pipeline.system.errors import UserError
from pipeline.train import distributed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """What a run learns from and validates on."""

    train: FrameTable
    clip_names: list[str]  # of the training clips
    clip_weights: Tensor | None  # of the training clips
    room: Room | None  # where they are filmed anew
    mapped: bool  # the frames to train on lie in files
    validation: FrameTable | None  # where no takes are held out
    validation_clips: list[Clip]
    in_skeleton: Skeleton
    out_skeleton: Skeleton


@dataclass(frozen=True)
class Part:
    """Windows that go through the model together: keypoints, the true poses, and which of them count."""

    screen: Float[Tensor, "W T J_in C"]
    pose_m: Float[Tensor, "W T_out J_out 3"]
    counted: Bool[Tensor, "W T_out"]


@dataclass(frozen=True)
class Batch:
    """This rank's parts of a step's batch; of the whole batch the clips, how many poses, and how many of them count."""

    parts: list[Part]
    clips: Tensor
    poses: int
    counted: Float[Tensor, ""]


def read_data(prepared: Path, config: TrainingConfig, device: torch.device, *, mapped_in: Path) -> Data:
    """The row's training and validation clips on the device; what does not fit lies in files of `mapped_in`.

    Raises UserError if the prepared data are missing or damaged, or do not fit the configuration.
    """
    for name in (config.in_skeleton, config.out_skeleton):
        if name not in SKELETONS:
            known = ", ".join(SKELETONS)
            raise UserError(f"{prepared / 'training.json'}: skeleton: expected one of {known}, found '{name}'")
    in_skeleton, out_skeleton = SKELETONS[config.in_skeleton], SKELETONS[config.out_skeleton]
    clips = {split: read_split(prepared / split) for split in ("train", "validation")}
    refilmed = config.refilming is not None and config.refilming.active
    size = sum(map(len, clips["train"])) * 4 * (config.in_channels + 3 + 5 * refilmed) * len(in_skeleton.joints)
    share = size / _memory(device)
    mapped = config.model != "linear" and share > config.memory_share
    if mapped:
        size_gb, allowed = size / 1e9, config.memory_share
        log.info("%s: %.2f GB are over %g of the memory: mapped from files", config.row, size_gb, allowed)
    folder = mapped_in / f"rank{distributed.rank()}" if mapped else None
    expected = (len(in_skeleton.joints), config.in_channels)
    tables: dict[str, FrameTable] = {}
    for split in clips:
        if split == "validation" and not clips[split]:
            continue
        table = frame_table(
            clips[split], root=out_skeleton.root, device=device, mapped_in=folder if split == "train" else None
        )
        if tuple(table.screen.shape[1:]) != expected or table.pose_m.shape[1] != len(out_skeleton.joints):
            found = f"{tuple(table.screen.shape[1:])} and {table.pose_m.shape[1]} joints"
            raise UserError(f"{prepared / split}: expected keypoints {expected} as training.json says, found {found}")
        tables[split] = table
    return Data(
        train=tables["train"],
        clip_names=[clip.name for clip in clips["train"]],
        clip_weights=balancing_weights(clips["train"], config.training.action_balance),
        room=room_of(clips["train"], device=device, mapped_in=folder) if refilmed else None,
        mapped=mapped,
        validation=tables.get("validation"),
        validation_clips=clips["validation"],
        in_skeleton=in_skeleton,
        out_skeleton=out_skeleton,
    )


def _memory(device: torch.device) -> int:
    """Of the device, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def batches_of_epoch(
    data: Data, config: TrainingConfig, *, every_frame: bool, seed: int, epoch: int, generator: torch.Generator
) -> tuple[int, Callable[[int], Iterator[Batch]]]:
    """How many steps an epoch (counted from 0) has, and a function that gives its batches from a step on.

    The order of the windows is drawn from the generator, what is filmed anew from `seed` and the number of the step.
    """
    training, device = config.training, data.train.clip_first.device
    windows = epoch_windows(
        data.train,
        frames=config.frames,
        every_frame=every_frame,
        flips=training.flip_augmentation,
        clip_weights=data.clip_weights,
        at_most=training.windows_per_epoch,
        generator=generator,
    )
    steps = math.ceil(len(windows) / training.batch_windows)

    def batch_of(step: int) -> Batch:
        of_step = windows[step * training.batch_windows : (step + 1) * training.batch_windows]
        return _cut(data, config, of_step, every_frame=every_frame, seed=seed_of_step(seed, epoch * steps + step))

    if data.mapped:
        return steps, lambda first: ahead(batch_of, range(first, steps), device)
    return steps, lambda first: map(batch_of, range(first, steps))


def seed_of_step(seed: int, step: int, rank: int = 0) -> int:
    """What is drawn in a step must not depend on where an interrupted run went on."""
    text = f"{seed}/{step}" + f"/{rank}" * (rank > 0)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def _cut(data: Data, config: TrainingConfig, windows: Windows, *, every_frame: bool, seed: int) -> Batch:
    gather = gather_windows
    if data.room is not None and config.refilming is not None:
        gather = partial(refilm, data.room, refilming=config.refilming, seed=seed)
    screen, pose_m, counted = cut_windows(
        data.train,
        windows,
        data.in_skeleton,
        data.out_skeleton,
        frames=config.frames,
        every_frame=every_frame,
        gather=gather,
    )
    parts = []
    for first, end in shares(len(windows), count=config.micro_batches):
        own, counts = slice(first, end), counted[first:end]
        if first == end:  # where there are more parts than windows: all ranks take every step, with something
            own, counts = slice(0, 1), torch.zeros_like(counted[:1])
        parts.append(Part(screen[own], pose_m[own], counts))
    return Batch(parts, windows.clip, counted.numel(), counted.to(pose_m.dtype).sum())


def shares(windows: int, *, count: int) -> list[tuple[int, int]]:
    """First and end of each of this rank's `count` parts of a batch; the parts of all ranks are alike but for one."""
    parts = distributed.count() * count
    return [
        (windows * part // parts, windows * (part + 1) // parts)
        for part in range(distributed.rank() * count, (distributed.rank() + 1) * count)
    ]


def ahead(batch_of: Callable[[int], Batch], steps: range, device: torch.device) -> Iterator[Batch]:
    """The batches of the steps, each made in the background, on a stream of its own, while the one before is used."""
    on_gpu = device.type == "cuda"
    stream = torch.cuda.Stream(device) if on_gpu else None
    if stream:  # what it reads was written on this one
        stream.wait_stream(torch.cuda.current_stream(device))

    def make(step: int) -> Batch:
        with torch.cuda.stream(stream) if stream else nullcontext():
            batch = batch_of(step)
            if stream:
                stream.synchronize()
        return batch

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, steps[0]) if steps else None
        for step in steps:
            assert coming is not None
            batch = coming.result()
            coming = pool.submit(make, step + 1) if step + 1 in steps else None
            if stream:  # so that its memory is not given away before the last use here
                for tensor in (part_tensor for part in batch.parts for part_tensor in vars(part).values()):
                    tensor.record_stream(torch.cuda.current_stream(device))
                batch.counted.record_stream(torch.cuda.current_stream(device))
            yield batch
