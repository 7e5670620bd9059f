"""Gradient descent over all epochs of a run, for models that predict the middle frame of a window or all of them.

The losses stay on the device; the host reads them once in a while, and always before it saves a state.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.config.params import TrainingConfig
from pipeline.poses.checkpoint import Record
from pipeline.poses.predict import TrainedModel
from pipeline.system.errors import UserError
from pipeline.train import distributed, losses
from pipeline.train.batches import Batch, Data, Part, batches_from, draw_epoch, seed_of_step
from pipeline.train.optimization import optimizers_of, schedule, take_step
from pipeline.train.validation import validate

log = logging.getLogger(__name__)

STEPS_PER_READING = {"cpu": 1, "cuda": 16}  # a GPU would have to be waited for


@dataclass
class State:
    """How far a run has come. `generator` is the window generator's state at the start of `epoch`, which counts from 0.

    `step` is the next step of the epoch; `sums` are of the loss, the MPJPE and the gradient norm over its steps so far.
    `best` has the weights that the run will be judged by, their epoch (from 1) and validation error.
    """

    generator: Tensor
    sums: Tensor
    epoch: int = 0
    step: int = 0
    history: list[Record] = field(default_factory=list)
    best: dict[str, Any] | None = None


@dataclass(frozen=True)
class Setup:
    """What stays the same during a run. `forward` is the network, compiled and of all ranks."""

    model: TrainedModel
    forward: nn.Module
    optimizers: list[torch.optim.Optimizer]
    data: Data
    config: TrainingConfig
    seed: int

    @property
    def network(self) -> nn.Module:
        """The network whose weights are trained."""
        return self.model.network

    @property
    def every_frame(self) -> bool:
        """Whether the network predicts every frame of its window."""
        return self.model.predicts_every_frame

    @property
    def name(self) -> str:
        """The run's name in the log."""
        return f"{self.config.row} run {self.seed}"

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.data.device


@dataclass(frozen=True)
class Moment:
    """Where a run stands after its losses were read, or with `record` after an epoch that is over and validated."""

    epochs_done: float
    frames_per_s: float
    record: Record | None = None


def set_up(model: TrainedModel, data: Data, config: TrainingConfig, *, seed: int) -> tuple[Setup, State]:
    """Returns what a run needs, and its state at the start."""
    optimizers = optimizers_of(model.network, config.training)
    forward = distributed.wrap_ddp(_compile(model.network, data, config))
    state = State(torch.Generator().manual_seed(seed).get_state(), torch.zeros(3, device=data.device))
    setup = Setup(model, forward, optimizers, data, config, seed)
    _log_batch_size(setup)
    return setup, state


def train_epochs(setup: Setup, state: State) -> Iterator[Moment]:
    """Trains all epochs that are left, and yields whenever the losses were read and after each epoch.

    `state` is up to date at every moment, so that it can be saved there. Rank 0 alone validates and has records. Raises
    UserError when a loss or gradient is not finite.
    """
    epochs, generator = setup.config.training.epochs, torch.Generator()
    while state.epoch < epochs:
        generator.set_state(state.generator)
        frames_per_s = 0.0
        with _precision_of_products(setup.config):
            for moment in _train_steps(setup, state, generator):
                frames_per_s = moment.frames_per_s
                yield moment
        record = {"epoch": state.epoch + 1, **_mean_of_epoch(state)}
        if distributed.rank() == 0:
            lr = setup.optimizers[0].param_groups[0]["lr"]
            record |= {**validate(setup.model, setup.data, setup.config), "lr": lr}
            _keep_best(setup, state, record)
        state.epoch, state.step, state.generator = state.epoch + 1, 0, generator.get_state()
        state.sums = torch.zeros_like(state.sums)
        yield Moment(float(state.epoch), frames_per_s, record)


def _keep_best(setup: Setup, state: State, record: Record) -> None:
    """Adds the epoch to the history, and its weights as the best where the selection says so."""
    state.history = [*state.history, record]
    last = setup.config.training.selection == "last"
    if last or state.best is None or record["val_mpjpe_mm"] < state.best["val_mpjpe_mm"]:
        weights = {name: tensor.clone() for name, tensor in setup.network.state_dict().items()}
        state.best = {"epoch": record["epoch"], "val_mpjpe_mm": record["val_mpjpe_mm"], "weights": weights}


def _log_batch_size(setup: Setup) -> None:
    windows, frames = setup.config.training.batch_windows, setup.config.frames
    poses = windows * (frames if setup.every_frame else 1)
    parts = (
        f"{distributed.count()} x {setup.config.micro_batches} parts of "
        if distributed.count() * setup.config.micro_batches > 1
        else ""
    )
    log.info(
        "%s: batches of %d windows, %d frames seen, %d poses predicted, in %sone step",
        setup.name,
        windows,
        windows * frames,
        poses,
        parts,
    )


def _compile(model: nn.Module, data: Data, config: TrainingConfig) -> nn.Module:
    """The model compiled as the configuration says; as it is, with a line in the log, where that cannot be done."""
    if config.compile == "none":
        return model
    windows = math.ceil(config.training.batch_windows / (distributed.count() * config.micro_batches))
    example = torch.zeros(
        (windows, config.frames, len(data.in_skeleton.joints), config.in_channels), device=data.device
    )
    compiled: nn.Module = torch.compile(model, mode=config.compile, dynamic=False)  # type: ignore[assignment]
    try:  # once, so that what is missing is noticed here; nothing is drawn and no gradient is kept
        with torch.random.fork_rng(), _precision_of_products(config), _autocast(config, example.device):
            compiled(example).sum().backward()
    except Exception as error:  # of whatever compiler it is
        log.warning("%s: not compiled, %s: %s", config.row, type(error).__name__, str(error).strip().partition("\n")[0])
        compiled = model
    model.zero_grad(set_to_none=True)
    return compiled


