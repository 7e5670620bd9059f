"""How weights move: the optimizers, the schedule of their learning rates, and one step down the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.config.params import Training


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
        optimizers.append(Muon(hidden, lr=training.muon_lr, weight_decay=training.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum (Jordan et al. 2024): a matrix moves by its momentum, orthogonalised.

    As torch.optim.Muon, which computes in bfloat16: there most CPUs are several times slower, and each has other bits.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in (matrix for matrix in group["params"] if matrix.grad is not None):
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                mean = state["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
                direction = orthogonalised(matrix.grad.lerp(mean, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(direction, alpha=-group["lr"] * math.sqrt(max(1, matrix.shape[0] / matrix.shape[1])))


def orthogonalised(matrix: Float[Tensor, "R C"]) -> Float[Tensor, "R C"]:
    """About U V^T of the matrix U S V^T: every singular value that is not tiny becomes one of 0.7 to 1.2.

    Five Newton-Schulz iterations with the coefficients of Jordan et al.; in bfloat16 on a GPU, else in float32.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide.bfloat16() if matrix.is_cuda else wide
    wide = wide / torch.linalg.vector_norm(wide).clamp(min=1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


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
