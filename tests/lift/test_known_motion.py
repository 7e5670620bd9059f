"""A known motion, written in every format in any order: what is lifted is that motion, or the reading is refused.

MOTIONS=2000 in the environment tries so many; without it there are few.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
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


def walk(layout: str, names: Sequence[int], missed: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
    """Returns people of these names, whose joints were missed in these frames."""
    people = {}
    for number, name in enumerate(names):
        people[str(name)] = np.round(convert_layout(WALKERS[number], layout), 3)
        for frame, joint in missed:
            people[str(name)][frame, joint] = np.nan
    return people


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
    return Motion(
        layout=layout,
        people=walk(layout, names, missed),
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


def named_as_read(writer: Writer, motion: Motion) -> Motion:
    """Returns the motion; people of an archive have their numbers in it as names."""
    if writer.ids != "numbered":
        return motion
    names = map(str, range(len(motion.people)))
    return replace(motion, people=dict(zip(names, motion.people.values(), strict=True)), ids=True)


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


@pytest.mark.parametrize("variant", range(6))
@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.write.__name__)
def test_every_form_of_a_file_is_read_as_it_was_meant(tmp_path, writer, variant):
    """A joint at the mark for none is not seen, and people keep their ids, in whatever order they are written."""
    layout, units = writer.layouts[variant % len(writer.layouts)], writer.units[variant % len(writer.units)]
    names = [1234567, 3, 41][: 1 + variant % 3]
    missed = [(frame, 5 * frame % 14) for frame in range(2, 8)]
    motion = Motion(
        layout=layout,
        people=walk(layout, names, missed),
        frames=[-1 if frame == 4 else 7 + 2 * frame for frame in range(FRAMES)],
        order=[7 * place % (FRAMES * len(names)) for place in range(FRAMES * len(names))],
        ids={"always": True, "never": False}.get(writer.ids, variant < 3),
        mark=-float(variant % 2),
        units=units,
        packing=list(PACKINGS)[variant % len(PACKINGS)],
        variant=variant,
    )
    options = InputOptions(layout=layout, image_size_px=SIZE, units=units)
    assert_is(read_recording(writer.write(tmp_path, motion), options), named_as_read(writer, motion))


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
    assert_is(recording, named_as_read(case.writer, motion))
