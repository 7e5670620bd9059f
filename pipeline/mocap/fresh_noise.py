"""The simulated detector of detector_noise.py for batches of windows, in torch: new errors for every training window.

The same model with the same figures, on the device that trains; the benchmark's own keypoints come from the numpy one,
whose random numbers are the same everywhere.
"""

from __future__ import annotations

import math

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.mocap import detector_noise as model
from pipeline.poses.skeleton import H36M_17

MISSING_S = 0.17  # as long as ten frames of a video at 60 Hz


def detect_windows(
    pixels: Float[Tensor, "B T 17 2"],
    *,
    rate_hz: float,
    level: Float[Tensor, " B"],
    half_width_px: Float[Tensor, " B"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "B T 17 2"], Float[Tensor, "B T 17"]]:
    """What a detector of error level `level` would report for the true positions `pixels`, and its confidence (0 to 1).

    Windows are independent of each other; within one errors hang together over time as in `detector_noise.detect`.
    """
    frames, slowdown = pixels.shape[1], rate_hz / model.REFERENCE_RATE_HZ
    height_px = pixels[..., 1].amax(2) - pixels[..., 1].amin(2)
    scale = rearrange(level, "b -> b 1 1 1") * rearrange(height_px, "b t -> b t 1 1") / model.REFERENCE_HEIGHT_PX
    swap, miss = _episodes(len(pixels), frames, slowdown, generator)

    swapped = torch.where(swap[..., None], pixels[:, :, H36M_17.mirrored], pixels)
    white = torch.randn(pixels.shape, generator=generator, device=pixels.device)
    noise_px = _jitter(white, slowdown, generator) + _tail(white, slowdown, generator)
    angle = 2 * math.pi * torch.rand(len(pixels), 1, 17, generator=generator, device=pixels.device)
    missed_px = model.MISS_OFFSET_PX * torch.stack([angle.cos(), angle.sin()], -1) + model.MISS_WHITE_PX * white
    detected = swapped + scale * torch.where(miss[..., None], missed_px, noise_px)

    distance = torch.linalg.vector_norm(detected - pixels, dim=-1) / rearrange(half_width_px, "b -> b 1 1")
    confidence = model.CONFIDENCE_A / (distance + model.CONFIDENCE_A) + model.CONFIDENCE_B * distance
    random = torch.randn(distance.shape, generator=generator, device=pixels.device)
    confidence = (confidence + model.CONFIDENCE_MEAN + model.CONFIDENCE_SD * random).clamp(*model.CONFIDENCE_RANGE)
    low = model.MISS_CONFIDENCE * torch.rand(distance.shape, generator=generator, device=pixels.device)
    return detected, torch.where(miss, low, confidence)


def hide_joints(
    pixels: Float[Tensor, "B T J 2"],
    confidence: Float[Tensor, "B T J"],
    hidden: Bool[Tensor, "B T J"],
    filled: Bool[Tensor, " B"],
) -> tuple[Float[Tensor, "B T J 2"], Float[Tensor, "B T J"]]:
    """The keypoints with some not seen: confidence 0, and in `filled` windows a position from the frames around.

    That is linear in time between the frames around a gap and held where the window begins or ends in one, as `lift`
    fills gaps. In other windows, and where a joint is never seen, it is the mean position of the joints of the frame
    that are seen; where none is, positions stay.
    """
    seen = rearrange(~hidden, "b t j -> b t j 1").to(pixels.dtype)
    count = seen.sum(2, keepdim=True)
    middle = torch.where(count > 0, (seen * pixels).sum(2, keepdim=True) / count.clamp(min=1), pixels)
    over_time = torch.where(hidden.all(1, keepdim=True)[..., None], middle, _filled_over_time(pixels, hidden))
    shown = torch.where(rearrange(filled, "b -> b 1 1 1"), over_time, middle)
    return torch.where(hidden[..., None], shown, pixels), torch.where(hidden, 0, confidence)


def _filled_over_time(pixels: Float[Tensor, "B T J 2"], hidden: Bool[Tensor, "B T J"]) -> Float[Tensor, "B T J 2"]:
    last = pixels.shape[1] - 1
    frame = torch.arange(last + 1, device=pixels.device)[:, None].expand(hidden.shape)
    before = torch.where(hidden, -1, frame).cummax(1).values
    after = torch.where(hidden, last + 1, frame).flip(1).cummin(1).values.flip(1)
    start = torch.where(before < 0, after, before).clamp(max=last)
    end = torch.where(after > last, before, after).clamp(min=0)
    share = (frame - start).to(pixels.dtype) / (end - start).clamp(min=1)
    at_start, at_end = (pixels.gather(1, index[..., None].expand(pixels.shape)) for index in (start, end))
    return torch.lerp(at_start, at_end, share[..., None])


