"""Reads files of torch.save without executing what they contain: the weights by name, and the epoch."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

import numpy as np
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
WRAPPERS = ("model_pos", "state_dict", "model", "model_state_dict")  # under which training scripts save the weights
PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel and of torch.compile, in any order and number
HALF = (torch.float16, torch.bfloat16)  # each of their numbers is one of float32
MAX_LISTED = 6  # names of a kind that a message has


class _Content(TypedDict):
    """The arrays of a file by name, and the epoch if the file has one."""

    epoch: int | None
    weights: dict[str, np.ndarray]


class IgnoredNumpy:
    """Stands for each function of OF_NUMPY, whose results nobody needs."""

    def __init__(self, *arguments: object) -> None:
        """Does nothing with the arguments."""

    def __setstate__(self, state: object) -> None:
        """Does nothing with the state."""


def read_weight_file(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """Returns the weights in a file by name, in float32 and without PREFIXES, and the epoch if the file says one.

    The weights are the whole content of the file, or lie under one of WRAPPERS. Raises UserError if the file cannot be
    read without executing it, or holds no weights; it then says what the file holds.
    """
    content = read_confined(_read_weights, path, expected=EXPECTED)
    weights = {name: torch.from_numpy(array) for name, array in content["weights"].items()}
    return without_prefixes(weights), content["epoch"]


def without_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights by their names without the prefixes that all of them have."""
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            return without_prefixes({name.removeprefix(prefix): weight for name, weight in weights.items()})
    return weights


def list_names(names: Iterable[object]) -> str:
    """Returns the first few names, cut where they are long, and how many more there are."""
    texts = [str(name)[:80] for name in names]
    more = f" and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
    return ", ".join(texts[:MAX_LISTED]) + more


def _read_weights(path: Path) -> _Content:
    _refuse_other_formats(path)
    content = _load(path)
    epoch = content.get("epoch") if isinstance(content, dict) else None
    weights = {name: _as_array(name, tensor) for name, tensor in _find_weights(content).items()}
    return {"epoch": epoch if type(epoch) is int else None, "weights": weights}


def _refuse_other_formats(path: Path) -> None:
    """Raises UserError for two formats that hold weights too, and says how to make a file of torch.save of them."""
    with path.open("rb") as file:
        start = file.read(10)
    if start[8:10] == b'{"':
        way = "torch.save(safetensors.torch.load_file(PATH), NEW)"
        raise UserError(f"expected {EXPECTED}, found a safetensors file; make one of it with {way}")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                way = "torch.save(torch.jit.load(PATH).state_dict(), NEW)"
                raise UserError(f"expected {EXPECTED}, found a TorchScript program; where you trust it: {way}")


def _load(path: Path) -> object:
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
        if called and called[1].rpartition(".")[2][:1].isupper():  # a class: a whole model was saved, or its options
            found += "; save the model's state_dict() alone, with the code that made this file and where you trust it"
        raise UserError(f"expected {EXPECTED}, found {found}") from error


def _find_weights(content: object) -> dict[str, Tensor]:
    """Returns the tensors by name. Raises UserError saying what else there is."""
    places = f"the weights by name, as a whole or as one of {', '.join(map(repr, WRAPPERS))}"
    if not isinstance(content, dict):
        raise UserError(f"expected {places}, found a value of type {type(content).__name__}")
    if content and all(isinstance(value, Tensor) for value in content.values()):
        found = {"": content}
    else:
        found = {key: content[key] for key in WRAPPERS if isinstance(content.get(key), dict) and content[key]}
    if len(found) != 1:
        names = [f"{key!r} ({_describe(value)})" for key, value in content.items()]
        raise UserError(f"expected {places}, found {list_names(names) or 'an empty dict'}")
    ((key, weights),) = found.items()
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            where = f"{key}: " if key else ""
            raise UserError(f"{where}expected tensors by name, found {name!r} ({_describe(tensor)})")
    return weights


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a dict of {len(value)}" if isinstance(value, dict) else type(value).__name__


def _as_array(name: str, tensor: Tensor) -> np.ndarray:
    """Returns the numbers of a tensor, those of half precision in float32, which holds them exactly."""
    if tensor.dtype in HALF:
        tensor = tensor.float()
    is_count = tensor.dtype == torch.int64 and name.endswith("num_batches_tracked")
    if tensor.dtype != torch.float32 and not is_count:
        found = f"{tensor.dtype}; the weights' .float() makes it that"
        raise UserError(f"tensor {name}: expected float32, float16 or bfloat16, found {found}")
    return tensor.detach().numpy()
