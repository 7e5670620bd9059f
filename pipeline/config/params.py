"""params.yaml -> frozen values: every key known, of the right type and in its range, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt

from pipeline.config.rows import Row
from pipeline.config.values import Count, NotNegative, Number, Positive, Share, Values, validated
from pipeline.system.errors import UserError
from pipeline.system.files import read_yaml

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "tf32", "bf16"]
Compile = Literal["none", "default", "reduce-overhead"]


def _all_different(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(value)) < len(value):
        raise ValueError("different numbers")
    return value


Seed = Annotated[StrictInt, Field(ge=0)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_all_different)]


class Training(Values):
    """How a model is trained on a dataset."""

    optimizer: Literal["adamw", "muon"]
    epochs: Count
    lr: Positive
    muon_lr: Positive  # of the matrices of the transformer blocks, where the optimizer is muon
    lr_decay: Annotated[Number, Field(gt=0, le=1)] | Literal["linear"]  # factor per epoch, or linear to zero at the end
    warmup_steps: Annotated[StrictInt, Field(ge=0)]
    weight_decay: NotNegative
    batch_windows: Count
    windows_per_epoch: Count | None  # None: all there are
    action_balance: Annotated[Number, Field(ge=0, le=1)]  # windows are drawn in proportion to (frames of action)^-this
    bone_loss: NotNegative  # weight of the error of bones beside that of joints, see train/losses.py
    clip_grad_norm: Positive
    flip_augmentation: StrictBool
    selection: Literal["last", "best_validation"]
    validation_step: Count  # after each epoch, every n-th frame of the validation clips is scored


def _in_order(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("the lower end first")
    return value


Range = Annotated[tuple[Positive, Positive], AfterValidator(_in_order)]


class Augmentation(Values):
    """How every training window of motion capture is changed; see mocap/augmentation.py. Zeros: not at all."""

    height_m: Range  # of the cameras above the floor
    distance_m: Range  # of the cameras from the point they look at
    roll_degrees: NotNegative  # cameras lean by up to this to either side
    detector_level: Range  # of the simulated detector's errors, where it gives the keypoints
    missing_joints: Share  # of the simulated detector's keypoints, not seen at all
    people: NotNegative  # spread of the lengths of their bones; 1: as adults vary
    size: Positive  # of bodies and their paths, times that of the captured ones
    speed: Share  # played 1 - speed to 1 + speed times as fast
    bend: Share  # of the windows bend trunk, hips, knees, shoulders and elbows otherwise, some to a crouch
    lean: Share  # of the windows lean with the whole body
    tumble: Share  # of the windows are turned any way: lying, upside down


class Evaluation(Values):
    """How trained models are scored on a dataset."""

    flip_averaging: StrictBool
    window_stride: Count  # frames kept of a window by models that predict all of them
    frame_step: Count  # every n-th frame of a test clip is scored
    frame_fraction: Annotated[Number, Field(gt=0, le=1)] = 1.0  # of each test clip, in one stretch, that is scored
    actions: Literal["all"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all"  # scored ones, by exact name
    predicted_root: Literal["zeroed", "kept"]
    averaging: Literal["actions", "frames", "subjects", "subject_actions"]


class Recipe(Training, Evaluation):
    """All parameters of one dataset, and what differs for some keypoints or for some models (which come last)."""

    for_keypoints: dict[str, dict[str, object]] = Field({})
    for_model: dict[str, dict[str, object]] = Field({})


class MocapRecipe(Recipe):
    """Of motion capture: also the folders that it is read from, its rate, its detector and its augmentation."""

    folders: Annotated[tuple[str, ...], Field(min_length=1)]  # below data/raw
    rate_hz: Positive
    detector_level: NotNegative
    augmentation: Augmentation


class Human36mRecipe(Recipe):
    """Of Human3.6M: also which takes are kept from training to validate on, such as "S8 Walking 1"."""

    validation_takes: tuple[str, ...]


class HumanEvaRecipe(Recipe):
    """Of HumanEva-I: also which actions are trained on, and which chunks of Train are validated on."""

    train_actions: Annotated[tuple[str, ...], Field(min_length=1)]
    validation_takes: tuple[str, ...]


class MpiInf3dhpRecipe(Recipe):
    """Of MPI-INF-3DHP: also which of its two targets is learnt and scored, and which takes are validated on."""

    target: Literal["univ_annot3", "annot3"]
    validation_takes: tuple[str, ...]


class Recipes(Values):
    """A recipe for each dataset."""

    mocap: MocapRecipe
    h36m: Human36mRecipe
    humaneva: HumanEvaRecipe
    mpi_inf_3dhp: MpiInf3dhpRecipe


class Params(Values):
    """The whole of params.yaml."""

    dataset: str
    keypoints: str
    frames: StrictInt
    model: str
    seeds: Seeds  # a run twice would be scored as two that agree
    threads: Count
    device: Device
    precision: Precision
    compile: Compile
    micro_batches: Count
    datasets: Recipes
    models: dict[str, dict[str, object]]


class TrainingConfig(Values):
    """Everything that determines the weights of a row besides its data and the seed; training.json holds it."""

    row: str
    frames: Count
    model: str
    model_code: str  # models.code_hash of it: a changed architecture makes its own rows stale, and no others
    hyperparameters: dict[str, object]  # as given; the architecture has defaults for the rest
    in_skeleton: str
    out_skeleton: str
    in_channels: Count
    rate_hz: Positive | None  # of the frames to train on; None where they differ or nobody published it
    focal: Positive | None  # of the lenses in half image widths; None where they differ
    threads: Count
    device: Device
    precision: Precision  # of the products of matrices in training; weights and sums are float32
    compile: Compile  # by torch.compile, and in which mode
    micro_batches: Count  # into which a batch is cut, one after the other on the device
    training: Training
    augmentation: Augmentation | None = None  # of motion capture; of a video there is one view
    detector_level: NotNegative | None = None  # of motion capture's validation clips; None: exact keypoints


class EvaluationConfig(Values):
    """How the runs of a row are scored; evaluation.json holds it."""

    row: str
    model_code: str  # as in TrainingConfig
    dataset: str
    keypoints: str
    target: str
    in_skeleton: str
    out_skeleton: str
    frames: Count
    threads: Count
    device: Device
    selection: str
    detector_level: NotNegative | None = None  # of motion capture's test clips; None: exact keypoints
    pck_joints: tuple[StrictInt, ...]  # of the output; empty where the dataset has no PCK of its own
    excluded_takes: tuple[str, ...] = ()  # whole takes of the published test split that are not scored
    differences: tuple[str, ...] = ()  # what is not as the dataset is known to be
    evaluation: Evaluation


def load_params(path: Path) -> Params:
    """The parameters in `path`. Raises UserError that names the first wrong key, what was expected and what came.

    A file that `extends` another, whose path is relative to its own, says only what differs.
    """
    from models import check_hyperparameters  # here, as it loads torch, which takes seconds

    params = read_params(path)
    for name in params.models:
        try:
            check_hyperparameters(*architecture_of(name, params))
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
    for dataset in type(params.datasets).model_fields:
        recipe: Recipe = getattr(params.datasets, dataset)
        for kind in ("for_keypoints", "for_model"):
            for name, changes in getattr(recipe, kind).items():
                where = f"{path}: datasets.{dataset}.{kind}.{name}"
                if kind == "for_model" and name not in params.models:
                    raise UserError(f"{where}: expected a model of {', '.join(params.models)}")
                nested = sorted({"for_keypoints", "for_model"} & set(changes))
                if nested:
                    raise UserError(f"{where}.{nested[0]}: expected parameters of the recipe alone")
                validated(type(recipe), merged(recipe.model_dump(), changes), where=where)
    return params


def read_params(path: Path) -> Params:
    """The parameters in `path`, of which those of models, and what differs for some rows, are not checked.

    That needs no torch. Raises UserError as `load_params` does.
    """
    return validated(Params, _read_extended(path), where=str(path))


def _read_extended(path: Path) -> object:
    content = read_yaml(path)
    if not isinstance(content, dict) or "extends" not in content:
        return content
    base = content.pop("extends")
    if not isinstance(base, str):
        raise UserError(f"{path}: extends: expected the path of another file of parameters, found {base!r}")
    original = read_yaml(path.parent / base)
    return merged(original, content) if isinstance(original, dict) else original


def merged(original: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """`original` with the values of `changes`; where both have a mapping, likewise merged."""
    values = {**original, **changes}
    for key, change in changes.items():
        before = original.get(key)
        if isinstance(before, dict) and isinstance(change, dict):
            values[key] = merged(before, change)
    return values


def architecture_of(name: str, params: Params) -> tuple[str, dict[str, object]]:
    """Returns the file in models/ that the model called `name` is built from, and the hyperparameters given for it.

    The file is the one of the model's own name unless its entry says `architecture`, so that one architecture has
    several presets. What is not given the architecture completes when it is built.
    """
    hyperparameters = dict(params.models[name])
    architecture = str(hyperparameters.pop("architecture", name))
    return architecture, hyperparameters


def recipe_for(row: Row, params: Params, *, where: str) -> Recipe:
    """The recipe of the row's dataset with what differs for its keypoints and its model.

    Raises UserError if the row's dataset or model is not in params.yaml.
    """
    datasets = list(type(params.datasets).model_fields)
    if row.dataset not in datasets:
        raise UserError(f"{where}: dataset: expected one of {', '.join(datasets)}, found '{row.dataset}'")
    if row.model not in params.models:
        raise UserError(f"{where}: model: expected one of {', '.join(params.models)}, found '{row.model}'")
    recipe: Recipe = getattr(params.datasets, row.dataset)
    changes = merged(recipe.for_keypoints.get(row.keypoints, {}), recipe.for_model.get(row.model, {}))
    return validated(type(recipe), merged(recipe.model_dump(), changes), where=f"{where}: datasets.{row.dataset}")