def hidden_joints(
    batch: int, frames: int, *, share: float, rate_hz: float, generator: torch.Generator
) -> Bool[Tensor, "B T 17"]:
    """Which joints are not seen: `share` of them, each for `MISSING_S` seconds on average."""
    return _chains(batch, frames, [share] * 17, [max(MISSING_S * rate_hz, 1.0)] * 17, generator)


def _jitter(white: Float[Tensor, "B T 17 2"], slowdown: float, generator: torch.Generator) -> Float[Tensor, "B T 17 2"]:
    """Gaussian error: a constant part, a part that forgets itself (AR(1)) and the given white part."""
    batch, frames = white.shape[:2]
    draw = torch.randn((batch, frames + 1, 17, 2), generator=generator, device=white.device)
    correlation = model.CORRELATION ** (1 / slowdown)
    frame = torch.arange(frames, device=white.device, dtype=white.dtype)
    # The recursion d_t = c d_t-1 + sqrt(1 - c^2) e_t from d_0 = e_0, written out.
    response = torch.tril(correlation ** (frame[:, None] - frame).clamp(min=0))
    response[:, 1:] *= math.sqrt(1 - correlation**2)
    drift = einsum(response, draw[:, 1:], "t s, b s j c -> b t j c")
    varying = math.sqrt(model.CORRELATED_SHARE) * drift + math.sqrt(1 - model.CORRELATED_SHARE) * white
    jitter_px = torch.as_tensor(model.JITTER_PX, dtype=white.dtype, device=white.device)[:, None]
    constant = math.sqrt(model.CONSTANT_SHARE) * draw[:, :1]
    return jitter_px * (constant + math.sqrt(1 - model.CONSTANT_SHARE) * varying)


def _tail(like: Float[Tensor, "B T 17 2"], slowdown: float, generator: torch.Generator) -> Float[Tensor, "B T 17 2"]:
    """Now and then a joint wanders off: uniform key values, linear in between; a window begins anywhere."""
    batch, frames = like.shape[:2]
    phase = torch.rand(batch, 1, generator=generator, device=like.device)
    times = torch.arange(frames, device=like.device) / slowdown / model.TAIL_KEY_FRAMES + phase
    keys = int((frames - 1) / slowdown / model.TAIL_KEY_FRAMES + 1) + 2
    probability = torch.as_tensor(model.TAIL_PROBABILITY, dtype=like.dtype, device=like.device)
    values = model.TAIL_PX * (2 * torch.rand(batch, keys, 17, 2, generator=generator, device=like.device) - 1)
    active = torch.rand(batch, keys, 17, 1, generator=generator, device=like.device) < probability[:, None]
    values = torch.where(active, values, 0)
    before = times.floor().long()
    item = torch.arange(batch, device=like.device)[:, None]
    share = rearrange(times - before, "b t -> b t 1 1")
    return (1 - share) * values[item, before] + share * values[item, before + 1]


def _episodes(
    batch: int, frames: int, slowdown: float, generator: torch.Generator
) -> tuple[Bool[Tensor, "B T 17"], Bool[Tensor, "B T 17"]]:
    """Which joints are exchanged with their mirror image (legs and arms each as a whole), and which are missed."""
    limbs = len(model.LEG_AND_ARM)
    share = [model.SWAP_SHARE] * limbs + [model.MISS_SHARE] * 17
    mean = [model.SWAP_FRAMES * slowdown] * limbs + [model.MISS_FRAMES * slowdown] * 17
    episodes = _chains(batch, frames, share, [max(frames_on, 1.0) for frames_on in mean], generator)
    swapped = torch.zeros(batch, frames, 17, dtype=torch.bool, device=generator.device)
    for place, joints in enumerate(model.LEG_AND_ARM):
        swapped[:, :, joints] = episodes[:, :, place : place + 1]
    return swapped, episodes[:, :, limbs:]


def _chains(
    batch: int, frames: int, share: list[float], mean_frames: list[float], generator: torch.Generator
) -> Bool[Tensor, "B T C"]:
    """Two-state Markov chains: on for `share` of the time, `mean_frames` at a time on average.

    They begin in their stationary state, so that a window is as one cut from a longer clip.
    """
    on = torch.tensor(share, device=generator.device)
    stop = 1 / torch.tensor(mean_frames, device=generator.device)
    start = stop * on / (1 - on)
    draws = torch.rand(frames, batch, len(share), generator=generator, device=generator.device)
    active = [draws[0] < on]
    for draw in draws[1:]:
        active.append(torch.where(active[-1], draw >= stop, draw < start))
    return rearrange(torch.stack(active), "t b c -> b t c")
