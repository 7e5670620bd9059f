"""Stage train: one run (one seed) of a row. data/prepared/<row>/ -> data/checkpoints/<row>/run<seed>/.

Reads training.json, train/ and validation/; the test split stays closed. Writes weights.safetensors, card.json and
history.csv (one line per epoch). An interrupted run goes on where it was and ends with the same weights, bit for bit.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from models import build
from models.linear import Linear
from pipeline import losses, metrics, tracking
from pipeline.checkpoint import CARD, Card, Record, read_card, write_checkpoint, write_history
from pipeline.clips import Clip, read_split
from pipeline.device import torch_device
from pipeline.errors import UserError
from pipeline.figures import pose_figure
from pipeline.files import new_folder
from pipeline.optimization import optimizers_of, schedule, take_step
from pipeline.params import TrainingConfig, read_yaml, validated
from pipeline.progress import ShowProgress, progress_bar
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
    "pipeline/optimization.py",
    "pipeline/checkpoint.py",
    "models/*.py",
)


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
                write_history(partial, history)
            run.summarise({"epoch_of_weights": best.epoch, "val/mpjpe_mm_of_weights": best.val_mpjpe_mm})
            if data.validation is not None:
                run.figure("prediction", _example_figure(model, best, data, data.validation, config))
            run.artifact(f"{config.row}-run{seed}", type="checkpoint", path=out, metadata=card.model_dump())
        remove_state(folder)


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
    optimizers = optimizers_of(model, training)
    generator = torch.Generator().manual_seed(seed)
    state = State(generator.get_state(), torch.zeros(2, device=data.train.screen.device))
    if saved := load_state(folder):
        state = _resume(saved, model, optimizers, state.sums.device)
        log.info("%s run %d goes on in epoch %d, step %d", config.row, seed, state.epoch + 1, state.step)
    for record in state.history:  # a resumed run's curve is whole
        run.log(_named_for_tracking(record))
    with progress_bar(f"{config.row} run {seed}", training.epochs) as show:
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
        grad_norm = take_step(model, optimizers, loss_m, lr_factor=lr_factor, clip_grad_norm=training.clip_grad_norm)
        state.sums = state.sums + torch.stack([loss_m.detach(), grad_norm])
        frames += counted.numel()
        state.step += 1
        show(state.epoch + state.step / steps, None, frames / (time.monotonic() - started_at))
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            _save(folder, state, model, optimizers)
            saved_at = time.monotonic()
    return frames / max(time.monotonic() - started_at, 1e-9)


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
    poses_m = _predicted(model, table, data, config, wanted)
    scores = scores_of_actions(data.validation_clips, poses_m, table, wanted)
    means = metrics.average_over_actions([own for *_, own in scores], [action for _, action, _ in scores])
    return {"val_mpjpe_mm": means["mpjpe_mm"], "val_p_mpjpe_mm": means["p_mpjpe_mm"]}


def _predicted(
    model: nn.Module, table: FrameTable, data: Data, config: TrainingConfig, wanted: Bool[Tensor, " N"]
) -> Float[Tensor, "N J_out 3"]:
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


def _example_figure(model: nn.Module, best: Best, data: Data, table: FrameTable, config: TrainingConfig) -> Figure:
    """The middle frame of the first validation clip, predicted and true."""
    model.load_state_dict(best.weights)
    frame = len(data.validation_clips[0]) // 2
    wanted = torch.zeros(len(table), dtype=torch.bool, device=table.screen.device)
    wanted[frame] = True
    poses_m = _predicted(model, table, data, config, wanted)
    title = f"{data.validation_clips[0].name}, frame {frame}"
    predicted_m, true_m = poses_m[frame].cpu().numpy(), table.pose_m[frame].cpu().numpy()
    return pose_figure(predicted_m, true_m, data.out_skeleton, title=title)
