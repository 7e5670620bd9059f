"""A known motion, written in every format in any order: what is lifted is that motion, or the reading is refused.

MOTIONS=2000 in the environment tries so many; without it there are few.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.lift.formats import read_recording
from pipeline.lift.people import InputOptions, Recording
from pipeline.lift.plausibility import check_plausible
from pipeline.lift.reading.tracks import LONGEST_ABSENCE
from pipeline.system.errors import UserError
from tests.fixtures.keypoint_files import convert_layout
from tests.fixtures.lifting import walker_keypoints
from tests.fixtures.motion_files import PACKINGS, SIZE, WRITERS, Motion, Writer

FRAMES = 10
WALKERS = [walker_keypoints(FRAMES, start=0.3 * n) * [0.6, 0.6, 1] + [250 * n, 150, 0] for n in range(3)]


@st.composite
def motions(draw: st.DrawFn, writer: Writer) -> Motion:
    layout = draw(st.sampled_from(writer.layouts))
    count = draw(st.integers(1, 3))
    names = draw(st.lists(st.integers(1, 10**9), min_size=count, max_size=count, unique=True))
    first, step = draw(st.integers(0, 900)), draw(st.sampled_from([1, 1, 2, 5]))
    seen = draw(st.lists(st.booleans(), min_size=FRAMES, max_size=FRAMES).map(lambda kept: [True, *kept[1:-1], True]))
    gaps = np.diff(np.flatnonzero(seen)) * step
    seen = seen if gaps.max() <= LONGEST_ABSENCE else [True] * FRAMES  # longer, and somebody is somebody else
    missed = draw(st.lists(st.tuples(st.integers(0, FRAMES - 1), st.integers(0, 13)), max_size=8))
    people = {}
    for number, name in enumerate(names):
        joints = np.round(convert_layout(WALKERS[number], layout), 3)
        for frame, joint in missed:
            joints[frame, joint] = np.nan
        people[str(name)] = joints
    return Motion(
        layout=layout,
        people=people,
        frames=[first + step * frame if seen[frame] else -1 for frame in range(FRAMES)],
        order=draw(st.permutations(range(FRAMES * count))),
        ids={"always": True, "never": False}.get(writer.ids, draw(st.booleans())),
        mark=draw(st.sampled_from([0.0, -1.0])),
        units=draw(st.sampled_from(writer.units)),
        packing=draw(st.sampled_from(list(PACKINGS))),
        variant=draw(st.integers(0, 5)),
    )


@dataclass(frozen=True)
class Case:
    """A motion, who writes it, and whether its units and layout are stated."""

    writer: Writer
    motion: Motion
    stated: bool


@st.composite
def cases(draw: st.DrawFn) -> Case:
    writer = draw(st.sampled_from(WRITERS))
    return Case(writer, draw(motions(writer)), draw(st.booleans()))


def assert_is(recording: Recording, motion: Motion) -> None:
    """Compares in any order of people; the file's ids are theirs if it has any."""
    numbers = [number for number in motion.frames if number >= 0]
    first = min(numbers)
    found = {track.person: track for track in recording.tracks}
    assert len(found) == len(motion.people)
    for name, joints in motion.people.items():
        meant = np.full((max(numbers) - first + 1, *joints.shape[1:]), np.nan)
        for frame, number in enumerate(motion.frames):
            if number >= 0:
                meant[number - first] = joints[frame]
        seen = np.isfinite(meant).all(-1)
        if motion.ids:
            track = found[name]
        else:
            middle = np.nanmedian(meant[..., 0])
            track = min(recording.tracks, key=lambda track: abs(np.nanmedian(track.pixels[..., 0]) - middle))
        here = np.full_like(meant, np.nan)
        start = track.first_frame - (0 if recording.frames == len(meant) else first)
        here[start : start + len(track), :, :2] = track.pixels
        np.testing.assert_allclose(here[..., :2], np.where(seen[..., None], meant[..., :2], np.nan), atol=1e-3)
        np.testing.assert_allclose(
            track.confidence, np.where(seen, meant[..., 2], 0)[start : start + len(track)], atol=1e-6
        )


@settings(
    max_examples=int(os.environ.get("MOTIONS", "60")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(case=cases())
def test_a_known_motion_is_read_as_it_is_or_refused(case):
    """Units and layout may be stated or not; only stated units are always right, and none is guessed."""
    motion = case.motion
    with tempfile.TemporaryDirectory() as folder:
        path = case.writer.write(Path(folder), motion)
        options = InputOptions(
            layout=motion.layout if case.stated else None,
            image_size_px=SIZE,
            units=motion.units if case.stated else None,
        )
        refusal, recording = None, None
        try:
            recording = read_recording(path, options)
            check_plausible("", recording.tracks, SIZE, rate_hz=30.0)
        except UserError as error:
            refusal = str(error)
    if recording is None or refusal is not None:
        assert not case.stated, refusal
        assert "--" in str(refusal)
        assert "\n" not in str(refusal)
        return
    assert recording.tracks[0].layout == motion.layout
    if case.writer.ids == "numbered":  # people of an archive
        names = "012"[: len(motion.people)]
        motion = replace(motion, people=dict(zip(names, motion.people.values(), strict=True)), ids=True)
    assert_is(recording, motion)
