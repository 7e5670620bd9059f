"""Writes files as PoseFormer's script saves them, and files that only look like it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.poseformer import PoseFormer

SMALL = {"frames": 9, "in_joints": 17, "out_joints": 17, "in_channels": 2, "embed_dim_ratio": 8, "depth": 2, "heads": 2}


def random_poseformer(**sizes: Any) -> PoseFormer:
    """A small model in evaluation mode, none of its weights zero."""
    torch.manual_seed(3)
    model = PoseFormer(**{**SMALL, **sizes}).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model


def upstream_content(model: nn.Module, *, parallel: bool = True, steps: int = 1) -> dict[str, Any]:
    """What the script saves: next epoch, learning rate, numpy's random state, the optimizer's state, the weights."""
    trained = nn.DataParallel(model) if parallel else model
    optimizer = torch.optim.AdamW(trained.parameters(), lr=2e-4, weight_decay=0.1)
    for _ in range(steps):
        for weight in trained.parameters():
            weight.grad = torch.ones_like(weight)
        optimizer.step()
    return {
        "epoch": 43,
        "lr": 0.0002 * 0.98**43,
        "random_state": np.random.RandomState(1234),
        "optimizer": optimizer.state_dict(),
        "model_pos": trained.state_dict(),
    }


def save(content: Any, path: Path, *, old: bool = False) -> Path:
    """torch.save in today's layout or in that of torch before 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


class Calls:
    """An object whose pickle calls `function`."""

    def __init__(self, function: Any, *args: Any, state: object = None) -> None:
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.parts


class Reference:
    """An object that a pickle names by an identity outside it, as torch does its storages."""

    def __init__(self, *identity: object) -> None:
        self.identity = identity


def tensor(shape: tuple[int, ...], strides: tuple[int, ...], *, count: int, offset: int = 0, key: str = "0") -> Calls:
    """A float32 tensor by hand, with any numbers in its description."""
    storage = Reference("storage", torch.FloatStorage, key, "cpu", count)
    return Calls(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, {})


def pickled(content: object) -> bytes:
    """The pickle of `content`, References in it by their identity."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return obj.identity if isinstance(obj, Reference) else None

    file = BytesIO()
    Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def write_zip(path: Path, members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    """An archive of these files."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path
