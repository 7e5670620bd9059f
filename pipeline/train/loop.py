"""Gradient descent over all epochs of a run, for models that predict the middle frame of a window or all of them.

The losses stay on the device; the host reads them once in a while, and always before it saves a state.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pipeline.config.params import TrainingConfig
from pipeline.poses import metrics
from pipeline.poses.checkpoint import Record
from pipeline.poses.windows import FrameTable, every_nth, predict_frames, scores_of_actions
from pipeline.system.errors import UserError
from pipeline.system.resume import Interval, Stop, load_state, save_state, stop_on_signals
from pipeline.tracking import run as tracking
from pipeline.tracking.progress import ShowProgress, progress_bar
from pipeline.train import distributed, losses
from pipeline.train.batches import Batch, Data, Part, batches_of_epoch, seed_of_step
from pipeline.train.optimization import optimizers_of, schedule, take_step

log = logging.getLogger(__name__)

SAVE_EVERY_S = 30.0
STEPS_PER_READING = {"cpu": 1, "cuda": 16}  # a GPU would have to be waited for


@dataclass
class Best:
    """The weights that the run will be judged by, and the epoch they are from."""

    epoch: int
    val_mpjpe_mm: float | None
    weights: dict[str, Tensor]


@dataclass
class State:
    """How far a run has come. `generator` is the window generator's state at the start of `epoch`, which counts from 0.

    `step` is the next step of the epoch; `sums` are of the loss and of the gradient norm over its steps so far.
    """

    generator: Tensor
    sums: Tensor
    epoch: int = 0
    step: int = 0
    history: list[Record] = field(default_factory=list)
    best: dict[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """What stays the same during a run. `forward` is the model, compiled and of all ranks."""

    model: nn.Module
    forward: nn.Module
    optimizers: list[torch.optim.Optimizer]
    data: Data
    config: TrainingConfig
    seed: int
    folder: Path  # of the saved state
    stop: Stop
    due: Callable[[], bool]  # whether the state is to be saved now

    @property
    def every_frame(self) -> bool:
        """Whether the model predicts every frame of its window."""
        return self.model.predicts == "every_frame"

    @property
    def name(self) -> str:
        """For the log."""
        return f"{self.config.row} run {self.seed}"

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.data.train.clip_first.device


def fit(
    model: nn.Module,
    data: Data,
    config: TrainingConfig,
    *,
    seed: int,
    folder: Path,
    tracked: tracking.Run,
    look: Callable[..., None],
) -> tuple[Best | None, list[Record]]:
    """Train over all epochs, going on from the state in `folder` if there is one; rank 0 alone gets the result.

    After each epoch rank 0 calls `look(epoch=...)`, counted from 1, which may use the model.
    Raises UserError when a loss or gradient is not finite. On SIGTERM or SIGINT the state is saved and SystemExit
    raised, with the exit code that shells give to the signal.
    """
    training, device = config.training, data.train.clip_first.device
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    optimizers = optimizers_of(model, training)
    generator = torch.Generator().manual_seed(seed)
    state = State(generator.get_state(), torch.zeros(2, device=device))
    compiled = _compiled(model, data, config)
    if saved := distributed.from_first(load_state(folder) if distributed.rank() == 0 else None):
        state = _resume(saved, model, optimizers, device)
        log.info("%s run %d goes on in epoch %d, step %d", config.row, seed, state.epoch + 1, state.step)
    for record in state.history:  # a resumed run's curve is whole
        tracked.log(tracking.name_epoch_metrics(record))
    bar = progress_bar(f"{config.row} run {seed}", training.epochs) if distributed.rank() == 0 else nullcontext(_silent)
    with bar as show, stop_on_signals() as stop:
        due = Interval(SAVE_EVERY_S).has_passed
        run = Run(model, distributed.parallel(compiled), optimizers, data, config, seed, folder, stop, due)
        _log_batch_size(run)
        while state.epoch < training.epochs:
            generator.set_state(state.generator)
            frames_per_s = _train_epoch(run, state, generator, show)
            record = {"epoch": state.epoch + 1, **_mean_of_epoch(state)}
            if distributed.rank() == 0:
                record |= {**validate(model, data, config), "lr": optimizers[0].param_groups[0]["lr"]}
                state.history = [*state.history, record]
                if training.selection == "last" or state.best is None or _improves(record, state.best):
                    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                    state.best = {"epoch": state.epoch + 1, "val_mpjpe_mm": record["val_mpjpe_mm"], "weights": weights}
            state.epoch, state.step, state.generator = state.epoch + 1, 0, generator.get_state()
            state.sums = torch.zeros_like(state.sums)
            if run.due():
                _save(run, state)
            if distributed.rank() == 0:
                tracked.log(tracking.name_epoch_metrics(record) | {"frames_per_s": frames_per_s})
                look(epoch=state.epoch)
                show(float(state.epoch), record, frames_per_s)
    return None if state.best is None else Best(**state.best), state.history


def _silent(epochs_done: float, record: object, frames_per_s: float) -> None:
    pass


def _log_batch_size(run: Run) -> None:
    windows, frames = run.config.training.batch_windows, run.config.frames
    poses = windows * (frames if run.every_frame else 1)
    parts = (
        f"{distributed.count()} x {run.config.micro_batches} parts of "
        if distributed.count() * run.config.micro_batches > 1
        else ""
    )
    log.info(
        "%s: batches of %d windows, %d frames seen, %d poses predicted, in %sone step",
        run.name,
        windows,
        windows * frames,
        poses,
        parts,
    )


def _compiled(model: nn.Module, data: Data, config: TrainingConfig) -> nn.Module:
    """The model compiled as the configuration says; as it is, with a line in the log, where that cannot be done."""
    if config.compile == "none":
        return model
    windows = math.ceil(config.training.batch_windows / (distributed.count() * config.micro_batches))
    example = data.train.clip_first.new_zeros(
        (windows, config.frames, len(data.in_skeleton.joints), config.in_channels), dtype=torch.float32
    )
    compiled: nn.Module = torch.compile(model, mode=config.compile, dynamic=False)  # type: ignore[assignment]
    try:  # once, so that what is missing is noticed here; nothing is drawn and no gradient is kept
        with torch.random.fork_rng(), _autocast(config, example.device):
            compiled(example).sum().backward()
    except Exception as error:  # of whatever compiler it is
        log.warning("%s: not compiled, %s: %s", config.row, type(error).__name__, str(error).strip().partition("\n")[0])
        compiled = model
    model.zero_grad(set_to_none=True)
    return compiled


def _autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")


def _train_epoch(run: Run, state: State, generator: torch.Generator, show: ShowProgress) -> float:
    """The rest of one epoch, from `state.step` on; returns predicted poses per second."""
    training = run.config.training
    steps, batches = batches_of_epoch(
        run.data, run.config, every_frame=run.every_frame, seed=run.seed, epoch=state.epoch, generator=generator
    )
    started_at = time.monotonic()
    poses = 0
    unread: list[tuple[Tensor, Tensor]] = []  # loss and gradient norm that the host does not know yet, and the clips
    run.model.train()
    for batch in batches(state.step):
        step = state.epoch * steps + state.step
        if distributed.count() > 1:  # what a model draws: another on every rank, the same when a run goes on
            torch.manual_seed(seed_of_step(run.seed, step, distributed.rank() + 1))
        numbers = _step(run, batch, lr_factor=schedule(training, step, steps))
        state.sums = state.sums + numbers
        unread.append((numbers, batch.clips))
        poses += batch.poses
        state.step += 1
        show(state.epoch + state.step / steps, None, poses / (time.monotonic() - started_at))
        if state.step < steps and state.step % STEPS_PER_READING[run.device.type]:
            continue
        _check_finite(run, state, unread)
        unread.clear()
        if distributed.anyone(run.stop.number is not None, run.device):
            _save(run, state)
            log.warning(
                "%s: %s in epoch %d, state saved after step %d", run.name, run.stop.name, state.epoch + 1, state.step
            )
            raise SystemExit(run.stop.exit_code)
        if run.due():
            _save(run, state)
    return poses / max(time.monotonic() - started_at, 1e-9)


def _step(run: Run, batch: Batch, *, lr_factor: float) -> Float[Tensor, "2"]:
    """One step of all ranks; returns the loss of the whole batch in metres and the norm of its gradient."""
    loss_m = torch.zeros((), device=run.device)
    for part in batch.parts[:-1]:
        with distributed.alone(run.forward):  # they add up at the last part
            part_m = _loss_m(run, part, batch)
            (part_m * distributed.count()).backward()
        loss_m = loss_m + part_m.detach()
    part_m = _loss_m(run, batch.parts[-1], batch)
    # DistributedDataParallel takes the mean over ranks of what has to be the sum.
    grad_norm = take_step(
        run.model,
        run.optimizers,
        part_m * distributed.count(),
        lr_factor=lr_factor,
        clip_grad_norm=run.config.training.clip_grad_norm,
    )
    return torch.stack([distributed.summed(loss_m + part_m.detach()), grad_norm])


def _loss_m(run: Run, part: Part, batch: Batch) -> Float[Tensor, ""]:
    """The part's share of the loss of the whole batch."""
    with _autocast(run.config, run.device):
        pose_m = run.forward(part.screen)
    return losses.mpjpe(pose_m.float(), part.pose_m, frame_weights=part.counted, weights_of_all=batch.counted)


