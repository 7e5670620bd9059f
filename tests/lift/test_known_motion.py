"""A known motion, written in every format in any order: what is lifted is that motion, or the reading is refused."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.lift.formats import read_recording
from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import InputOptions, Recording
from pipeline.lift.plausibility import check_plausible
from pipeline.lift.reading.tracks import LONGEST_ABSENCE
from pipeline.system.errors import UserError
from tests.fixtures.keypoint_files import convert_layout
from tests.fixtures.lifting import walker_keypoints

SIZE = (1000, 800)  # the people are above y = 600
WALKERS = [walker_keypoints(10, start=0.3 * number) * [0.6, 0.6, 1] + [250 * number, 150, 0] for number in range(3)]


@dataclass(frozen=True)
class Motion:
    """What is true: `people` by id, (frames, joints, 3) with NaN where a joint was missed, and which frames have it."""

    layout: str
    people: dict[str, np.ndarray]
    frames: list[int]  # numbers in the file, of the frames in which somebody was seen
    order: list[int]  # of the entries in the file
    ids: bool
    mark: float  # x and y of a joint that was missed
    units: str


@st.composite
def motions(draw: st.DrawFn) -> Motion:
    layout = draw(st.sampled_from(["coco17", "h36m17", "body25", "halpe26", "mpii16", "openpose18"]))
    count = draw(st.integers(1, 3))
    names = draw(st.lists(st.integers(0, 10**9), min_size=count, max_size=count, unique=True))
    first, step = draw(st.integers(0, 900)), draw(st.sampled_from([1, 1, 2, 5]))
    seen = draw(st.lists(st.booleans(), min_size=10, max_size=10).map(lambda kept: [True, *kept[1:-1], True]))
    gaps = np.diff(np.flatnonzero(seen)) * step
    seen = seen if gaps.max() <= LONGEST_ABSENCE else [True] * 10  # longer, and somebody is somebody else
    missed = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 13)), max_size=8))
    people = {}
    for number, name in enumerate(names):
        joints = np.round(convert_layout(WALKERS[number], layout), 3)
        for frame, joint in missed:
            joints[frame, joint] = np.nan
        people[str(name)] = joints
    return Motion(
        layout=layout,
        people=people,
        frames=[first + step * frame if seen[frame] else -1 for frame in range(10)],
        order=draw(st.permutations(range(10 * count))),
        ids=draw(st.booleans()),
        mark=draw(st.sampled_from([0.0, -1.0])),
        units=draw(st.sampled_from(["pixels", "pixels", "shares", "screen", "ndc"])),
    )


def entries(motion: Motion) -> list[tuple[int, str, np.ndarray]]:
    """Returns number, id and joints in the file's units of each detection, in the file's order."""
    listed = []
    for place in motion.order:
        name, frame = list(motion.people)[place % len(motion.people)], place // len(motion.people)
        if motion.frames[frame] < 0:
            continue
        joints = motion.people[name][frame].copy()
        unseen = np.isnan(joints[:, 0])
        if motion.units == "shares":
            joints = joints / [*SIZE, 1]
        elif motion.units == "screen":
            joints = (joints - [SIZE[0] / 2, SIZE[1] / 2, 0]) / [SIZE[0] / 2, SIZE[0] / 2, 1]
        elif motion.units == "ndc":
            joints = joints * [2 / SIZE[0], 2 / SIZE[1], 1] - [1, 1, 0]
        # In units from the middle a mark at (0, 0) of the image is moved with it.
        corner = {"screen": [-1, -SIZE[1] / SIZE[0]], "ndc": [-1, -1]}.get(motion.units, [motion.mark, motion.mark])
        joints[unseen] = [*corner, 0.4]
        listed.append((motion.frames[frame], name, joints))
    return listed


def write_coco(folder: Path, motion: Motion) -> Path:
    listed = [
        {"image_id": f"walk_{number:05d}_cam3.jpg", "keypoints": joints.ravel().tolist(), "score": 1}
        | ({"track_id": int(name)} if motion.ids else {})
        for number, name, joints in entries(motion)
    ]
    return write(folder / "a.json", listed)


def write_annotations(folder: Path, motion: Motion) -> Path:
    """The category names the joints in an order of its own."""
    names = list(LAYOUTS[motion.layout].joints)
    turned = list(np.roll(np.arange(len(names)), 5))
    images = {number: {"id": 3 * number + 1, "file_name": f"{number}.png"} for number, _, _ in entries(motion)}
    people = [
        {"id": place, "image_id": 3 * number + 1, "keypoints": joints[turned].ravel().tolist(), "track_id": int(name)}
        for place, (number, name, joints) in enumerate(entries(motion))
    ]
    categories = [{"id": 1, "name": "person", "keypoints": [names[place] for place in turned]}]
    content = {"images": list(images.values()), "annotations": people, "categories": categories}
    return write(folder / "a.json", content)


def write_openpose(folder: Path, motion: Motion) -> Path:
    frames: dict[int, list[Any]] = {}
    for number, name, joints in entries(motion):
        person = {"person_id": [int(name) if motion.ids else -1], "pose_keypoints_2d": joints.ravel().tolist()}
        frames.setdefault(number, []).append(person)
    for number, people in frames.items():
        write(folder / f"take2_{number}_keypoints.json", {"people": people})
    write(folder / "notes.json", {"by": "hand"})
    return folder


def write_mmpose(folder: Path, motion: Motion) -> Path:
    listed = [
        {"frame_id": number, "instances": [
            {"keypoints": joints[:, :2].tolist(), "keypoint_scores": joints[:, 2].tolist()}
            | ({"track_id": int(name)} if motion.ids else {})
        ]}
        for number, name, joints in entries(motion)
    ]  # fmt: skip
    return write(folder / "a.json", listed)


def write_ultralytics(folder: Path, motion: Motion) -> Path:
    frames: dict[int, list[Any]] = {}
    for number, name, joints in entries(motion):
        marks = dict(zip(("x", "y", "visible"), joints.T.tolist(), strict=True))
        person = {"name": "person", "keypoints": marks} | ({"track_id": int(name)} if motion.ids else {})
        frames.setdefault(number, []).append(person)
    for number, people in frames.items():
        write(folder / f"clip_{number}.json", people)
    return folder


def write_table(folder: Path, motion: Motion) -> Path:
    """A line per joint; without ids a person's joints stay together."""
    lines = ["layout;frame;person;joint;x;y;score"]
    for number, name, joints in entries(motion):
        person = name if motion.ids else ""
        for joint, (x, y, score) in zip(LAYOUTS[motion.layout].joints, joints.tolist(), strict=True):
            numbers = f"{x!r};{y!r};{score!r}".replace(".", ",")
            lines.append(f"{motion.layout};{number}.0;{person};{joint};{numbers}")
    (folder / "a.csv").write_text("\n".join(lines) + "\n", encoding="utf-16")
    return folder / "a.csv"


