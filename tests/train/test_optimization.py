"""Muon against the singular value decomposition, and against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.train.optimization import Muon, orthogonalised

SHAPES = [(5, 5), (4, 9), (9, 4), (128, 256)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
def test_an_orthogonalised_matrix_keeps_its_singular_vectors_and_evens_their_values(shape, factor):
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(shape[0], min(shape), generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(shape[1], min(shape), generator=generator, dtype=torch.float64))[0]
    values = factor * torch.linspace(0.2, 1.0, min(shape), dtype=torch.float64)
    found = orthogonalised((left * values @ right.T).float()).double()
    in_its_axes = left.T @ found @ right
    evened = in_its_axes.diagonal()
    assert (in_its_axes - torch.diag(evened)).abs().max() < 1e-4
    assert evened.min() > 0.65
    assert evened.max() < 1.25
    torch.testing.assert_close(left * evened @ right.T, found, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_goes_the_way_of_torchs_own_but_for_its_rounding(shape):
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = Muon([ours], lr=0.02, weight_decay=0.1), torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1)
    for _ in range(4):
        gradient = torch.randn(shape, generator=generator)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved, expected = ours.detach() - start, theirs.detach() - start
    assert torch.linalg.norm(moved - expected) < 0.02 * torch.linalg.norm(expected)  # bfloat16 has three digits


def test_a_matrix_without_gradient_stays():
    matrix = nn.Parameter(torch.ones(3, 2))
    Muon([matrix], lr=1.0, weight_decay=1.0).step()
    assert torch.equal(matrix, torch.ones(3, 2))
