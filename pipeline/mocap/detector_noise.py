"""A simulated 2D detector for motion capture that has no video: errors as detectors of people make them.

Figures are pixels at a person height of 400 px and level 1; they grow with the person's height in the image. The
jitter, tail and confidence figures follow the fit of MotionBERT (Zhu et al. 2023) to detections of Human3.6M; the
constant share, the swaps and the misses follow OpenPose measured against a four-camera triangulation of one 100-frame
recording, the weak point of this model. Self-occlusion is not modelled.
"""

from __future__ import annotations

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float

from pipeline.poses.skeleton import H36M_17

REFERENCE_HEIGHT_PX = 400.0
REFERENCE_RATE_HZ = 60.0
JITTER_PX = np.array([1.8, 3.1, 2.8, 3.6, 3.1, 3.0, 3.8, 2.9, 2.7, 2.6, 1.7, 3.5, 2.5, 2.5, 4.0, 3.0, 2.8])
CONSTANT_SHARE = 0.36  # of the variance, per take, camera and joint
CORRELATED_SHARE = 0.62  # of the rest
CORRELATION = 0.83  # from one frame to the next, at 60 Hz
TAIL_PROBABILITY = np.array(
    [0, 0.03, 0.11, 0.11, 0.03, 0.12, 0.18, 0.04, 0.08, 0.03, 0.02, 0.11, 0.20, 0.30, 0.12, 0.18, 0.27]
)
TAIL_PX = 15.0
TAIL_KEY_FRAMES = 9.0
LEG_AND_ARM = ((1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16))
SWAP_SHARE, SWAP_FRAMES = 0.01, 8.0
MISS_SHARE, MISS_FRAMES = 0.01, 6.0
MISS_OFFSET_PX, MISS_WHITE_PX, MISS_CONFIDENCE = 40.0, 10.0, 0.3
CONFIDENCE_A, CONFIDENCE_B, CONFIDENCE_MEAN, CONFIDENCE_SD = 0.028, 1.1, -0.005, 0.14
CONFIDENCE_RANGE = (0.05, 1.0)


def detect(
    pixels: Float[np.ndarray, "F 17 2"],
    *,
    rate_hz: float,
    level: float,
    half_width_px: float,
    random: np.random.Generator,
) -> tuple[Float[np.ndarray, "F 17 2"], Float[np.ndarray, "F 17"]]:
    """What a detector of error level `level` would report for the true positions `pixels`, and its confidence (0 to 1).

    Joints are Human3.6M's 17. Frames of NaN (not seen) stay NaN; time runs on through them.
    """
    frames = len(pixels)
    slowdown = rate_hz / REFERENCE_RATE_HZ  # frames at this rate per frame at the reference rate
    height_px = pixels[..., 1].max(1) - pixels[..., 1].min(1)
    scale = level * rearrange(height_px, "f -> f 1 1") / REFERENCE_HEIGHT_PX

    swapped = pixels.copy()
    for limbs in LEG_AND_ARM:
        episode = _episodes(frames, 1, share=SWAP_SHARE, mean_frames=SWAP_FRAMES * slowdown, random=random) >= 0
        mirrored = pixels[:, H36M_17.mirrored]
        swapped[:, limbs] = np.where(episode[:, :, None], mirrored[:, limbs], pixels[:, limbs])

    noise_px = _jitter(frames, slowdown, random) + _tail(frames, slowdown, random)
    miss = _episodes(frames, 17, share=MISS_SHARE, mean_frames=MISS_FRAMES * slowdown, random=random)
    direction = random.uniform(0, 2 * np.pi, size=max(int(miss.max()) + 1, 1))[miss]
    offset_px = MISS_OFFSET_PX * np.stack([np.cos(direction), np.sin(direction)], axis=-1)
    missed_px = offset_px + random.normal(0, MISS_WHITE_PX, size=noise_px.shape)
    noise_px = np.where(miss[..., None] >= 0, missed_px, noise_px)
    detected = swapped + scale * noise_px

    distance = np.linalg.norm(detected - pixels, axis=-1) / half_width_px
    confidence = CONFIDENCE_A / (distance + CONFIDENCE_A) + CONFIDENCE_B * distance
    confidence = np.clip(confidence + random.normal(CONFIDENCE_MEAN, CONFIDENCE_SD, distance.shape), *CONFIDENCE_RANGE)
    return detected, np.where(miss >= 0, random.uniform(0, MISS_CONFIDENCE, size=miss.shape), confidence)


def _jitter(frames: int, slowdown: float, random: np.random.Generator) -> Float[np.ndarray, "F 17 2"]:
    """Gaussian error: a constant part, a part that forgets itself (AR(1)) and a white part."""
    correlation = CORRELATION ** (1 / slowdown)
    constant = np.sqrt(CONSTANT_SHARE) * random.normal(size=(17, 2))
    drift = np.empty((frames, 17, 2))
    drift[0] = random.normal(size=(17, 2))
    steps = np.sqrt(1 - correlation**2) * random.normal(size=drift.shape)
    for frame in range(1, frames):
        drift[frame] = correlation * drift[frame - 1] + steps[frame]
    white = random.normal(size=drift.shape)
    varying = np.sqrt(CORRELATED_SHARE) * drift + np.sqrt(1 - CORRELATED_SHARE) * white
    return JITTER_PX[:, None] * (constant + np.sqrt(1 - CONSTANT_SHARE) * varying)


def _tail(frames: int, slowdown: float, random: np.random.Generator) -> Float[np.ndarray, "F 17 2"]:
    """Now and then a joint wanders off: uniform key values, linear in between."""
    times = np.arange(frames) / slowdown / TAIL_KEY_FRAMES  # in key intervals
    keys = int(np.floor(times[-1])) + 2
    values = random.uniform(-TAIL_PX, TAIL_PX, size=(keys, 17, 2))
    values[random.uniform(size=(keys, 17)) >= TAIL_PROBABILITY] = 0
    before = np.floor(times).astype(int)
    share = rearrange(times - before, "f -> f 1 1")
    return (1 - share) * values[before] + share * values[before + 1]


def _episodes(
    frames: int, channels: int, *, share: float, mean_frames: float, random: np.random.Generator
) -> np.ndarray:
    """(frames, channels) of episode numbers, -1 where there is none; `share` of the frames lie in episodes.

    Each channel is a two-state Markov chain, so lengths are geometric with mean `mean_frames` (at least one frame).
    """
    stop = 1 / max(mean_frames, 1.0)
    start = stop * share / (1 - share)
    number = np.full((frames, channels), -1)
    draws = random.uniform(size=(frames, channels))
    count = 0
    active: Bool[np.ndarray, " C"] = draws[0] < share
    current = np.full(channels, -1)
    for frame in range(frames):
        if frame > 0:
            active = np.where(current >= 0, draws[frame] >= stop, draws[frame] < start)
        for channel in np.flatnonzero(active & (current < 0)):
            current[channel] = count
            count += 1
        current[~active] = -1
        number[frame] = current
    return number
