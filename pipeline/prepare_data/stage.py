"""Stage prepare_data: raw files of a dataset -> data/prepared/<row>/, clips by split and how to train and score on
them.

Reads params.yaml and data/raw. Writes train/, validation/ and test/ (see clips.py), manifest.json (counts, dropped
frames, sha256 of every file), training.json and evaluation.json (the row's parameters, apart so that a change of the
one does not make the other stale).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.config.params import (
    CmuRecipe,
    Evaluation,
    EvaluationConfig,
    Human36mRecipe,
    HumanEvaRecipe,
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
from pipeline.poses.clips import SPLITS, Clip, Prepared, read_split, split_writer
from pipeline.prepare_data import cmu_mocap, human36m, humaneva, mpi_inf_3dhp
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder, sha256_of, write_json

log = logging.getLogger(__name__)


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
    with new_folder(out) as folder:
        with ExitStack() as stack:
            writers = {
                split: stack.enter_context(split_writer(folder / split, may_be_empty=split == "validation"))
                for split in SPLITS
            }
            for split, clip in prepared.clips():
                writers[split](clip)
        splits = {split: read_split(folder / split) for split in SPLITS}
        if recipe.selection == "best_validation" and not splits["validation"]:
            where = f"{params_path}: datasets.{row.dataset}"
            raise UserError(f"{where}: selection: expected validation_takes for 'best_validation', found none")
        with_confidence = splits["train"][0].confidence is not None
        training = _training_config(row, params, recipe, prepared, in_channels=3 if with_confidence else 2)
        write_json(folder / "training.json", training.model_dump())
        write_json(folder / "evaluation.json", _evaluation_config(row, params, recipe, prepared).model_dump())
        write_json(folder / "manifest.json", _manifest(row, prepared, splits, folder))
    for difference in prepared.differences:
        log.warning("%s: not as known: %s", row.dataset, difference)
    log.info("%s: %d frames to train on", row, sum(len(clip) for clip in splits["train"]))


def _read_cmu(raw_folder: Path, keypoints: str, recipe: Recipe) -> Prepared:
    assert isinstance(recipe, CmuRecipe)
    return cmu_mocap.prepare(
        raw_folder / "cmu_mocap",
        keypoints=keypoints,
        rate_hz=recipe.rate_hz,
        detector_level=recipe.detector_level,
        validation_takes=recipe.validation_takes,
    )


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
    "cmu": _read_cmu,
    "h36m": _read_h36m,
    "humaneva": _read_humaneva,
    "mpi_inf_3dhp": _read_mpi_inf_3dhp,
}


def _training_config(
    row: Row, params: Params, recipe: Recipe, prepared: Prepared, *, in_channels: int
) -> TrainingConfig:
    architecture, hyperparameters = architecture_of(row.model, params)
    return TrainingConfig(
        row=str(row),
        frames=row.frames,
        model=architecture,
        hyperparameters=hyperparameters,
        in_skeleton=prepared.in_skeleton.name,
        out_skeleton=prepared.out_skeleton.name,
        in_channels=in_channels,
        threads=params.threads,
        device=params.device,
        precision=params.precision,
        compile=params.compile,
        micro_batches=params.micro_batches,
        memory_share=params.memory_share,
        training=Training(**{key: getattr(recipe, key) for key in Training.model_fields}),
        refilming=recipe.refilming if isinstance(recipe, CmuRecipe) else None,
    )


def _evaluation_config(row: Row, params: Params, recipe: Recipe, prepared: Prepared) -> EvaluationConfig:
    return EvaluationConfig(
        row=str(row),
        dataset=row.dataset,
        keypoints=row.keypoints,
        target=prepared.target,
        in_skeleton=prepared.in_skeleton.name,
        out_skeleton=prepared.out_skeleton.name,
        frames=row.frames,
        threads=params.threads,
        device=params.device,
        selection=recipe.selection,
        pck_joints=prepared.pck_joints,
        excluded_takes=tuple(prepared.excluded_takes),
        differences=tuple(prepared.differences),
        evaluation=Evaluation(**{key: getattr(recipe, key) for key in Evaluation.model_fields}),
    )


def _manifest(row: Row, prepared: Prepared, splits: Mapping[str, Sequence[Clip]], folder: Path) -> dict[str, Any]:
    """What is in the prepared folder: counts, what was left out, and the hash of every file."""
    return {
        "row": str(row),
        "splits": {split: _counts(splits[split]) for split in SPLITS},
        "dropped_frames": {
            "total": sum(dropped.frames for dropped in prepared.dropped),
            "takes": [asdict(dropped) for dropped in prepared.dropped if dropped.frames],
        },
        "differences": prepared.differences,
        "sha256": {
            str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
        },
    }


def _counts(clips: Sequence[Clip]) -> dict[str, Any]:
    def frames_by(key: Callable[[Clip], str]) -> dict[str, int]:
        frames: Counter[str] = Counter()
        for clip in clips:
            frames[key(clip)] += len(clip)
        return dict(sorted(frames.items()))

    return {
        "takes": len({clip.take for clip in clips}),
        "clips": len(clips),
        "frames": sum(len(clip) for clip in clips),
        "frames_per_take": frames_by(lambda clip: clip.take),
        "frames_per_subset": frames_by(lambda clip: clip.subset),
        "frames_per_subject": frames_by(lambda clip: clip.subject),
        "frames_per_action": frames_by(lambda clip: clip.action),
        "frames_per_camera": frames_by(lambda clip: clip.camera.name),
    }
