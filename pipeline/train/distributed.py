"""Several processes that train one model together, as torchrun starts them; a process of its own is rank 0 of 1.

Every rank draws the same whole batch and takes its share of it, so nothing depends on how many there are but the order
of sums. Rank 0 alone writes, tracks and validates.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from itertools import count as count_from
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.system.device import torch_device

LONGEST_WAIT = timedelta(hours=2)  # for another rank, such as the one that validates
GROUPS = count_from(0)  # that this process has joined
T = TypeVar("T")


@contextmanager
def process_group(device_name: str) -> Iterator[torch.device]:
    """Joins the process group, if torchrun started this process, for the length of the block; yields the device.

    Each rank of a machine has a GPU of its own where GPUs are used. Ranks but the first log warnings alone.
    """
    device = torch_device(device_name)
    if not dist.is_torchelastic_launched():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    store, own_rank, ranks = next(dist.rendezvous("env://"))
    if (
        os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]
    ):  # restarted ranks must not find the dead in the store
        store = dist.PrefixStore(f"{os.environ['TORCHELASTIC_RESTART_COUNT']}/{next(GROUPS)}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=own_rank, world_size=ranks, timeout=LONGEST_WAIT)
    if rank() > 0:
        logging.getLogger("pipeline").setLevel(logging.WARNING)
    try:
        yield device
    except Exception:  # other ranks may never answer; torchrun ends them
        raise
    except BaseException:
        _leave()
        raise
    _leave()


def _leave() -> None:
    gc.collect()  # of what holds on to the group: its threads, ended as late as Python itself, may wait for ever
    dist.destroy_process_group()


def rank() -> int:
    """Returns the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Returns how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wrap_ddp(model: nn.Module) -> nn.Module:
    """Returns the model for this rank: wrapped so that its backward pass averages gradients over the ranks."""
    return DistributedDataParallel(model) if count() > 1 else model


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Returns a context in which backward passes add to this rank's gradients and wait for no other rank."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def all_reduce_sum(values: Tensor) -> Tensor:
    """Returns the sum of the values of all ranks; a single rank gets its own back."""
    if count() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def any_rank(asks: bool, device: torch.device) -> bool:
    """Returns whether any rank asks. All get the same answer and wait for each other."""
    return asks if count() == 1 else bool(all_reduce_sum(torch.tensor([float(asks)], device=device)).item() > 0)


def broadcast(value: T) -> T:
    """Returns what rank 0 has, whatever the others have."""
    if count() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]