def _check_finite(run: Run, state: State, unread: list[tuple[Tensor, Tensor]]) -> None:
    """Raises UserError naming the first step whose loss or gradient norm is not finite, and its clips."""
    numbers = torch.stack([of_step for of_step, _ in unread]).tolist()
    for place, (loss_m, grad_norm) in enumerate(numbers):
        if not math.isfinite(loss_m + grad_norm):
            clips = ", ".join(run.data.clip_names[clip] for clip in torch.unique(unread[place][1]).tolist())
            where = f"epoch {state.epoch + 1}, step {state.step - len(unread) + place + 1}"
            found = f"{loss_m} and {grad_norm}; try a smaller lr or clip_grad_norm"
            raise UserError(f"{where}: expected a finite loss and gradient norm, found {found}; clips: {clips}")


def _mean_of_epoch(state: State) -> Record:
    """Training error and gradient norm over the epoch."""
    loss_m, grad_norm = (state.sums / state.step).tolist()
    return {"train_mpjpe_mm": 1000 * loss_m, "grad_norm": grad_norm}


def validate(model: nn.Module, data: Data, config: TrainingConfig) -> Record:
    """MPJPE and P-MPJPE of the validation clips, mean over actions, without flip averaging; None if there are none."""
    table = data.validation
    if table is None:
        return {"val_mpjpe_mm": None, "val_p_mpjpe_mm": None}
    wanted = every_nth(table, config.training.validation_step)
    poses_m = predicted(model, table, data, config, wanted)
    scores = scores_of_actions(data.validation_clips, poses_m, table, wanted)
    means = metrics.average_over_actions([own for *_, own in scores], [action for _, action, _ in scores])
    return {"val_mpjpe_mm": means["mpjpe_mm"], "val_p_mpjpe_mm": means["p_mpjpe_mm"]}


