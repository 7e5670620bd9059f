"""The clips to look at are the best, median and worst, of different actions where there are enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.evaluate_5runs.example_clips import choose_example_clips
from pipeline.poses.clips import Clip
from pipeline.poses.geometry import Camera
from pipeline.poses.row_metrics import ExampleClip
from pipeline.poses.skeleton import H36M_17

RATE_HZ = 30.0
LONG, SHORT = 75, 45  # frames: more than two seconds, and less


def choose(
    errors_mm: Sequence[float], actions: Sequence[str], frames: Sequence[int] | None = None, every: int = 1
) -> tuple[ExampleClip, ...]:
    """Chooses among clips of a person who stands still, each predicted with its error in every joint but the root.

    A clip without an action has no scored frame.
    """
    camera = Camera(name="left", width_px=10, height_px=10)
    clips, predicted_m, scored = [], [], []
    for number, (error_mm, action) in enumerate(zip(errors_mm, actions, strict=True)):
        count = LONG if frames is None else frames[number]
        true_m = np.zeros((count, 17, 3), dtype=np.float32)
        true_m[:, :, 1] = -np.linspace(0, 1.6, 17)  # up is -y in the camera frame
        pixels = np.zeros((count, 17, 2), dtype=np.float32)
        clips.append(Clip(str(number), "all", "S1", action, camera, RATE_HZ, 0, pixels, true_m))
        pose_m = (true_m - true_m[:, :1]).astype(np.float64)
        pose_m[:, 1:, 0] += error_mm / 1000 * 17 / 16  # 16 of 17 joints are off, so that the mean is the error
        predicted_m.append(pose_m)
        scored.append(np.arange(count) % every == 0 if action else np.zeros(count, dtype=bool))
    return choose_example_clips(clips, predicted_m, scored, H36M_17)


def ranks(examples: Sequence[ExampleClip]) -> list[tuple[str, float]]:
    return [(example.rank, example.mpjpe_mm) for example in examples]


def test_the_best_the_median_and_the_worst_are_chosen_once_each():
    found = ranks(choose([30, 10, 70, 20, 60, 40, 50], "abcdefg"))
    assert found == [("best", 10), ("best", 20), ("median", 40), ("median", 30), ("worst", 70), ("worst", 60)]


def test_clips_of_another_action_come_first():
    found = ranks(choose([10, 11, 12, 40, 41, 42, 70, 71], "aabbcddd"))
    assert [error_mm for rank, error_mm in found if rank == "best"] == [10, 12]
    assert [error_mm for rank, error_mm in found if rank == "worst"] == [71, 41]


def test_short_clips_are_chosen_only_where_all_are_short():
    assert ranks(choose([10, 20, 30], "abc", [SHORT, LONG, SHORT])) == [("best", 20)]
    assert len(choose([10, 20, 30], "abc", [SHORT, SHORT, SHORT])) == 3


def test_a_clip_without_a_scored_frame_is_not_chosen():
    assert ranks(choose([10, 20, 30], ["", "b", ""])) == [("best", 20)]


@pytest.mark.parametrize(("every", "rate_hz"), [(1, 15.0), (3, 10.0)])
def test_a_clip_is_thinned_and_stands_upright_on_the_floor(every, rate_hz):
    (example,) = choose([50], "a", [300], every)
    assert example.rate_hz == rate_hz
    assert len(example.true_mm) == len(example.predicted_mm) == len(example.error_mm) == 4 * rate_hz
    assert example.scored_frames == 300 / every
    heights_mm = [joint[2] for joint in example.true_mm[0]]
    assert (min(heights_mm), max(heights_mm)) == (0, 1600)
    assert example.error_mm[0] == example.mpjpe_mm == 50