@contextmanager
def _precision_of_products(config: TrainingConfig) -> Iterator[None]:
    """Lets products of matrices be TF32 within the block, where the configuration says so: training's, no score's."""
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


def _autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")


def _train_steps(setup: Setup, state: State, generator: torch.Generator) -> Iterator[Moment]:
    """Takes the rest of an epoch's steps, from `state.step` on; speed counts predicted poses."""
    epoch = draw_epoch(setup.data, setup.config, every_frame=setup.every_frame, number=state.epoch, generator=generator)
    batches = batches_from(state.step, setup.data, setup.config, epoch, every_frame=setup.every_frame, seed=setup.seed)
    started_at = time.monotonic()
    poses = 0
    unread: list[tuple[Tensor, Tensor]] = []  # numbers of a step that the host does not know yet, and its clips
    setup.network.train()
    for batch in batches:
        step = state.epoch * epoch.steps + state.step
        if distributed.count() > 1:  # what a network draws: another on every rank, the same when a run goes on
            torch.manual_seed(seed_of_step(setup.seed, step, distributed.rank() + 1))
        numbers = _step(setup, batch, lr_factor=schedule(setup.config.training, step, epoch.steps))
        state.sums = state.sums + numbers
        unread.append((numbers, batch.clips))
        poses += batch.poses
        state.step += 1
        if state.step < epoch.steps and state.step % STEPS_PER_READING[setup.device.type]:
            continue
        _check_finite(setup, state, unread)
        unread.clear()
        yield Moment(state.epoch + state.step / epoch.steps, poses / max(time.monotonic() - started_at, 1e-9))


def _step(setup: Setup, batch: Batch, *, lr_factor: float) -> Float[Tensor, "3"]:
    """One step of all ranks; returns loss and MPJPE of the whole batch in metres, and the norm of its gradient."""
    batch_m = torch.zeros(2, device=setup.device)
    for part in batch.parts[:-1]:
        with distributed.no_sync(setup.forward):  # they add up at the last part
            part_m = _losses_m(setup, part, batch)
            (part_m[0] * distributed.count()).backward()
        batch_m = batch_m + part_m.detach()
    part_m = _losses_m(setup, batch.parts[-1], batch)
    # DistributedDataParallel takes the mean over ranks of what has to be the sum.
    grad_norm = take_step(
        setup.network,
        setup.optimizers,
        part_m[0] * distributed.count(),
        lr_factor=lr_factor,
        clip_grad_norm=setup.config.training.clip_grad_norm,
    )
    return torch.cat([distributed.all_reduce_sum(batch_m + part_m.detach()), grad_norm[None]])


def _losses_m(setup: Setup, part: Part, batch: Batch) -> Float[Tensor, "2"]:
    """The part's share of the loss and of the MPJPE of the whole batch."""
    with _autocast(setup.config, setup.device):
        pose_m = setup.forward(part.screen).float()

    def error_m(predicted_m: losses.Poses, target_m: losses.Poses) -> Tensor:
        return losses.mpjpe(predicted_m, target_m, frame_weights=part.counted, weights_of_all=batch.counted)

    joint_error_m, weight = error_m(pose_m, part.pose_m), setup.config.training.bone_loss
    if weight == 0:
        return torch.stack([joint_error_m, joint_error_m])
    skeleton = setup.data.out_skeleton
    bone_error_m = error_m(losses.bone_vectors(pose_m, skeleton), losses.bone_vectors(part.pose_m, skeleton))
    return torch.stack([joint_error_m + weight * bone_error_m, joint_error_m])


def _check_finite(setup: Setup, state: State, unread: list[tuple[Tensor, Tensor]]) -> None:
    """Raises UserError naming the first step whose loss or gradient norm is not finite, and its clips."""
    numbers = torch.stack([of_step for of_step, _ in unread]).tolist()
    for place, (loss_m, _, grad_norm) in enumerate(numbers):
        if not math.isfinite(loss_m + grad_norm):
            clips = ", ".join(setup.data.clip_names[clip] for clip in torch.unique(unread[place][1]).tolist())
            where = f"epoch {state.epoch + 1}, step {state.step - len(unread) + place + 1}"
            found = f"{loss_m} and {grad_norm}; try a smaller lr or clip_grad_norm"
            raise UserError(f"{where}: expected a finite loss and gradient norm, found {found}; clips: {clips}")


def _mean_of_epoch(state: State) -> Record:
    """Loss, training error and gradient norm over the epoch."""
    loss_m, mpjpe_m, grad_norm = (state.sums / state.step).tolist()
    return {"train_loss_m": loss_m, "train_mpjpe_mm": 1000 * mpjpe_m, "grad_norm": grad_norm}


def saved_state(setup: Setup, state: State) -> dict[str, object]:
    """Returns all that a run needs to go on: its state, weights, optimizers and random numbers."""
    random = [torch.get_rng_state()]
    if torch.cuda.is_available():
        random.append(torch.cuda.get_rng_state())
    return vars(state) | {
        "model": setup.network.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in setup.optimizers],
        "random": random,
    }


def restore_state(saved: dict[str, Any], setup: Setup) -> State:
    """Puts a saved run back into the network, its optimizers and the random numbers; returns its state."""
    setup.network.load_state_dict(saved.pop("model"))
    for optimizer, values in zip(setup.optimizers, saved.pop("optimizers"), strict=True):
        optimizer.load_state_dict(values)
    random = saved.pop("random")
    torch.set_rng_state(random[0])
    if len(random) > 1 and torch.cuda.is_available():
        torch.cuda.set_rng_state(random[1])
    state = State(**saved)
    state.sums = state.sums.to(setup.device)
    return state
