"""A simulated 2D detector for motion capture that has no video: errors over time as detectors of people make them.

Figures are pixels at a person height of 400 px and level 1; they grow with the person's height in the image. The
jitter, tail and confidence figures follow the fit of MotionBERT (Zhu et al. 2023) to detections of Human3.6M; the
constant share, the swaps and the misses follow OpenPose measured against a four-camera triangulation of one 100-frame
recording, the weak point of this model. Self-occlusion is not modelled.

Windows of a batch are independent of each other. Everything is drawn from the generator that is passed. What is given
and returned has the axes windows, frames, joints, coordinates; work is done on planes (joints, coordinates, frames,
windows), whose long inner axes a processor can vectorise.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
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
    batch, frames = pixels.shape[:2]
    true_px = in_planes(pixels)
    height_px = true_px[:, 1].amax(0) - true_px[:, 1].amin(0)
    scale = level * height_px / REFERENCE_HEIGHT_PX
    swap, miss = _draw_episodes(batch, frames, slowdown, generator)

    detected_px = true_px.clone()  # and overwritten where a limb is swapped: in few frames, cheap to pick out
    joint, frame, item = torch.nonzero(swap, as_tuple=True)
    mirrored = torch.tensor(H36M_17.mirrored, device=joint.device)[joint]
    detected_px[joint, :, frame, item] = true_px[mirrored, :, frame, item]
    white = _normal((batch, frames, 17, 2), pixels, generator)
    noise_px = _jitter_px(white, slowdown, generator) + _tail_px(white, slowdown, generator)
    angle = 2 * math.pi * _uniform((batch, 1, 17), pixels, generator)
    offset_px = MISS_OFFSET_PX * torch.stack([angle.cos(), angle.sin()], 1)
    joint, frame, item = torch.nonzero(miss, as_tuple=True)
    noise_px[joint, :, frame, item] = offset_px[joint, :, 0, item] + MISS_WHITE_PX * white[joint, :, frame, item]
    detected_px += scale * noise_px

    distance = (detected_px - true_px).square().sum(1).sqrt() / half_width_px
    confidence = CONFIDENCE_A / (distance + CONFIDENCE_A) + CONFIDENCE_B * distance
    confidence = confidence + CONFIDENCE_MEAN + CONFIDENCE_SD * _normal((batch, frames, 17), pixels, generator)
    low = MISS_CONFIDENCE * _uniform((batch, frames, 17), pixels, generator)
    confidence = torch.where(miss, low, confidence.clamp(*CONFIDENCE_RANGE))
    return rearrange(detected_px, "j x t b -> b t j x"), rearrange(confidence, "j t b -> b t j")


def draw_unseen_joints(
    batch: int, frames: int, *, share: float, rate_hz: float, generator: torch.Generator
) -> Bool[Tensor, "B T 17"]:
    """Returns which joints are not seen: `share` of them, each for `UNSEEN_S` seconds on average."""
    hidden = _draw_chains(batch, frames, [share] * 17, [UNSEEN_S * rate_hz] * 17, generator)
    return rearrange(hidden, "j t b -> b t j")


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
    shown_px, shown_confidence = (in_planes(values).clone() for values in (pixels, confidence))
    seen = in_planes(~hidden).to(pixels.dtype)
    count = seen.sum(0)
    middle_px = (seen[:, None] * shown_px).sum(0) / count.clamp(min=1)
    joint, item, frame = torch.nonzero(rearrange(hidden, "b t j -> j b t"), as_tuple=True)  # few: the rest is cheap
    before, after = _ends_of_gaps(joint, item, frame)
    never = (before < 0) & (after == hidden.shape[1])
    start = torch.where(before < 0, after, before).clamp(max=hidden.shape[1] - 1)
    end = torch.where(after == hidden.shape[1], before, after).clamp(min=0)
    share = (frame - start).to(pixels.dtype) / (end - start).clamp(min=1)
    over_time_px = torch.lerp(shown_px[joint, :, start, item], shown_px[joint, :, end, item], share[:, None])
    by_time, by_middle = interpolated[item] & ~never, count[frame, item] > 0
    elsewhere_px = torch.where(by_middle[:, None], middle_px[:, frame, item].T, shown_px[joint, :, frame, item])
    shown_px[joint, :, frame, item] = torch.where(by_time[:, None], over_time_px, elsewhere_px)
    shown_confidence[joint, frame, item] = 0
    return rearrange(shown_px, "j x t b -> b t j x"), rearrange(shown_confidence, "j t b -> b t j")


def _ends_of_gaps(
    joint: Int[Tensor, " N"], item: Int[Tensor, " N"], frame: Int[Tensor, " N"]
) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Returns the frames before and after the gap that each place lies in; one beyond the window where it has no more.

    The places are those of all gaps, sorted.
    """
    goes_on = (joint[1:] == joint[:-1]) & (item[1:] == item[:-1]) & (frame[1:] == frame[:-1] + 1)
    begins = torch.cat([goes_on.new_ones(min(1, len(joint))), ~goes_on])
    gap = begins.cumsum(0) - 1
    first = torch.nonzero(begins)[:, 0]
    length = torch.bincount(gap)
    return (frame[first] - 1)[gap], (frame[first] + length)[gap]


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return in_planes(torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype))


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return in_planes(torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype))


