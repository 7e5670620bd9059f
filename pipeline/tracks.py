"""People over time: gaps of unseen keypoints filled in."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from pipeline.root_path import stretches


def fill_gaps(
    pixels: Float[np.ndarray, "F J 2"], confidence: Float[np.ndarray, "F J"], *, longest_frames: int
) -> tuple[Float[np.ndarray, "F J 2"], Float[np.ndarray, "F J"], Bool[np.ndarray, "F J"]]:
    """Keypoints with gaps of at most `longest_frames` frames filled in, linear in time, and which were.

    A filled keypoint has the lesser confidence of those around the gap. Gaps at the ends stay.
    """
    pixels, confidence = pixels.copy(), confidence.copy()
    filled = np.zeros(confidence.shape, dtype=bool)
    for joint in range(pixels.shape[1]):
        for gap in stretches(np.isnan(pixels[:, joint]).any(1)):
            before, after = gap.start - 1, gap.stop
            if after - gap.start > longest_frames or before < 0 or after == len(pixels):
                continue
            share = (np.arange(gap.start, after) - before)[:, None] / (after - before)
            pixels[gap, joint] = (1 - share) * pixels[before, joint] + share * pixels[after, joint]
            confidence[gap, joint] = min(confidence[before, joint], confidence[after, joint])
            filled[gap, joint] = True
    return pixels, confidence, filled
