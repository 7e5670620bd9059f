"""Stage train: one run (one seed) of a row. data/prepared/<row>/ -> data/checkpoints/<row>/run<seed>/.

Reads training.json, train/ and validation/; the test split stays closed. Writes weights.safetensors, card.json and
history.csv (one line per epoch). An interrupted run goes on where it was and ends with the same weights, bit for bit.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from models import build
from models.linear import Linear
from pipeline import losses, metrics, tracking
from pipeline.checkpoint import CARD, Card, read_card, write_checkpoint
from pipeline.clips import Clip, read_split
from pipeline.errors import UserError
from pipeline.figures import pose_figure
from pipeline.files import new_folder
from pipeline.params import Training, TrainingConfig, read_yaml, validated
from pipeline.skeleton import SKELETONS, Skeleton
from pipeline.windows import (
    FrameTable,
    balancing_weights,
    cut_windows,
    epoch_windows,
    every_nth,
    frame_table,
    predict_frames,
    scores_of_actions,
)
from pipeline.working_state import load_state, locked, remove_state, run_key, save_state

log = logging.getLogger(__name__)

SAVE_EVERY_S = 30.0
CODE = (
    "pipeline/train.py",
    "pipeline/windows.py",
    "pipeline/losses.py",
    "pipeline/metrics.py",
    "pipeline/checkpoint.py",
    "models/*.py",
)

Record = dict[str, int | float | None]  # one epoch: see HISTORY; None without validation clips
HISTORY = ("epoch", "train_mpjpe_mm", "val_mpjpe_mm", "val_p_mpjpe_mm", "lr", "grad_norm")


@dataclass(frozen=True)
class Data:
    """What a run learns from and validates on."""

    train: FrameTable
    clip_weights: Tensor | None  # of the training clips
    validation: FrameTable | None  # where no takes are held out
    validation_clips: list[Clip]
    in_skeleton: Skeleton
    out_skeleton: Skeleton


@dataclass
class Best:
    """The weights that the run will be judged by, and the epoch they are from."""

    epoch: int
    val_mpjpe_mm: float | None
    weights: dict[str, Tensor]


def train(prepared: Path, out: Path, *, seed: int, work_folder: Path) -> None:
    """Train one run into the folder `out`, whole or not at all. State for resuming is kept under `work_folder`.

    Raises UserError if the prepared data are missing or damaged, or do not fit the configuration.
    """
    config = validated(TrainingConfig, read_yaml(prepared / "training.json"), where=str(prepared / "training.json"))
    torch.set_num_threads(config.threads)
    device = torch_device(config.device)
    key = run_key(config.model_dump(), seed=seed, files=_files_a_run_depends_on(prepared))
    folder = work_folder / key
    with locked(folder) as waited:
        if waited and (out / CARD).exists() and read_card(out).run_key == key:
            log.info("%s run %d was finished by another process", config.row, seed)
            return
        data = _read_data(prepared, config, device)
        torch.manual_seed(seed)
        model = _untrained_model(config, data, where=prepared / "training.json").to(device)
        with tracking.start_run(
            row=config.row,
            name=f"{config.row}/run{seed}",
            job_type="train",
            run_id=f"{key}-{seed}",
            config=config.model_dump() | {"seed": seed},
            folder=work_folder.parent,
        ) as run:
            if isinstance(model, Linear):
                best, history = _fit_in_closed_form(model, data, config, run=run)
            else:
                best, history = _fit(model, data, config, seed=seed, folder=folder, run=run)
            card = Card(
                row=config.row,
                seed=seed,
                model=config.model,
                hyperparameters=config.hyperparameters,
                frames=config.frames,
                in_skeleton=config.in_skeleton,
                out_skeleton=config.out_skeleton,
                in_channels=config.in_channels,
                epoch=best.epoch,
                validation_mpjpe_mm=best.val_mpjpe_mm,
                run_key=key,
                torch=torch.__version__.split("+")[0],
            )
            with new_folder(out) as partial:
                write_checkpoint(partial, best.weights, card)
                _write_history(partial / "history.csv", history)
            run.summarise({"epoch_of_weights": best.epoch, "val/mpjpe_mm_of_weights": best.val_mpjpe_mm})
            if data.validation is not None:
                run.figure("prediction", _example_figure(model, best, data, data.validation, config))
            run.artifact(f"{config.row}-run{seed}", type="checkpoint", path=out, metadata=card.model_dump())
        remove_state(folder)


def torch_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the GPU if there is one. Raises UserError if a wanted GPU is missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: expected a GPU for 'cuda', found none that torch can use")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _files_a_run_depends_on(prepared: Path) -> list[Path]:
    root = Path(__file__).parent.parent
    code = [path for pattern in CODE for path in sorted(root.glob(pattern))]
    return [path for split in ("train", "validation") for path in sorted((prepared / split).glob("*"))] + code


def _read_data(prepared: Path, config: TrainingConfig, device: torch.device) -> Data:
    for name in (config.in_skeleton, config.out_skeleton):
        if name not in SKELETONS:
            known = ", ".join(SKELETONS)
            raise UserError(f"{prepared / 'training.json'}: skeleton: expected one of {known}, found '{name}'")
    in_skeleton, out_skeleton = SKELETONS[config.in_skeleton], SKELETONS[config.out_skeleton]
    clips = {split: read_split(prepared / split) for split in ("train", "validation")}
    expected = (len(in_skeleton.joints), config.in_channels)
    tables: dict[str, FrameTable] = {}
    for split in clips:
        if split == "validation" and not clips[split]:
            continue
        table = frame_table(clips[split], root=out_skeleton.root, device=device)
        if tuple(table.screen.shape[1:]) != expected or table.pose_m.shape[1] != len(out_skeleton.joints):
            found = f"{tuple(table.screen.shape[1:])} and {table.pose_m.shape[1]} joints"
            raise UserError(f"{prepared / split}: expected keypoints {expected} as training.json says, found {found}")
        tables[split] = table
    return Data(
        train=tables["train"],
        clip_weights=balancing_weights(clips["train"], config.training.action_balance),
        validation=tables.get("validation"),
        validation_clips=clips["validation"],
        in_skeleton=in_skeleton,
        out_skeleton=out_skeleton,
    )


def _untrained_model(config: TrainingConfig, data: Data, *, where: Path) -> nn.Module:
    try:
        return build(
            config.model,
            frames=config.frames,
            in_joints=len(data.in_skeleton.joints),
            out_joints=len(data.out_skeleton.joints),
            in_channels=config.in_channels,
            **config.hyperparameters,
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


@torch.no_grad()
def _fit_in_closed_form(
    model: Linear, data: Data, config: TrainingConfig, *, run: tracking.Run
) -> tuple[Best, list[Record]]:
    model.fit(data.train.screen, data.train.pose_m)
    residual_m = model(data.train.screen[:, None])[:, 0] - data.train.pose_m
    train_mpjpe_mm = 1000 * float(torch.linalg.vector_norm(residual_m, dim=-1).mean())
    scores = _validate(model, data, config)
    record = {"epoch": 1, "train_mpjpe_mm": train_mpjpe_mm, **scores, "lr": 0.0, "grad_norm": 0.0}
    run.log(_named_for_tracking(record))
    return Best(1, scores["val_mpjpe_mm"], model.state_dict()), [record]


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


def _fit(
    model: nn.Module, data: Data, config: TrainingConfig, *, seed: int, folder: Path, run: tracking.Run
) -> tuple[Best, list[Record]]:
    """Gradient descent over all epochs, going on from the state in `folder` if there is one."""
    training = config.training
    optimizers = _optimizers(model, training)
    generator = torch.Generator().manual_seed(seed)
    state = State(generator.get_state(), torch.zeros(2, device=data.train.screen.device))
    if saved := load_state(folder):
        state = _resume(saved, model, optimizers, state.sums.device)
        log.info("%s run %d goes on in epoch %d, step %d", config.row, seed, state.epoch + 1, state.step)
    for record in state.history:  # a resumed run's curve is whole
        run.log(_named_for_tracking(record))
    with _progress_bar(f"{config.row} run {seed}", training.epochs) as show:
        while state.epoch < training.epochs:
            generator.set_state(state.generator)
            frames_per_s = _train_epoch(model, optimizers, data, config, state, generator, folder=folder, show=show)
            record = {"epoch": state.epoch + 1, **_mean_of_epoch(state), **_validate(model, data, config)}
            record["lr"] = optimizers[0].param_groups[0]["lr"]
            state.history = [*state.history, record]
            if training.selection == "last" or state.best is None or _improves(record, state.best):
                weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                state.best = {"epoch": state.epoch + 1, "val_mpjpe_mm": record["val_mpjpe_mm"], "weights": weights}
            state.epoch, state.step, state.generator = state.epoch + 1, 0, generator.get_state()
            state.sums = torch.zeros_like(state.sums)
            _save(folder, state, model, optimizers)
            run.log(_named_for_tracking(record) | {"frames_per_s": frames_per_s})
            show(float(state.epoch), record, frames_per_s)
    assert state.best is not None
    return Best(**state.best), state.history


def _train_epoch(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    data: Data,
    config: TrainingConfig,
    state: State,
    generator: torch.Generator,
    *,
    folder: Path,
    show: ShowProgress,
) -> float:
    """The rest of one epoch, from `state.step` on; returns output frames per second. The losses stay on the device."""
    training, every_frame = config.training, model.predicts == "every_frame"
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
    started_at = saved_at = time.monotonic()
    frames = 0
    model.train()
    while state.step < steps:
        lr_factor = schedule(training, state.epoch * steps + state.step, steps)
        batch = windows[state.step * training.batch_windows : (state.step + 1) * training.batch_windows]
        screen, pose_m, counted = cut_windows(
            data.train, batch, data.in_skeleton, data.out_skeleton, frames=config.frames, every_frame=every_frame
        )
        loss_m = losses.mpjpe(model(screen), pose_m, frame_weights=counted)
        grad_norm = _step(model, optimizers, loss_m, lr_factor=lr_factor, clip_grad_norm=training.clip_grad_norm)
        state.sums = state.sums + torch.stack([loss_m.detach(), grad_norm])
        frames += counted.numel()
        state.step += 1
        show(state.epoch + state.step / steps, None, frames / (time.monotonic() - started_at))
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            _save(folder, state, model, optimizers)
            saved_at = time.monotonic()
    return frames / max(time.monotonic() - started_at, 1e-9)


def schedule(training: Training, step: int, steps_per_epoch: int) -> float:
    """Factor of the learning rate in step `step`, counted over all epochs: warm-up, then per-epoch or linear decay."""
    warmup = min(1.0, (step + 1) / (training.warmup_steps + 1))
    if training.lr_decay == "linear":
        return warmup * (1 - step / (training.epochs * steps_per_epoch))
    return warmup * training.lr_decay ** (step // steps_per_epoch)


def _optimizers(model: nn.Module, training: Training) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon (Jordan et al. 2024) for the matrices of the blocks and AdamW for the rest.

    Each group remembers its learning rate before the schedule as "base_lr".
    """
    named = dict(model.named_parameters())
    matrices = {name for name, p in named.items() if training.optimizer == "muon" and p.ndim == 2 and "blocks." in name}
    rest = [parameter for name, parameter in named.items() if name not in matrices]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=training.lr, weight_decay=training.weight_decay, fused=True)
    ]
    if matrices:
        hidden = [named[name] for name in sorted(matrices)]
        optimizers.append(torch.optim.Muon(hidden, lr=training.muon_lr, weight_decay=training.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def _step(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    loss_m: Tensor,
    *,
    lr_factor: float,
    clip_grad_norm: float,
) -> Tensor:
    """One step down the gradient of the loss; returns the gradient's norm before it was clipped."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss_m.backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * lr_factor
        optimizer.step()
    return grad_norm


def _mean_of_epoch(state: State) -> Record:
    """Training error and gradient norm over the epoch. Raises UserError if one is not finite."""
    loss_m, grad_norm = (state.sums / state.step).tolist()
    if not math.isfinite(loss_m + grad_norm):
        found = f"{loss_m} and {grad_norm}; try a smaller lr or clip_grad_norm"
        raise UserError(f"epoch {state.epoch + 1}: expected a finite loss and gradient norm, found {found}")
    return {"train_mpjpe_mm": 1000 * loss_m, "grad_norm": grad_norm}


def _validate(model: nn.Module, data: Data, config: TrainingConfig) -> Record:
    """MPJPE and P-MPJPE of the validation clips, mean over actions, without flip averaging; None if there are none."""
    table = data.validation
    if table is None:
        return {"val_mpjpe_mm": None, "val_p_mpjpe_mm": None}
    wanted = every_nth(table, config.training.validation_step)
    poses_m = predict_frames(
        model,
        table,
        data.in_skeleton,
        data.out_skeleton,
        frames=config.frames,
        stride=config.frames if model.predicts == "every_frame" else 1,
        flip_averaging=False,
        wanted=wanted,
    )
    scores = scores_of_actions(data.validation_clips, poses_m, table, wanted)
    means = metrics.average_over_actions([own for *_, own in scores], [action for _, action, _ in scores])
    return {"val_mpjpe_mm": means["mpjpe_mm"], "val_p_mpjpe_mm": means["p_mpjpe_mm"]}


def _improves(record: Record, best: dict[str, Any]) -> bool:
    return record["val_mpjpe_mm"] < best["val_mpjpe_mm"]


def _save(folder: Path, state: State, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    random = [torch.get_rng_state()]
    if torch.cuda.is_available():
        random.append(torch.cuda.get_rng_state())
    saved = vars(state) | {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "random": random,
    }
    save_state(folder, saved)


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


def _named_for_tracking(record: Record) -> dict[str, int | float]:
    names = {"train_mpjpe_mm": "train/mpjpe_mm", "val_mpjpe_mm": "val/mpjpe_mm", "val_p_mpjpe_mm": "val/p_mpjpe_mm"}
    known = {names.get(key, key): value for key, value in record.items() if value is not None}
    return known | {"train/loss": known["train/mpjpe_mm"] / 1000}


def _write_history(path: Path, history: list[Record]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def _example_figure(model: nn.Module, best: Best, data: Data, table: FrameTable, config: TrainingConfig) -> Figure:
    """The middle frame of the first validation clip, predicted and true."""
    model.load_state_dict(best.weights)
    frame = len(data.validation_clips[0]) // 2
    wanted = torch.zeros(len(table), dtype=torch.bool, device=table.screen.device)
    wanted[frame] = True
    poses_m = predict_frames(
        model,
        table,
        data.in_skeleton,
        data.out_skeleton,
        frames=config.frames,
        stride=config.frames if model.predicts == "every_frame" else 1,
        flip_averaging=False,
        wanted=wanted,
    )
    title = f"{data.validation_clips[0].name}, frame {frame}"
    predicted_m, true_m = poses_m[frame].cpu().numpy(), table.pose_m[frame].cpu().numpy()
    return pose_figure(predicted_m, true_m, data.out_skeleton, title=title)


ShowProgress = Callable[[float, Record | None, float], None]


@contextmanager
def _progress_bar(name: str, epochs: int) -> Iterator[ShowProgress]:
    """A live line on a terminal; elsewhere one line per epoch in the log."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed:.1f}/{task.total:.0f}  {task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=epochs, numbers="")
        numbers = ""

        def show(epochs_done: float, record: Record | None, frames_per_s: float) -> None:
            nonlocal numbers
            if record is not None:
                numbers = f"train {record['train_mpjpe_mm']:.1f} mm"
                if record["val_mpjpe_mm"] is not None:
                    numbers += f"  val {record['val_mpjpe_mm']:.1f} mm"
                if bar.disable:
                    log.info("%s epoch %d/%d  %s  %.0f frames/s", name, epochs_done, epochs, numbers, frames_per_s)
            bar.update(task, completed=epochs_done, numbers=f"{numbers}  {frames_per_s:,.0f} frames/s")

        yield show