def in_planes(values: Shaped[Tensor, "B T J *X"]) -> Shaped[Tensor, "J *X T B"]:
    """Returns values with the axes of planes, in memory too."""
    return rearrange(values, "b t j ... -> j ... t b").contiguous()


def _jitter_px(
    white: Float[Tensor, "17 2 T B"], slowdown: float, generator: torch.Generator
) -> Float[Tensor, "17 2 T B"]:
    """Gaussian error: a constant part, a part that drifts, and the given white part."""
    frames, batch = white.shape[2:]
    draws = _normal((batch, frames + 1, 17, 2), white, generator)
    drift = _drift(draws[:, :, 1:], CORRELATION ** (1 / slowdown))
    varying = math.sqrt(CORRELATED_SHARE) * drift + math.sqrt(1 - CORRELATED_SHARE) * white
    constant = math.sqrt(CONSTANT_SHARE) * draws[:, :, :1]
    size_px = rearrange(white.new_tensor(JITTER_PX), "j -> j 1 1 1")
    return size_px * (constant + math.sqrt(1 - CONSTANT_SHARE) * varying)


def _drift(draws: Float[Tensor, "17 2 T B"], correlation: float) -> Float[Tensor, "17 2 T B"]:
    """The stationary process d_0 = e_0, d_t = c d_t-1 + sqrt(1 - c^2) e_t of the draws e, written out by blocks."""
    innovation = math.sqrt(1 - correlation**2)
    before = draws[:, :, 0]
    parts: list[Tensor] = []
    for block in draws.split(BLOCK_FRAMES, 2):
        frame = torch.arange(block.shape[2], device=draws.device, dtype=draws.dtype)
        response = innovation * torch.tril(correlation ** (frame[:, None] - frame).clamp(min=0))
        decay = correlation ** (frame + 1)
        if not parts:  # the first frame's draw is the state itself
            block = torch.cat([torch.zeros_like(block[:, :, :1]), block[:, :, 1:]], 2)
            decay = correlation**frame
        drift = response @ block + before[:, :, None] * decay[:, None]
        before = drift[:, :, -1]
        parts.append(drift)
    return torch.cat(parts, 2)


def _tail_px(like: Float[Tensor, "17 2 T B"], slowdown: float, generator: torch.Generator) -> Float[Tensor, "17 2 T B"]:
    """Now and then a joint wanders off: uniform key values, linear in between; a window begins between two keys."""
    frames, batch = like.shape[2:]
    phase = torch.rand(batch, generator=generator, device=like.device, dtype=like.dtype)
    frame = torch.arange(frames, device=like.device, dtype=like.dtype)
    times = frame[:, None] / slowdown / TAIL_KEY_FRAMES + phase
    keys = int((frames - 1) / slowdown / TAIL_KEY_FRAMES + 1) + 2
    values_px = TAIL_PX * (2 * _uniform((batch, keys, 17, 2), like, generator) - 1)
    probability = rearrange(like.new_tensor(TAIL_PROBABILITY), "j -> j 1 1 1")
    values_px = torch.where(_uniform((batch, keys, 17, 1), like, generator) < probability, values_px, 0)
    before = times.floor().long()
    start_px, end_px = (values_px.gather(2, key.expand(like.shape)) for key in (before, before + 1))
    return torch.lerp(start_px, end_px, times - before)


def _draw_episodes(
    batch: int, frames: int, slowdown: float, generator: torch.Generator
) -> tuple[Bool[Tensor, "17 T B"], Bool[Tensor, "17 T B"]]:
    """Which joints are exchanged with their mirror image (legs and arms each as a whole), and which are missed."""
    limbs = len(LEGS_AND_ARMS)
    share = [SWAP_SHARE] * limbs + [MISS_SHARE] * 17
    mean_frames = [SWAP_FRAMES * slowdown] * limbs + [MISS_FRAMES * slowdown] * 17
    episodes = _draw_chains(batch, frames, share, mean_frames, generator)
    swapped = torch.zeros(17, frames, batch, dtype=torch.bool, device=generator.device)
    for place, joints in enumerate(LEGS_AND_ARMS):
        swapped[list(joints)] = episodes[place]
    return swapped, episodes[limbs:]


def _draw_chains(
    batch: int, frames: int, share: list[float], mean_frames: list[float], generator: torch.Generator
) -> Bool[Tensor, "C T B"]:
    """Two-state Markov chains: on for `share` of the time, `mean_frames` (at least one) at a time on average.

    They begin in their stationary state, so that a window is as one cut from a longer clip.
    """
    on = torch.tensor(share, device=generator.device)
    stop = 1 / torch.tensor(mean_frames, device=generator.device).clamp(min=1)
    start = stop * on / (1 - on)
    draws = torch.rand(frames, batch, len(share), generator=generator, device=generator.device)
    stays, starts = draws >= stop, draws < start
    active = [draws[0] < on]
    for frame in range(1, frames):
        active.append(torch.where(active[-1], stays[frame], starts[frame]))
    return rearrange(torch.stack(active), "t b c -> c t b").contiguous()
