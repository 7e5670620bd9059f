"""A simulated 2D detector for motion capture that has no video: errors over time as detectors of people make them.

Figures are pixels at a person height of 400 px and level 1; they grow with the person's height in the image. The
jitter, tail and confidence figures follow the fit of MotionBERT (Zhu et al. 2023) to detections of Human3.6M; the
constant share, the swaps and the misses follow OpenPose measured against a four-camera triangulation of one 100-frame
recording, the weak point of this model. Self-occlusion is not modelled.

Windows of a batch are independent of each other. Everything is drawn from the generator that is passed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipeline.poses.skeleton import H36M_17

REFERENCE_HEIGHT_PX = 400.0
REFERENCE_RATE_HZ = 60.0
JITTER_PX = (1.8, 3.1, 2.8, 3.6, 3.1, 3.0, 3.8, 2.9, 2.7, 2.6, 1.7, 3.5, 2.5, 2.5, 4.0, 3.0, 2.8)
CONSTANT_SHARE = 0.36  # of the variance, per take, camera and joint
CORRELATED_SHARE = 0.62  # of the rest
CORRELATION = 0.83  # from one frame to the next, at 60 Hz
TAIL_PROBABILITY = (0, 0.03, 0.11, 0.11, 0.03, 0.12, 0.18, 0.04, 0.08, 0.03, 0.02, 0.11, 0.20, 0.30, 0.12, 0.18, 0.27)
TAIL_PX = 15.0
TAIL_KEY_FRAMES = 9.0
LEGS_AND_ARMS = ((1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16))
SWAP_SHARE, SWAP_FRAMES = 0.01, 8.0
MISS_SHARE, MISS_FRAMES = 0.01, 6.0
MISS_OFFSET_PX, MISS_WHITE_PX, MISS_CONFIDENCE = 40.0, 10.0, 0.3
CONFIDENCE_A, CONFIDENCE_B, CONFIDENCE_MEAN, CONFIDENCE_SD = 0.028, 1.1, -0.005, 0.14
CONFIDENCE_RANGE = (0.05, 1.0)
UNSEEN_S = 0.17  # mean length of a gap in which a joint is not seen: ten frames of a video at 60 Hz
BLOCK_FRAMES = 128  # of the recursion of the drift: one product of matrices each


def simulate_detector(
    pixels: Float[Tensor, "B T 17 2"],
    *,
    rate_hz: float,
    level: Float[Tensor, " B"],
    half_width_px: Float[Tensor, " B"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "B T 17 2"], Float[Tensor, "B T 17"]]:
    """Returns what a detector of error level `level` reports for the true positions `pixels`, and its confidence.

    Joints are Human3.6M's 17; confidence is from 0 to 1. Frames of NaN (not seen) stay NaN; time runs on through them.
    """
    slowdown = rate_hz / REFERENCE_RATE_HZ  # frames at this rate per frame at the reference rate
    height_px = pixels[..., 1].amax(2) - pixels[..., 1].amin(2)
    scale = rearrange(level, "b -> b 1 1 1") * rearrange(height_px, "b t -> b t 1 1") / REFERENCE_HEIGHT_PX
    swap, miss = _draw_episodes(len(pixels), pixels.shape[1], slowdown, generator)

    detected = pixels.clone()  # and overwritten where a limb is swapped: in few frames, which are cheap to pick out
    item, frame, joint = torch.nonzero(swap, as_tuple=True)
    detected[item, frame, joint] = pixels[item, frame, torch.tensor(H36M_17.mirrored, device=joint.device)[joint]]
    white = _normal(pixels.shape, pixels, generator)
    noise_px = _jitter_px(white, slowdown, generator) + _tail_px(white, slowdown, generator)
    angle = 2 * math.pi * _uniform((len(pixels), 1, 17), pixels, generator)
    missed_px = MISS_OFFSET_PX * torch.stack([angle.cos(), angle.sin()], -1) + MISS_WHITE_PX * white
    detected += scale * torch.where(miss[..., None], missed_px, noise_px)

    distance = (detected - pixels).square().sum(-1).sqrt() / rearrange(half_width_px, "b -> b 1 1")
    confidence = CONFIDENCE_A / (distance + CONFIDENCE_A) + CONFIDENCE_B * distance
    confidence = confidence + CONFIDENCE_MEAN + CONFIDENCE_SD * _normal(distance.shape, pixels, generator)
    low = MISS_CONFIDENCE * _uniform(distance.shape, pixels, generator)
    return detected, torch.where(miss, low, confidence.clamp(*CONFIDENCE_RANGE))


def draw_unseen_joints(
    batch: int, frames: int, *, share: float, rate_hz: float, generator: torch.Generator
) -> Bool[Tensor, "B T 17"]:
    """Returns which joints are not seen: `share` of them, each for `UNSEEN_S` seconds on average."""
    return _draw_chains(batch, frames, [share] * 17, [UNSEEN_S * rate_hz] * 17, generator)


def hide_joints(
    pixels: Float[Tensor, "B T J 2"],
    confidence: Float[Tensor, "B T J"],
    hidden: Bool[Tensor, "B T J"],
    interpolated: Bool[Tensor, " B"],
) -> tuple[Float[Tensor, "B T J 2"], Float[Tensor, "B T J"]]:
    """Returns the keypoints with some not seen: confidence 0 and, in `interpolated` windows, positions from around.

    Those are linear in time between the frames around a gap and held where the window begins or ends in one, as the
    lifter fills gaps. In other windows, and where a joint is never seen, it is the mean position of the joints of the
    frame that are seen; where none is, positions stay.
    """
    seen = rearrange(~hidden, "b t j -> b t j 1").to(pixels.dtype)
    count = seen.sum(2)
    middle = (seen * pixels).sum(2) / count.clamp(min=1)
    item, frame, joint = torch.nonzero(hidden, as_tuple=True)  # few, so that all the rest is cheap
    start, end = (frames[item, frame, joint] for frames in _nearest_seen_frames(hidden))
    share = (frame - start).to(pixels.dtype) / (end - start).clamp(min=1)
    over_time = torch.lerp(pixels[item, start, joint], pixels[item, end, joint], share[:, None])
    never = hidden.all(1)[item, joint]
    shown = torch.where((interpolated[item] & ~never)[:, None], over_time, middle[item, frame])
    shown_pixels, shown_confidence = pixels.clone(), confidence.clone()
    known = count[item, frame, 0] > 0
    shown_pixels[item, frame, joint] = torch.where(
        (known | interpolated[item] & ~never)[:, None], shown, pixels[item, frame, joint]
    )
    shown_confidence[hidden] = 0
    return shown_pixels, shown_confidence


def _nearest_seen_frames(hidden: Bool[Tensor, "B T J"]) -> tuple[Int[Tensor, "B T J"], Int[Tensor, "B T J"]]:
    """Returns the last frame up to each and the first frame from it on in which the joint is seen.

    Where there is none on one side it is that of the other; where a joint is never seen they mean nothing.
    """
    frames = hidden.shape[1]
    before = torch.full(hidden.shape, -1, device=hidden.device)
    after = torch.full(hidden.shape, frames, device=hidden.device)
    for frame in range(frames):
        before[:, frame] = torch.where(hidden[:, frame], before[:, frame - 1] if frame else -1, frame)
    for frame in reversed(range(frames)):
        after[:, frame] = torch.where(hidden[:, frame], after[:, frame + 1] if frame < frames - 1 else frames, frame)
    start, end = torch.where(before < 0, after, before), torch.where(after == frames, before, after)
    return start.clamp(max=frames - 1), end.clamp(min=0)


def _normal(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, device=like.device, dtype=like.dtype)


def _uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(tuple(shape), generator=generator, device=like.device, dtype=like.dtype)


def _jitter_px(
    white: Float[Tensor, "B T 17 2"], slowdown: float, generator: torch.Generator
) -> Float[Tensor, "B T 17 2"]:
    """Gaussian error: a constant part, a part that drifts, and the given white part."""
    batch, frames = white.shape[:2]
    draws = _normal((batch, frames + 1, 17, 2), white, generator)
    drift = _drift(draws[:, 1:], CORRELATION ** (1 / slowdown))
    varying = math.sqrt(CORRELATED_SHARE) * drift + math.sqrt(1 - CORRELATED_SHARE) * white
    constant = math.sqrt(CONSTANT_SHARE) * draws[:, :1]
    return white.new_tensor(JITTER_PX)[:, None] * (constant + math.sqrt(1 - CONSTANT_SHARE) * varying)


def _drift(draws: Float[Tensor, "B T 17 2"], correlation: float) -> Float[Tensor, "B T 17 2"]:
    """The stationary process d_0 = e_0, d_t = c d_t-1 + sqrt(1 - c^2) e_t of the draws e, written out by blocks."""
    innovation = math.sqrt(1 - correlation**2)
    before = draws[:, 0]
    parts: list[Tensor] = []
    for block in draws.split(BLOCK_FRAMES, 1):
        frame = torch.arange(block.shape[1], device=draws.device, dtype=draws.dtype)
        response = innovation * torch.tril(correlation ** (frame[:, None] - frame).clamp(min=0))
        decay = correlation ** (frame + 1)
        if not parts:  # the first frame's draw is the state itself
            block = torch.cat([torch.zeros_like(block[:, :1]), block[:, 1:]], 1)
            decay = correlation**frame
        drift = einsum(response, block, "t s, b s j c -> b t j c") + einsum(decay, before, "t, b j c -> b t j c")
        before = drift[:, -1]
        parts.append(drift)
    return torch.cat(parts, 1)


def _tail_px(like: Float[Tensor, "B T 17 2"], slowdown: float, generator: torch.Generator) -> Float[Tensor, "B T 17 2"]:
    """Now and then a joint wanders off: uniform key values, linear in between; a window begins between two keys."""
    batch, frames = like.shape[:2]
    phase = _uniform((batch, 1), like, generator)
    frame = torch.arange(frames, device=like.device, dtype=like.dtype)
    times = frame / slowdown / TAIL_KEY_FRAMES + phase
    keys = int((frames - 1) / slowdown / TAIL_KEY_FRAMES + 1) + 2
    values = TAIL_PX * (2 * _uniform((batch, keys, 17, 2), like, generator) - 1)
    active = _uniform((batch, keys, 17, 1), like, generator) < like.new_tensor(TAIL_PROBABILITY)[:, None]
    values = torch.where(active, values, 0)
    before = times.floor().long()
    item = torch.arange(batch, device=like.device)[:, None]
    share = rearrange(times - before, "b t -> b t 1 1")
    return (1 - share) * values[item, before] + share * values[item, before + 1]


def _draw_episodes(
    batch: int, frames: int, slowdown: float, generator: torch.Generator
) -> tuple[Bool[Tensor, "B T 17"], Bool[Tensor, "B T 17"]]:
    """Which joints are exchanged with their mirror image (legs and arms each as a whole), and which are missed."""
    limbs = len(LEGS_AND_ARMS)
    share = [SWAP_SHARE] * limbs + [MISS_SHARE] * 17
    mean_frames = [SWAP_FRAMES * slowdown] * limbs + [MISS_FRAMES * slowdown] * 17
    episodes = _draw_chains(batch, frames, share, mean_frames, generator)
    swapped = torch.zeros(batch, frames, 17, dtype=torch.bool, device=generator.device)
    for place, joints in enumerate(LEGS_AND_ARMS):
        swapped[:, :, joints] = episodes[:, :, place : place + 1]
    return swapped, episodes[:, :, limbs:]


def _draw_chains(
    batch: int, frames: int, share: list[float], mean_frames: list[float], generator: torch.Generator
) -> Bool[Tensor, "B T C"]:
    """Two-state Markov chains: on for `share` of the time, `mean_frames` (at least one) at a time on average.

    They begin in their stationary state, so that a window is as one cut from a longer clip.
    """
    on = torch.tensor(share, device=generator.device)
    stop = 1 / torch.tensor(mean_frames, device=generator.device).clamp(min=1)
    start = stop * on / (1 - on)
    draws = torch.rand(frames, batch, len(share), generator=generator, device=generator.device)
    active = [draws[0] < on]
    for draw in draws[1:]:
        active.append(torch.where(active[-1], draw >= stop, draw < start))
    return rearrange(torch.stack(active), "t b c -> b t c")
