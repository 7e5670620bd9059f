"""The simulated detector in torch errs as the one in numpy, which is tested against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from experiments.generalisation.conditions import without
from pipeline.mocap import detector_noise
from pipeline.mocap.fresh_noise import detect_windows, hidden_joints, hide_joints

HALF_WIDTH_PX = 500.0


def standing(windows: int, frames: int) -> Float[Tensor, "B T 17 2"]:
    """Somebody 400 px tall who stands still, joint by joint at a place of its own."""
    place = torch.arange(17.0)
    pixels = torch.stack([300 + 10 * (place % 5), 100 + 25 * place], -1)
    return pixels.expand(windows, frames, 17, 2)


def detected(windows: int, frames: int, *, level: float = 1.3, rate_hz: float = 30.0, seed: int = 0):
    return detect_windows(
        standing(windows, frames),
        rate_hz=rate_hz,
        level=torch.full((windows,), level),
        half_width_px=torch.full((windows,), HALF_WIDTH_PX),
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.fixture(scope="module")
def both() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Errors and confidence of the numpy and of the torch model over many windows of 27 frames at 30 Hz."""
    pixels = standing(1, 27)[0].numpy().astype(np.float64)
    of_numpy = [
        detector_noise.detect(
            pixels, rate_hz=30.0, level=1.3, half_width_px=HALF_WIDTH_PX, random=np.random.default_rng(seed)
        )
        for seed in range(600)
    ]
    errors_px = np.stack([found - pixels for found, _ in of_numpy])
    torch_pixels, torch_confidence = detected(3000, 27)
    torch_errors_px = (torch_pixels - standing(3000, 27)).numpy()
    return (errors_px, np.stack([c for _, c in of_numpy])), (torch_errors_px, torch_confidence.numpy())


@pytest.mark.parametrize("quantile", [0.25, 0.5, 0.75, 0.9, 0.97])
def test_errors_are_distributed_as_those_of_the_other_implementation(quantile, both):
    (of_numpy, _), (of_torch, _) = both
    expected = np.quantile(np.linalg.norm(of_numpy, axis=-1), quantile, axis=(0, 1))
    found = np.quantile(np.linalg.norm(of_torch, axis=-1), quantile, axis=(0, 1))
    np.testing.assert_allclose(found, expected, rtol=0.2)  # 600 windows of errors that hang together
    np.testing.assert_allclose(found.mean(), expected.mean(), rtol=0.03)


def test_errors_hang_together_over_time_as_those_of_the_other_implementation(both):
    for lag in (1, 3, 10):
        own, other = (
            np.median(np.linalg.norm(errors[:, lag:] - errors[:, :-lag], axis=-1))
            for errors in (both[1][0], both[0][0])
        )
        assert own == pytest.approx(other, rel=0.03)


def test_a_window_is_as_one_cut_from_anywhere_in_a_longer_clip(both):
    (_, _), (errors_px, _) = both
    tails = np.quantile(np.linalg.norm(errors_px, axis=-1), 0.97, axis=(0, 2))
    np.testing.assert_allclose(tails, tails.mean(), rtol=0.06)


def test_confidence_is_distributed_as_that_of_the_other_implementation(both):
    (_, of_numpy), (_, of_torch) = both
    for quantile in (0.01, 0.1, 0.5, 0.9):
        assert np.quantile(of_torch, quantile) == pytest.approx(np.quantile(of_numpy, quantile), abs=0.015)


def test_errors_grow_with_the_level_in_proportion():
    once, twice, thrice = (detected(50, 9, level=level)[0] for level in (1.0, 2.0, 3.0))
    torch.testing.assert_close(thrice - twice, twice - once, rtol=0, atol=1e-3)
    assert (twice - once).norm(dim=-1).median() > 1


def test_the_same_seed_errs_the_same_and_another_otherwise():
    first, again, other = (detected(4, 9, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_window_of_one_frame_can_be_detected():
    pixels, confidence = detected(3, 1)
    assert pixels.isfinite().all()
    assert ((confidence >= 0) & (confidence <= 1)).all()


def test_as_many_joints_are_hidden_as_wanted_for_a_sixth_of_a_second():
    hidden = hidden_joints(2000, 60, share=0.1, rate_hz=30.0, generator=torch.Generator().manual_seed(0))
    assert hidden.float().mean().item() == pytest.approx(0.1, rel=0.05)
    begins = (hidden[:, 1:] & ~hidden[:, :-1]).float().mean()
    assert (hidden.float().mean() / begins).item() == pytest.approx(0.17 * 30, rel=0.05)


def test_a_hidden_joint_stands_in_the_middle_of_the_seen_ones_without_confidence():
    pixels, confidence = standing(1, 2), torch.full((1, 2, 17), 0.9)
    hidden = torch.zeros(1, 2, 17, dtype=torch.bool)
    hidden[0, 0, [3, 16]] = True
    hidden[0, 1] = True
    moved, scores = hide_joints(pixels, confidence, hidden, torch.tensor([False]))
    seen = [joint for joint in range(17) if joint not in (3, 16)]
    torch.testing.assert_close(moved[0, 0, 3], pixels[0, 0, seen].mean(0))
    torch.testing.assert_close(moved[0, 0, 16], pixels[0, 0, seen].mean(0))
    assert torch.equal(moved[0, 0, seen], pixels[0, 0, seen])
    assert torch.equal(moved[0, 1], pixels[0, 1])  # where none is seen there is no middle
    assert torch.equal(scores == 0, hidden)


def test_a_gap_is_filled_over_time_as_lift_fills_it():
    frames = 12
    pixels = torch.randn(3, frames, 17, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hidden = torch.rand(3, frames, 17, generator=torch.Generator().manual_seed(1)) < 0.4
    hidden[:, :, 5] = False  # one is seen in every frame
    hidden[0, :, 2] = True  # one is never
    hidden[1, :4, 3] = hidden[1, -4:, 4] = True
    confidence = torch.full(hidden.shape, 0.9, dtype=torch.float64)
    shown, scores = hide_joints(pixels, confidence, hidden, torch.tensor([True, True, False]))
    for window, how in enumerate(("interpolated", "interpolated", "middle")):
        expected_px, expected = without(*(t[window].numpy() for t in (pixels, confidence, hidden)), shown=how)
        np.testing.assert_allclose(shown[window].numpy(), expected_px, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(scores[window].numpy(), expected)
