"""The device that torch computes on."""

from __future__ import annotations

import torch

from pipeline.system.errors import UserError


def torch_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the GPU if there is one. Raises UserError if a wanted GPU is missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: expected a GPU for 'cuda', found none that torch can use")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
