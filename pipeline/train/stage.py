"""Stage train: trains one run (one seed) of a row from data/prepared/<row>/ into data/checkpoints/<row>/run<seed>/.

Reads training.json, train/ and validation/; the test split stays closed. Writes weights.safetensors, card.json and
history.csv (one line per epoch). An interrupted run resumes where it was and ends with the same weights, bit for bit.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange

from models import build, check_hyperparameters
from models.linear import Linear
from pipeline.config.params import TrainingConfig
from pipeline.poses.checkpoint import Card, Record, write_checkpoint, write_history
from pipeline.poses.predict import TrainedModel
from pipeline.poses.windows import FrameTable
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder
from pipeline.system.resume import (
    Interval,
    Stop,
    hold_lock,
    load_state,
    save_state,
    stop_on_signals,
)
from pipeline.tracking.pictures import is_picture_epoch, middle_frames, track_validation_clip
from pipeline.tracking.progress import ProgressBar, progress_bar
from pipeline.tracking.run import Run, name_epoch_metrics, start_run
from pipeline.train import distributed
from pipeline.train.batches import Data, batches_from, draw_epoch, read_data
from pipeline.train.job import Job, deliver, plan_job, read_training_config
from pipeline.train.loop import Moment, Setup, State, restore_state, saved_state, set_up, train_epochs
from pipeline.train.validation import predict_validation_clip, validate

log = logging.getLogger(__name__)

SAVE_EVERY_S = 30.0


@dataclass(frozen=True)
class Observers:
    """Who follows a run and may stop it: W&B, the display, and signals."""

    tracked: Run
    progress: ProgressBar
    stop: Stop


def train(prepared: Path, out: Path, *, seed: int, work_folder: Path) -> None:
    """Trains one run into the folder `out`, whole or not at all. State for resuming is kept under `work_folder`.

    Under torchrun all ranks train it together. Raises UserError if the prepared data are missing or damaged, or do not
    fit the configuration, or if a loss is not finite. On SIGTERM or SIGINT the state is saved and SystemExit raised,
    with the exit code that shells give to the signal.
    """
    train_job(plan_job(prepared, out, seed=seed, work_folder=work_folder), stop=Stop())


def train_job(job: Job, *, stop: Stop, progress: ProgressBar = progress_bar, hold_back: bool = False) -> None:
    """Trains a run, or finds it finished by another process, and delivers it unless it is to be held back.

    A signal, or whoever sets `stop`, ends it as in `train`, which says what is raised.
    """
    config = read_training_config(job.prepared)
    torch.set_num_threads(config.threads)
    with (
        distributed.process_group(config.device) as device,
        hold_lock(job.state) if distributed.rank() == 0 else nullcontext(False) as waited,
    ):
        if not distributed.broadcast(job.is_finished()):
            if distributed.broadcast(waited and job.is_delivered()):  # asked second, since finished runs are delivered
                log.info("%s run %d was finished by another process", config.row, job.seed)
                return
            _train_to_the_end(job, config, device, progress, stop)
        if distributed.rank() == 0 and not hold_back:
            deliver(job)


def _train_to_the_end(
    job: Job, config: TrainingConfig, device: torch.device, progress: ProgressBar, stop: Stop
) -> None:
    """Trains a run and writes its checkpoint to the folder for finished ones."""
    data = read_data(job.prepared, config, device)
    model = untrained_model(job, config, data)
    tracked = start_run(
        row=config.row,
        name=f"{config.row}/run{job.seed}",
        job_type="train",
        run_id=f"{job.key}-{job.seed}",
        config=config.model_dump() | {"seed": job.seed},
        folder=job.work_folder.parent,
    )
    with tracked if distributed.rank() == 0 else nullcontext(Run()) as run:
        fit = _fit_in_closed_form if isinstance(model.network, Linear) else _fit
        observers = Observers(run, progress, stop)
        state = fit(model, data, config, seed=job.seed, folder=job.state, observers=observers)
        if state.best is None or distributed.rank() > 0:
            return
        card = model.card.model_copy(
            update={"epoch": state.best["epoch"], "validation_mpjpe_mm": state.best["val_mpjpe_mm"]}
        )
        with new_folder(job.finished) as unfinished:
            write_checkpoint(unfinished, state.best["weights"], card)
            write_history(unfinished, state.history)
        run.summarise({"epoch_of_weights": card.epoch, "val/mpjpe_mm_of_weights": card.validation_mpjpe_mm})
        name = f"{config.row}-run{job.seed}"
        run.artifact(name, type="checkpoint", path=job.finished, metadata=card.model_dump(), place=job.out)


def untrained_model(job: Job, config: TrainingConfig, data: Data) -> TrainedModel:
    """Returns the model that a run starts from, and leaves torch's random numbers where the run starts from.

    Raises UserError if the hyperparameters are not those of the model.
    """
    where = job.prepared / "training.json"
    torch.manual_seed(job.seed)
    card = _card_of_untrained(config, seed=job.seed, run_key=job.key, where=where)
    return _build(card, data, where=where)


def _card_of_untrained(config: TrainingConfig, *, seed: int, run_key: str, where: Path) -> Card:
    try:
        hyperparameters = check_hyperparameters(config.model, config.hyperparameters)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    return Card(
        row=config.row,
        seed=seed,
        model=config.model,
        hyperparameters=hyperparameters,
        frames=config.frames,
        in_skeleton=config.in_skeleton,
        out_skeleton=config.out_skeleton,
        in_channels=config.in_channels,
        rate_hz=config.rate_hz,
        focal=config.focal,
        epoch=None,
        validation_mpjpe_mm=None,
        run_key=run_key,
        torch=torch.__version__.split("+")[0],
    )


def _build(card: Card, data: Data, *, where: Path) -> TrainedModel:
    """Returns the untrained model; its weights depend on torch's seed alone."""
    try:
        network = build(
            card.model,
            frames=card.frames,
            in_joints=len(data.in_skeleton.joints),
            out_joints=len(data.out_skeleton.joints),
            in_channels=card.in_channels,
            **card.hyperparameters,
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    return TrainedModel(network.to(data.device), card)


def _fit(
    model: TrainedModel, data: Data, config: TrainingConfig, *, seed: int, folder: Path, observers: Observers
) -> State:
    """Trains by gradient descent, going on from the state in `folder` if there is one; rank 0 alone has a result."""
    setup, state = set_up(model, data, config, seed=seed)
    if saved := distributed.broadcast(load_state(folder) if distributed.rank() == 0 else None):
        state = restore_state(saved, setup)
        log.info("%s goes on in epoch %d, step %d", setup.name, state.epoch + 1, state.step)
    for record in state.history:  # a resumed run's curve is whole
        observers.tracked.log(name_epoch_metrics(record))
    first_rank = distributed.rank() == 0
    bar = observers.progress(setup.name, config.training.epochs) if first_rank else nullcontext(_show_nothing)
    with bar as show, stop_on_signals(observers.stop) as stop:
        since_save = Interval(SAVE_EVERY_S)
        for moment in train_epochs(setup, state):
            if distributed.any_rank(stop.number is not None, setup.device):
                _save(folder, setup, state)
                _leave(setup, state, stop)
            if since_save.has_passed():
                _save(folder, setup, state)
            if first_rank:
                _track(moment, setup, observers.tracked)
                show(moment.epochs_done, moment.record, moment.frames_per_s)
    return state


def _show_nothing(epochs_done: float, record: object, frames_per_s: float) -> None:
    pass


def _save(folder: Path, setup: Setup, state: State) -> None:
    if distributed.rank() == 0:
        save_state(folder, saved_state(setup, state))


def _leave(setup: Setup, state: State, stop: Stop) -> None:
    where = f"{stop.name} in epoch {state.epoch + 1}, state saved after step {state.step}"
    log.warning("%s: %s", setup.name, where)
    raise SystemExit(stop.exit_code)


def _track(moment: Moment, setup: Setup, tracked: Run) -> None:
    """Logs an epoch that is over, and a few times in a run shows the validation clip as the model lifts it then.

    The model draws no random numbers for it, so that it learns the same whether it is shown or not.
    """
    if moment.record is None:
        return
    tracked.log(name_epoch_metrics(moment.record) | {"frames_per_s": moment.frames_per_s})
    data, config, epoch = setup.data, setup.config, round(moment.epochs_done)
    if not tracked.tracks or data.validation is None or not is_picture_epoch(epoch, config.training.epochs):
        return
    clip = data.validation_clips[0]
    predicted_m, true_m = predict_validation_clip(setup.model, data, middle_frames(clip))
    track_validation_clip(tracked, clip, predicted_m, true_m, data.out_skeleton, epoch=epoch)


@torch.no_grad()
def _fit_in_closed_form(
    model: TrainedModel, data: Data, config: TrainingConfig, *, seed: int, folder: Path, observers: Observers
) -> State:
    """Solves for the weights over all frames of video, or over the augmented windows of one epoch.

    Raises UserError in more than one process, of which each would see its share alone.
    """
    network = model.network
    assert isinstance(network, Linear)
    if distributed.count() > 1:
        raise UserError(f"model linear: expected one process, found {distributed.count()}; train it without torchrun")
    generator = torch.Generator().manual_seed(seed)
    if isinstance(data.train, FrameTable):
        screen, pose_m = data.train.screen, data.train.pose_m
    else:
        epoch = draw_epoch(data, config, every_frame=True, number=0, generator=generator)
        parts = [part for b in batches_from(0, data, config, epoch, every_frame=True, seed=seed) for part in b.parts]
        screen, pose_m = (
            torch.cat([rearrange(values, "w t j c -> (w t) j c") for values in each])
            for each in ([part.screen for part in parts], [part.pose_m for part in parts])
        )
    network.fit(screen, pose_m)
    residual_m = network(screen[:, None])[:, 0] - pose_m
    train_mpjpe_mm = 1000 * float(torch.linalg.vector_norm(residual_m, dim=-1).mean())
    scores = validate(model, data, config)
    errors = {"train_loss_m": train_mpjpe_mm / 1000, "train_mpjpe_mm": train_mpjpe_mm, **scores}
    record: Record = {"epoch": 1, **errors, "lr": 0.0, "grad_norm": 0.0}
    observers.tracked.log(name_epoch_metrics(record))
    best = {"epoch": 1, "val_mpjpe_mm": record["val_mpjpe_mm"], "weights": network.state_dict()}
    return State(generator.get_state(), torch.zeros(3), epoch=1, history=[record], best=best)
