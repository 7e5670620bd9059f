"""How weights move: the optimizers, the schedule of their learning rates, and one step down the gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.params import Training


def schedule(training: Training, step: int, steps_per_epoch: int) -> float:
    """Factor of the learning rate in step `step`, counted over all epochs: warm-up, then per-epoch or linear decay."""
    warmup = min(1.0, (step + 1) / (training.warmup_steps + 1))
    if training.lr_decay == "linear":
        return warmup * (1 - step / (training.epochs * steps_per_epoch))
    return warmup * training.lr_decay ** (step // steps_per_epoch)


def optimizers_of(model: nn.Module, training: Training) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon (Jordan et al. 2024) for the matrices of the blocks and AdamW for the rest.

    Each group remembers its learning rate before the schedule as "base_lr".
    """
    named = dict(model.named_parameters())
    matrices = {name for name, p in named.items() if training.optimizer == "muon" and p.ndim == 2 and "blocks." in name}
    rest = [parameter for name, parameter in named.items() if name not in matrices]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=training.lr, weight_decay=training.weight_decay, fused=True)
    ]
    if matrices:
        hidden = [named[name] for name in sorted(matrices)]
        optimizers.append(torch.optim.Muon(hidden, lr=training.muon_lr, weight_decay=training.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def take_step(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    loss_m: Tensor,
    *,
    lr_factor: float,
    clip_grad_norm: float,
) -> Tensor:
    """One step down the gradient of the loss and of what went backward since the last step.

    Returns the gradient's norm before it was clipped, and leaves no gradient behind.
    """
    loss_m.backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * lr_factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return grad_norm
