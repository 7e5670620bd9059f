"""The networks that lift 2D keypoints to 3D poses, by name, and the contract that each of them keeps.

A model is an nn.Module whose

    forward(screen: Float[Tensor, "B T J_in C"]) -> Float[Tensor, "B T_out J_out 3"]

takes keypoints on the screen, x / width * 2 - 1 and y / width * 2 - height / width in pixels, with C = 2, or C = 3
where the third channel is the detector's confidence from 0 to 1. It returns joints in the camera frame in metres,
relative to the root joint. The class attribute `predicts` says which frames: "every_frame" (T_out is T) or
"middle_frame" (T_out is 1). Output joint 0 is the root. Its constructor takes keywords only: frames, in_joints,
out_joints and in_channels, which the data decide, then its own hyperparameters with annotations (typing.Annotated and
pydantic's Field for ranges) and defaults.

A model whose first part looks at single frames may offer the two parts of `forward` as `spatial_features` (N J_in C ->
N D) and `lift_features` (B T D -> B T_out J_out 3): overlapping windows of a clip then share their frames' features.
A model of every frame that takes windows of no other length than `frames` says so by `fixed_frames = True`.

A new model is one file here and one line in MODELS.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
from pydantic import BeforeValidator, ConfigDict, ValidationError, create_model
from torch import nn

from models.linear import Linear
from models.mixste import MixSTE
from models.motionagformer import MotionAGFormer
from models.poseformer import PoseFormer
from models.rayformer import RayFormer
from models.stcformer import STCFormer

MODELS: dict[str, type[nn.Module]] = {
    "linear": Linear,
    "poseformer": PoseFormer,
    "mixste": MixSTE,
    "stcformer": STCFormer,
    "motionagformer": MotionAGFormer,
    "rayformer": RayFormer,
}

DECIDED_BY_DATA = ("frames", "in_joints", "out_joints", "in_channels")


def build(
    name: str, *, frames: int, in_joints: int, out_joints: int, in_channels: int, **hyperparameters: object
) -> nn.Module:
    """An untrained model; its weights depend on torch's seed alone.

    `frames` is T, odd so that a window has a middle. Raises ValueError if a size or a hyperparameter is wrong.
    """
    complete = check_hyperparameters(name, hyperparameters)
    if frames < 1 or frames % 2 == 0:
        raise ValueError(f"models.{name}: expected an odd positive number of frames, found {frames}")
    if in_joints < 1 or out_joints < 1:
        raise ValueError(f"models.{name}: expected at least one joint in and out, found {in_joints} and {out_joints}")
    if in_channels not in (2, 3):
        raise ValueError(f"models.{name}: expected 2 or 3 channels, found {in_channels}")
    return MODELS[name](frames=frames, in_joints=in_joints, out_joints=out_joints, in_channels=in_channels, **complete)


def check_hyperparameters(name: str, hyperparameters: Mapping[str, object]) -> dict[str, object]:
    """All hyperparameters of the model called `name`: those given, checked, and the defaults of the others.

    Integers and Booleans must be just that; a number may also be text, as "1e-3" is in YAML. Raises ValueError with one
    line if the model or a key is unknown, a value is of the wrong type or range, or the values do not go together.
    """
    if name not in MODELS:
        raise ValueError(f"models: expected one of {', '.join(MODELS)}, found '{name}'")
    fields = hyperparameter_fields(MODELS[name])
    for key in hyperparameters:
        if key not in fields:
            raise ValueError(f"models.{name}: unknown key '{key}', expected one of {', '.join(fields)}")
    config = ConfigDict(strict=True, allow_inf_nan=False, protected_namespaces=())
    checker = create_model(name, __config__=config, **fields)
    try:
        complete = checker.model_validate(dict(hyperparameters)).model_dump()
    except ValidationError as error:
        raise ValueError(f"models.{name}.{in_one_line(error)}") from None
    try:
        # Widths and heads must agree, say: on the meta device the whole model is built without allocating any of it.
        with torch.device("meta"):
            MODELS[name](frames=1, in_joints=1, out_joints=1, in_channels=2, **complete)
    except ValueError as error:
        raise ValueError(f"models.{name}: {error}") from None
    return complete


def code_hash(name: str) -> str:
    """Returns a hash of the file of the architecture called `name` and of those in models/ that it imports.

    It changes when the network may compute something else, and not when another architecture changes or is added.
    """
    folder, found = Path(__file__).parent, set()
    waiting = [MODELS[name].__module__]
    while waiting:
        module = waiting.pop()
        if module in found or not module.startswith("models."):
            continue
        found.add(module)
        for node in ast.walk(ast.parse((folder / f"{module.split('.')[1]}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting.append(node.module)
    files = [folder / f"{module.split('.')[1]}.py" for module in sorted(found)]
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def hyperparameter_fields(model: type[nn.Module]) -> dict[str, Any]:
    """For each hyperparameter in the constructor's signature its annotation and default, as pydantic wants them."""
    hints = get_type_hints(model.__init__, include_extras=True)
    return {
        key: (number_or_text(hints[key]), parameter.default)
        for key, parameter in inspect.signature(model).parameters.items()
        if key not in DECIDED_BY_DATA
    }


def number_or_text(hint: object) -> object:
    """The same annotation, but a float may come as text, which is what YAML makes of 1e-3 without a point."""
    return Annotated[hint, BeforeValidator(parsed_number)] if getattr(hint, "__origin__", hint) is float else hint


def parsed_number(value: object) -> object:
    """The number that a text stands for; anything else as it came, for pydantic to judge."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def in_one_line(error: ValidationError) -> str:
    """The first complaint as "key: expected ..., found ..."."""
    first = error.errors()[0]
    expected = first["msg"].removeprefix("Input should be ")
    if expected.startswith(("greater", "less")):
        expected = f"a number {expected}"
    return f"{'.'.join(map(str, first['loc']))}: expected {expected}, found {first['input']!r}"
