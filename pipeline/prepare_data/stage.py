"""Stage prepare_data: reads raw files of a dataset and writes data/prepared/<row>/, which training and scoring read.

Reads params.yaml and data/raw. Writes train/, validation/ and test/ (clips of video, see poses/clips.py, or takes of
motion capture, see mocap/takes.py), manifest.json (counts, dropped frames, sha256 of every file), training.json and
evaluation.json (the row's parameters, apart so that a change of the one does not make the other stale).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from models import code_hash
from pipeline.config.params import (
    Evaluation,
    EvaluationConfig,
    Human36mRecipe,
    HumanEvaRecipe,
    MocapRecipe,
    MpiInf3dhpRecipe,
    Params,
    Recipe,
    Training,
    TrainingConfig,
    architecture_of,
    load_params,
    recipe_for,
)
from pipeline.config.rows import Row, parse_row
from pipeline.mocap.cameras import film, read_clips
from pipeline.mocap.takes import TAKES, Take, read_take_split, write_take_split
from pipeline.poses.clips import SPLITS, Clip, write_split
from pipeline.prepare_data import motion_capture
from pipeline.prepare_data.licensed import human36m, humaneva, mpi_inf_3dhp
from pipeline.prepare_data.prepared import Dropped, Prepared
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder, sha256_of, write_json

log = logging.getLogger(__name__)

NOT_IN_VIEW = "a joint out of the image or behind the camera"


def prepare_data(row_name: str, out: Path, *, params_path: Path, raw_folder: Path) -> None:
    """Prepare the row's data into `out`, whole or not at all.

    Raises UserError if a parameter or a raw file is bad.
    """
    row = parse_row(row_name)
    params = load_params(params_path)
    recipe = recipe_for(row, params, where=str(params_path))
    if row.dataset not in SOURCES:
        raise UserError(f"dataset {row.dataset}: expected one that can be read: {', '.join(SOURCES)}")
    prepared = SOURCES[row.dataset](raw_folder, row.keypoints, recipe)
    level = _detector_level(row, recipe)
    with new_folder(out) as folder:
        for split in SPLITS:
            if prepared.takes is not None:
                write_take_split(folder / split, prepared.takes[split], may_be_empty=split == "validation")
            else:
                write_split(folder / split, prepared.splits[split], may_be_empty=split == "validation")
        recordings = {split: _read_recordings(folder / split, level, split=split) for split in SPLITS}
        if recipe.selection == "best_validation" and not recordings["validation"]:
            where = f"{params_path}: datasets.{row.dataset}"
            raise UserError(f"{where}: selection: expected takes to validate on for 'best_validation', found none")
        seen = prepared.splits["train"]
        if prepared.takes is not None:
            seen = next(filter(None, (film(take, detector_level=level)[0] for take in prepared.takes["train"])), [])
        for split, clips in (("train", seen), ("test", recordings["test"])):
            if not clips:
                expected = f"a take of split {split} whose body a camera sees whole in a frame"
                raise UserError(f"{raw_folder}: expected {expected}, found none; the floor is to be at height 0")
        training = _training_config(row, params, recipe, prepared, clips=seen)
        write_json(folder / "training.json", training.model_dump())
        write_json(folder / "evaluation.json", _evaluation_config(row, params, recipe, prepared).model_dump())
        write_json(folder / "manifest.json", _manifest(row, prepared, recordings, folder))
    for difference in prepared.differences:
        log.warning("%s: not as known: %s", row.dataset, difference)
    log.info("%s: %d frames to train on", row, sum(map(len, recordings["train"])))


def _read_mocap(raw_folder: Path, keypoints: str, recipe: Recipe) -> Prepared:
    assert isinstance(recipe, MocapRecipe)
    return motion_capture.prepare(raw_folder, recipe.folders, keypoints=keypoints, rate_hz=recipe.rate_hz)


def _read_h36m(raw_folder: Path, keypoints: str, recipe: Recipe) -> Prepared:
    assert isinstance(recipe, Human36mRecipe)
    return human36m.prepare(raw_folder / "h36m", keypoints=keypoints, validation_takes=recipe.validation_takes)


def _read_humaneva(raw_folder: Path, keypoints: str, recipe: Recipe) -> Prepared:
    assert isinstance(recipe, HumanEvaRecipe)
    return humaneva.prepare(
        raw_folder / "humaneva",
        keypoints=keypoints,
        train_actions=recipe.train_actions,
        scored_actions=humaneva.ACTIONS if recipe.actions == "all" else recipe.actions,
        validation_takes=recipe.validation_takes,
    )


def _read_mpi_inf_3dhp(raw_folder: Path, keypoints: str, recipe: Recipe) -> Prepared:
    assert isinstance(recipe, MpiInf3dhpRecipe)
    return mpi_inf_3dhp.prepare(
        raw_folder / "mpi_inf_3dhp",
        keypoints=keypoints,
        target=recipe.target,
        validation_takes=recipe.validation_takes,
    )


SOURCES: dict[str, Callable[[Path, str, Recipe], Prepared]] = {
    "mocap": _read_mocap,
    "h36m": _read_h36m,
    "humaneva": _read_humaneva,
    "mpi_inf_3dhp": _read_mpi_inf_3dhp,
}


def _training_config(
    row: Row, params: Params, recipe: Recipe, prepared: Prepared, *, clips: Sequence[Clip]
) -> TrainingConfig:
    architecture, hyperparameters = architecture_of(row.model, params)
    return TrainingConfig(
        row=str(row),
        frames=row.frames,
        model=architecture,
        model_code=code_hash(architecture),
        hyperparameters=hyperparameters,
        in_skeleton=prepared.in_skeleton.name,
        out_skeleton=prepared.out_skeleton.name,
        in_channels=2 if clips[0].confidence is None else 3,
        rate_hz=_shared_rate_hz(clips),
        focal=_shared_focal(clips),
        threads=params.threads,
        device=params.device,
        precision=params.precision,
        compile=params.compile,
        micro_batches=params.micro_batches,
        training=Training(**{key: getattr(recipe, key) for key in Training.model_fields}),
        augmentation=recipe.augmentation if isinstance(recipe, MocapRecipe) else None,
        detector_level=_detector_level(row, recipe),
    )


def _read_recordings(folder: Path, level: float | None, *, split: str) -> Sequence[Clip | Take]:
    """Reads a prepared split as its stage does: training takes motion capture as it is, validation and test see it."""
    if split == "train" and (folder / TAKES).exists():
        return read_take_split(folder)
    return read_clips(folder, detector_level=level)


def _detector_level(row: Row, recipe: Recipe) -> float | None:
    """Returns the level of the simulated detector's errors; None where keypoints are exact or come from files."""
    return recipe.detector_level if isinstance(recipe, MocapRecipe) and row.keypoints == "det" else None