def write_npz(folder: Path, motion: Motion) -> Path:
    """All frames in order, whatever the order of the others: an array has no other."""
    first, last = min(f for f in motion.frames if f >= 0), max(motion.frames)
    names = list(motion.people)
    stack = np.full((len(names), last - first + 1, len(LAYOUTS[motion.layout].joints), 3), np.nan)
    for number, name, joints in entries(motion):
        stack[names.index(name), number - first] = joints
    np.savez(folder / "a.npz", pixels=stack[..., :2], confidence=stack[..., 2], layout=motion.layout)
    return folder / "a.npz"


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


WRITERS: list[Callable[[Path, Motion], Path]] = [
    write_coco, write_annotations, write_openpose, write_mmpose, write_ultralytics, write_table, write_npz,
]  # fmt: skip


def assert_is(recording: Recording, motion: Motion, *, has_ids: bool) -> None:
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
        if has_ids:
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


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(motion=motions(), writer=st.sampled_from(WRITERS), stated=st.booleans())
def test_a_known_motion_is_read_as_it_is_or_refused(motion, writer, stated):
    """Units and layout may be stated or not; only stated units are always right, and none is guessed."""
    with tempfile.TemporaryDirectory() as folder:
        path = writer(Path(folder), motion)
        options = InputOptions(
            layout=motion.layout if stated else None, image_size_px=SIZE, units=motion.units if stated else None
        )
        refusal, recording = None, None
        try:
            recording = read_recording(path, options)
            check_plausible("", recording.tracks, SIZE, rate_hz=30.0)
        except UserError as error:
            refusal = str(error)
    if recording is None or refusal is not None:
        assert not stated, refusal
        assert "--" in str(refusal)
        return
    assert recording.tracks[0].layout == motion.layout
    has_ids = motion.ids or writer in (write_annotations, write_npz)
    if writer is write_npz:
        names = "012"[: len(motion.people)]  # people of an archive are numbered
        motion = replace(motion, people=dict(zip(names, motion.people.values(), strict=True)))
    assert_is(recording, motion, has_ids=has_ids)
