"""Stage train: one run (one seed) of a row. data/prepared/<row>/ -> data/checkpoints/<row>/run<seed>/.

Reads training.json, train/ and validation/; the test split stays closed. Writes weights.safetensors, card.json and
history.csv (one line per epoch). An interrupted run goes on where it was and ends with the same weights, bit for bit.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import nn

from models import build
from models.linear import Linear
from pipeline.config.params import TrainingConfig, read_yaml, validated
from pipeline.poses.checkpoint import CARD, Card, Record, read_card, write_checkpoint, write_history
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder
from pipeline.system.resume import hold_lock, remove_state, run_key
from pipeline.tracking import run as tracking
from pipeline.tracking.pictures import is_picture_epoch, middle_frames, track_validation_clip
from pipeline.train import distributed
from pipeline.train.batches import Data, read_data
from pipeline.train.loop import Best, fit, predict_validation_clip, validate

log = logging.getLogger(__name__)

CODE = (
    "pipeline/train/stage.py",
    "pipeline/train/loop.py",
    "pipeline/train/batches.py",
    "pipeline/mocap/bodies.py",
    "pipeline/distributed.py",
    "pipeline/poses/windows.py",
    "pipeline/train/losses.py",
    "pipeline/poses/metrics.py",
    "pipeline/train/optimization.py",
    "pipeline/poses/checkpoint.py",
    "pipeline/mocap/detector_noise.py",
    "pipeline/mocap/fresh_noise.py",
    "pipeline/mocap/augmentation.py",
    "models/*.py",
)


def train(prepared: Path, out: Path, *, seed: int, work_folder: Path) -> None:
    """Train one run into the folder `out`, whole or not at all. State for resuming is kept under `work_folder`.

    Under torchrun all ranks train it together. Raises UserError if the prepared data are missing or damaged, or do not
    fit the configuration, or if a loss is not finite.
    """
    config = validated(TrainingConfig, read_yaml(prepared / "training.json"), where=str(prepared / "training.json"))
    torch.set_num_threads(config.threads)
    key = run_key(config.model_dump(), seed=seed, files=_files_a_run_depends_on(prepared))
    folder = work_folder / key
    with (
        distributed.joined(config.device) as device,
        hold_lock(folder) if distributed.rank() == 0 else nullcontext(False) as waited,
    ):
        if distributed.from_first(waited and (out / CARD).exists() and read_card(out).run_key == key):
            log.info("%s run %d was finished by another process", config.row, seed)
            return
        data = read_data(prepared, config, device, mapped_in=folder)
        torch.manual_seed(seed)
        model = _untrained_model(config, data, where=prepared / "training.json").to(device)
        tracked = tracking.start_run(
            row=config.row,
            name=f"{config.row}/run{seed}",
            job_type="train",
            run_id=f"{key}-{seed}",
            config=config.model_dump() | {"seed": seed},
            folder=work_folder.parent,
        )
        with tracked if distributed.rank() == 0 else nullcontext(tracking.Run()) as run:
            if isinstance(model, Linear):
                best, history = _fit_in_closed_form(model, data, config, run=run)
            else:
                look = partial(_track_picture, run, model, data, config)
                best, history = fit(model, data, config, seed=seed, folder=folder, tracked=run, look=look)
            if best is None or distributed.rank() > 0:
                return
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
            with new_folder(out) as unfinished:
                write_checkpoint(unfinished, best.weights, card)
                write_history(unfinished, history)
            run.summarise({"epoch_of_weights": best.epoch, "val/mpjpe_mm_of_weights": best.val_mpjpe_mm})
            run.artifact(f"{config.row}-run{seed}", type="checkpoint", path=out, metadata=card.model_dump())
        remove_state(folder)


def _files_a_run_depends_on(prepared: Path) -> list[Path]:
    root = Path(__file__).parent.parent
    code = [path for pattern in CODE for path in sorted(root.glob(pattern))]
    return [path for split in ("train", "validation") for path in sorted((prepared / split).glob("*"))] + code


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


def _track_picture(run: tracking.Run, model: nn.Module, data: Data, config: TrainingConfig, *, epoch: int) -> None:
    """Sends the validation clip as the model lifts it now, after some of the epochs.

    The model draws no random numbers, so that it learns the same whether it is shown or not.
    """
    if not run.tracks or data.validation is None or not is_picture_epoch(epoch, config.training.epochs):
        return
    clip = data.validation_clips[0]
    predicted_m, true_m = predict_validation_clip(model, data, config, middle_frames(clip))
    track_validation_clip(run, clip, predicted_m, true_m, data.out_skeleton, row=config.row, epoch=epoch)


@torch.no_grad()
def _fit_in_closed_form(
    model: Linear, data: Data, config: TrainingConfig, *, run: tracking.Run
) -> tuple[Best | None, list[Record]]:
    model.fit(data.train.screen, data.train.pose_m)
    residual_m = model(data.train.screen[:, None])[:, 0] - data.train.pose_m
    train_mpjpe_mm = 1000 * float(torch.linalg.vector_norm(residual_m, dim=-1).mean())
    scores = validate(model, data, config)
    record = {"epoch": 1, "train_mpjpe_mm": train_mpjpe_mm, **scores, "lr": 0.0, "grad_norm": 0.0}
    run.log(tracking.name_epoch_metrics(record))
    return Best(1, scores["val_mpjpe_mm"], model.state_dict()), [record]
