"""Reads files of torch.save without executing what they contain: the weights by name, and the epoch."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.system.archives import check_torch_archive, read_confined
from pipeline.system.errors import UserError, reason

EXPECTED = "a whole file of torch.save"
# The functions that numpy 1 and numpy 2 pickle their numbers and the state of their random numbers with.
OF_NUMPY = (
    *("numpy.ndarray", "numpy.dtype", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    *("numpy.random._mt19937.MT19937", "numpy.random._pickle.__bit_generator_ctor"),
    *("numpy.random._pickle.__randomstate_ctor", "numpy.random.__RandomState_ctor"),
)


class IgnoredNumpy:
    """Stands for each function of OF_NUMPY, whose results nobody needs."""

    def __init__(self, *arguments: object) -> None:
        """Does nothing with the arguments."""

    def __setstate__(self, state: object) -> None:
        """Does nothing with the state."""


def read_weight_file(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """Returns the weights in a file by name, and the epoch if it says one.

    Raises UserError if the file cannot be read without executing it, or holds no weights.
    """
    content = read_confined(_read_weights, path, expected=EXPECTED)
    weights = {name: torch.from_numpy(array) for name, array in _without_prefix(content["weights"]).items()}
    return weights, content["epoch"]


def _read_weights(path: Path) -> dict[str, Any]:
    """Returns the arrays under "model_pos" as "weights", and the "epoch" if the file has one."""
    content = _load(path)
    tensors = content.get("model_pos") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not tensors:
        raise UserError("expected a dict with the weights as 'model_pos', found none")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"model_pos: expected tensors by name, found {type(tensor).__name__}")
        if tensor.dtype != torch.float32:
            raise UserError(f"tensor {name}: expected float32, found {tensor.dtype}")
    epoch = content.get("epoch")
    weights = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    return {"epoch": epoch if type(epoch) is int else None, "weights": weights}


def _load(path: Path) -> Any:
    """Returns what torch's restricted unpickler makes of a file. Raises UserError that names what it refused."""
    try:
        if zipfile.is_zipfile(path):  # else it is of torch before 1.6, which knows no checksums
            check_torch_archive(path)
        with torch.serialization.safe_globals([(IgnoredNumpy, name) for name in OF_NUMPY]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises whatever comes of the bytes
        # What torch refused stands within a long text about how to load the file nevertheless.
        called = re.search(r"GLOBAL (\S+)", str(error))
        refused = re.search(r"WeightsUnpickler error:\s*(.*)", str(error))
        found = f"a call of '{called[1]}'" if called else refused[1] if refused else reason(error)
        raise UserError(f"expected {EXPECTED}, found {found}") from error


def _without_prefix(weights: dict[str, Any]) -> dict[str, Any]:
    """Returns the weights by their names without the "module." of a model that was trained in parallel."""
    if all(name.startswith("module.") for name in weights):
        return {name.removeprefix("module."): array for name, array in weights.items()}
    return weights