def _shared_rate_hz(clips: Sequence[Clip]) -> float | None:
    """Returns the rate of the clips; None if it differs between them or is not known."""
    rates_hz = {clip.rate_hz for clip in clips}
    return rates_hz.pop() if len(rates_hz) == 1 else None


def _shared_focal(clips: Sequence[Clip]) -> float | None:
    """Returns the focal length of the clips' lenses in half image widths; None if they differ by more than 1 %."""
    lenses = {(clip.camera.focal_px, clip.camera.width_px) for clip in clips}
    focals = [2 * focal_px[0] / width_px for focal_px, width_px in lenses if focal_px is not None]
    if len(focals) < len(lenses) or max(focals) > 1.01 * min(focals):
        return None
    return round(sum(focals) / len(focals), 2)


def _evaluation_config(row: Row, params: Params, recipe: Recipe, prepared: Prepared) -> EvaluationConfig:
    return EvaluationConfig(
        row=str(row),
        model_code=code_hash(architecture_of(row.model, params)[0]),
        dataset=row.dataset,
        keypoints=row.keypoints,
        target=prepared.target,
        in_skeleton=prepared.in_skeleton.name,
        out_skeleton=prepared.out_skeleton.name,
        frames=row.frames,
        threads=params.threads,
        device=params.device,
        selection=recipe.selection,
        detector_level=_detector_level(row, recipe),
        pck_joints=prepared.pck_joints,
        excluded_takes=tuple(prepared.excluded_takes),
        differences=tuple(prepared.differences),
        evaluation=Evaluation(**{key: getattr(recipe, key) for key in Evaluation.model_fields}),
    )


def _manifest(
    row: Row, prepared: Prepared, recordings: Mapping[str, Sequence[Clip | Take]], folder: Path
) -> dict[str, object]:
    """What is in the prepared folder: counts, what was left out, and the hash of every file."""
    dropped = prepared.dropped if prepared.takes is None else _frames_out_of_view(prepared.takes)
    return {
        "row": str(row),
        "splits": {split: _counts(recordings[split]) for split in SPLITS},
        "dropped_frames": {
            "total": sum(part.frames for part in dropped),
            "takes": [asdict(part) for part in dropped if part.frames],
        },
        "differences": prepared.differences,
        "sha256": {
            str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
        },
    }


def _frames_out_of_view(takes: Mapping[str, Sequence[Take]]) -> list[Dropped]:
    """Returns for each take to score and each camera how many frames the camera does not see whole."""
    return [
        Dropped(take.name, camera, frames, NOT_IN_VIEW)
        for split in ("validation", "test")
        for take in takes[split]
        for camera, frames in film(take, detector_level=None)[1].items()
    ]


def _counts(recordings: Sequence[Clip | Take]) -> dict[str, object]:
    """Counts clips, or the takes of motion capture that training sees through cameras of its own."""
    counts = {
        "takes": len({_take_name(recording) for recording in recordings}),
        "clips": sum(isinstance(recording, Clip) for recording in recordings),
        "frames": sum(map(len, recordings)),
    }
    groups: dict[str, Callable[[Clip | Take], str]] = {
        "take": _take_name,
        "subset": lambda recording: recording.subset,
        "subject": lambda recording: recording.subject,
        "action": lambda recording: recording.action,
        "camera": lambda recording: recording.camera.name if isinstance(recording, Clip) else "drawn in training",
    }
    return counts | {f"frames_per_{name}": _frames_by(recordings, key) for name, key in groups.items()}


def _take_name(recording: Clip | Take) -> str:
    return recording.take if isinstance(recording, Clip) else recording.name


def _frames_by(recordings: Sequence[Clip | Take], key: Callable[[Clip | Take], str]) -> dict[str, int]:
    frames: Counter[str] = Counter()
    for recording in recordings:
        frames[key(recording)] += len(recording)
    return dict(sorted(frames.items()))