def predicted(
    model: nn.Module, table: FrameTable, data: Data, config: TrainingConfig, wanted: Bool[Tensor, " N"]
) -> Float[Tensor, "N J_out 3"]:
    """The model's poses of the wanted frames of a table, without flip averaging."""
    return predict_frames(
        model,
        table,
        data.in_skeleton,
        data.out_skeleton,
        frames=config.frames,
        stride=config.frames if model.predicts == "every_frame" else 1,
        flip_averaging=False,
        wanted=wanted,
    )


def predict_validation_clip(
    model: nn.Module, data: Data, config: TrainingConfig, frames: Int[np.ndarray, " S"]
) -> tuple[Float[np.ndarray, "S J_out 3"], Float[np.ndarray, "S J_out 3"]]:
    """Predicted and true poses of the given frames of the first validation clip, which is the table's first."""
    assert data.validation is not None
    wanted = torch.zeros(len(data.validation), dtype=torch.bool, device=data.validation.screen.device)
    wanted[torch.from_numpy(frames)] = True
    poses_m = predicted(model, data.validation, data, config, wanted)
    predicted_m, true_m = (
        poses[torch.from_numpy(frames)].cpu().numpy().astype(np.float64) for poses in (poses_m, data.validation.pose_m)
    )
    return predicted_m, true_m


def _improves(record: Record, best: dict[str, Any]) -> bool:
    return record["val_mpjpe_mm"] < best["val_mpjpe_mm"]


def _save(run: Run, state: State) -> None:
    if distributed.rank() > 0:
        return
    random = [torch.get_rng_state()]
    if torch.cuda.is_available():
        random.append(torch.cuda.get_rng_state())
    saved = vars(state) | {
        "model": run.model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "random": random,
    }
    save_state(run.folder, saved)


def _resume(
    saved: dict[str, Any], model: nn.Module, optimizers: list[torch.optim.Optimizer], device: torch.device
) -> State:
    model.load_state_dict(saved.pop("model"))
    for optimizer, values in zip(optimizers, saved.pop("optimizers"), strict=True):
        optimizer.load_state_dict(values)
    random = saved.pop("random")
    torch.set_rng_state(random[0])
    if len(random) > 1 and torch.cuda.is_available():
        torch.cuda.set_rng_state(random[1])
    state = State(**saved)
    state.sums = state.sums.to(device)
    return state
