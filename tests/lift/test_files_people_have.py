"""Files in the shapes that public tools and people write them: each is read as it was meant, or refused with a way on.

Each case stands for its kind: what tells a missed joint, units, layout, frame, id, person or format.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.lift.formats import read_recording
from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import InputOptions, Recording
from pipeline.lift.plausibility import check_plausible
from pipeline.system.errors import UserError
from tests.fixtures.keypoint_files import FRAMES, write_json
from tests.fixtures.keypoint_files import walkers as walkers_in
from tests.fixtures.lifting import SIZE

People = list[np.ndarray]
H36M_NAMES = [
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
    "neck_base", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
]  # fmt: skip
MEDIAPIPE_NAMES = [
    "NOSE", "LEFT_EYE_INNER", "LEFT_EYE", "LEFT_EYE_OUTER", "RIGHT_EYE_INNER", "RIGHT_EYE", "RIGHT_EYE_OUTER",
    "LEFT_EAR", "RIGHT_EAR", "MOUTH_LEFT", "MOUTH_RIGHT", "LEFT_SHOULDER", "RIGHT_SHOULDER", "LEFT_ELBOW",
    "RIGHT_ELBOW", "LEFT_WRIST", "RIGHT_WRIST", "LEFT_PINKY", "RIGHT_PINKY", "LEFT_INDEX", "RIGHT_INDEX", "LEFT_THUMB",
    "RIGHT_THUMB", "LEFT_HIP", "RIGHT_HIP", "LEFT_KNEE", "RIGHT_KNEE", "LEFT_ANKLE", "RIGHT_ANKLE", "LEFT_HEEL",
    "RIGHT_HEEL", "LEFT_FOOT_INDEX", "RIGHT_FOOT_INDEX",
]  # fmt: skip


def walkers(layout: str, people: int = 2) -> People:
    """Returns people with confidences of two digits, so that text and JSON hold them exactly."""
    return [np.round(person, 2) for person in walkers_in(layout)[:people]]


def flat(joints: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in joints.ravel()]


def results(people: People, **fields: Callable[[int, int], Any]) -> list[dict[str, Any]]:
    """Returns COCO results; each field is a function of frame and person."""
    return [
        {"image_id": frame, "category_id": 1, "keypoints": flat(person[frame]), "score": 0.9}
        | {name: value(frame, number) for name, value in fields.items()}
        for frame in range(FRAMES)
        for number, person in enumerate(people)
    ]


def annotations(people: People, images: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Returns COCO annotations of images that say their frame as `frame`."""
    listed = [
        {"id": number, "image_id": image["id"], "category_id": 1, "keypoints": flat(person[image["at"]])}
        for image in images
        for number, person in enumerate(people)
    ]
    plain = [{key: value for key, value in image.items() if key != "at"} for image in images]
    return {"images": plain, "annotations": listed, **more}


def image(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number + 1, "file_name": name, "width": SIZE[0], "height": SIZE[1], "at": number} | more


def ultralytics(people: People, divide: tuple[float, float] = (1, 1)) -> list[Any]:
    return [
        [
            {
                "name": "person",
                "keypoints": dict(zip(("x", "y", "visible"), (person[frame] / [*divide, 1]).T.tolist(), strict=True)),
            }
            for person in people
        ]
        for frame in range(FRAMES)
    ]


def openpose(
    folder: Path, people: People, name: str = "walk_{:012d}_keypoints.json", key: str = "pose_keypoints_2d"
) -> Path:
    """Writes a file per frame; `key` is the field of the joints."""
    out = folder / "op"
    out.mkdir(exist_ok=True)
    for frame in range(FRAMES):
        listed = [{"person_id": [-1], key: flat(person[frame])} for person in people]
        write_json(out / name.format(frame), {"version": 1.3, "people": listed})
    return out


def mediapipe(people: People, frames: range | list[int] = range(FRAMES), names: list[str] | None = None) -> list[Any]:
    """Returns frames that say their number, landmarks in a list or by name."""
    listed = []
    for frame in frames:
        marks = [
            {"x": float(x) / SIZE[0], "y": float(y) / SIZE[1], "z": -0.1, "visibility": float(c)}
            for x, y, c in people[0][frame]
        ]
        listed.append({"frame": frame, "landmarks": marks if names is None else dict(zip(names, marks, strict=True))})
    return listed


def table(people: People, layout: str, *, separator: str = ",") -> str:
    """Returns a table with a line per frame of each person."""
    head = ["frame", *(f"{name}_{c}" for name in LAYOUTS[layout].joints for c in ("x", "y", "confidence"))]
    lines = [
        separator.join([str(number), *("" if np.isnan(v) else repr(float(v)) for v in person[number].ravel())])
        for number in range(FRAMES)
        for person in people
    ]
    return "\n".join([separator.join(head), *lines]) + "\n"


def joint_table(people: People, layout: str) -> str:
    lines = [
        f"{frame},{name},{x!r},{y!r},{c!r}"
        for frame in range(FRAMES)
        for person in people
        for name, (x, y, c) in zip(LAYOUTS[layout].joints, person[frame].tolist(), strict=True)
    ]
    return "\n".join(["frame,joint,x,y,confidence", *lines]) + "\n"


def write_text(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def labels(folder: Path, people: People, ending: Callable[[int, int], list[str]], channels: int = 3) -> Path:
    out = folder / "labels"
    out.mkdir()
    for frame in range(FRAMES):
        lines = []
        for number, person in enumerate(people):
            shares = (person[frame] / [*SIZE, 1])[:, :channels].ravel()
            lines.append(" ".join(["0", "0.5", "0.5", "0.2", "0.4", *map(str, shares), *ending(frame, number)]))
        write_text(out / f"clip_{frame + 1}.txt", "\n".join(lines) + "\n")
    return out


def npz(path: Path, **arrays: Any) -> Path:
    with path.open("wb") as file:  # numpy would add .npz to another ending
        np.savez(file, **arrays)
    return path


def read(path: Path, **options: Any) -> Recording:
    return read_recording(path, InputOptions(**{"image_size_px": SIZE} | options))


def assert_people_are(
    recording: Recording, people: People, *, certain: bool = False, ids: set[str] | None = None
) -> None:
    """Compares people in any order, from the first frame in which each was seen to the last."""
    expected = []
    for person in people:
        seen = np.flatnonzero(np.isfinite(person).all(-1).any(1))
        expected.append((int(seen[0]), person[seen[0] : seen[-1] + 1]))
    assert len(recording.tracks) == len(people)
    assert ids is None or {track.person for track in recording.tracks} == ids
    found = sorted(recording.tracks, key=lambda track: np.nanmin(track.pixels[..., 0]))
    for track, (first, person) in zip(
        found, sorted(expected, key=lambda item: np.nanmin(item[1][..., 0])), strict=True
    ):
        assert track.first_frame == first
        unseen = ~np.isfinite(person).all(-1) | (person[..., 2] == 0)
        np.testing.assert_allclose(track.pixels, np.where(unseen[..., None], np.nan, person[..., :2]), atol=1e-3)
        confidence = np.where(unseen, 0, 1 if certain else person[..., 2])
        np.testing.assert_allclose(track.confidence, confidence, atol=1e-6)


def with_boxes(folder: Path) -> Path:
    content = annotations(walkers("coco17"), [image(n, f"{n:06d}.jpg") for n in range(FRAMES)])
    content["annotations"] += [
        {"id": 99, "image_id": 3, "bbox": [1, 2, 3, 4]},
        {"id": 98, "image_id": 3, "keypoints": []},
    ]
    return write_json(folder / "a.json", content)


def named_otherwise(folder: Path) -> Path:
    categories = [{"id": 1, "name": "person", "keypoints": H36M_NAMES}, {"id": 2, "name": "ball"}]
    images = [image(n, f"{n:05d}.jpg") for n in range(FRAMES)]
    return write_json(folder / "a.json", annotations(walkers("h36m17"), images, categories=categories))


def mmpose_images(folder: Path, score: float = 1.0, wrap: Callable[[Any], Any] = list) -> Path:
    out = folder / "predictions"
    out.mkdir()
    for n in range(FRAMES):
        people = [
            {"keypoints": p[n, :, :2].tolist(), "keypoint_scores": (score * p[n, :, 2]).tolist()}
            for p in walkers("coco17")
        ]
        write_json(out / f"{n:06d}.json", wrap(people))
    write_json(out / "notes.json", {"made": "by hand"})
    (out / "._000001.json").write_bytes(b"\x00\x05")
    return out


def sleap_file(folder: Path) -> Path:
    people = np.stack(walkers("h36m17"))
    with h5py.File(folder / "clip.analysis.h5", "w") as file:
        file["tracks"] = np.moveaxis(people[..., :2], 1, 3).swapaxes(1, 2)  # people, x and y, joints, frames
        file["point_scores"] = np.moveaxis(people[..., 2], 1, 2)
        file["node_names"] = [name.encode() for name in H36M_NAMES]
    return folder / "clip.analysis.h5"


# Beyond the forms in which test_known_motion writes: what it is, its layout, who writes it, and what else holds:
# `certain`, or the `ids` of the people.
COCO: list[tuple[str, str, Callable[[Path], Path], dict[str, Any]]] = [
    ("joints named by the annotations", "h36m17", named_otherwise, {}),
    ("boxes among the annotations", "coco17", with_boxes, {}),
    ("ids in several forms", "coco17", lambda f: write_json(
        f / "a.json", results(walkers("coco17"), track_id=lambda n, p: [p + 1, p + 1.0, f"{p + 1}", [p + 1]][n % 4])),
     {"ids": {"1", "2"}}),
    ("ids of text", "coco17", lambda f: write_json(
        f / "a.json", results(walkers("coco17"), track_id=lambda n, p: ["anna", "bo"][p])), {"ids": {"anna", "bo"}}),
    ("entries with frame_id", "coco17", lambda f: write_json(f / "a.json", {"annotations": [
        {key: value for key, value in (entry | {"frame_id": entry["image_id"]}).items() if key != "image_id"}
        for entry in results(walkers("coco17"))]}), {"certain": False}),
    ("a picture's people with what MMPose says of them", "coco17", lambda f: mmpose_images(
        f, wrap=lambda people: {"meta_info": {}, "instance_info": people}), {}),
    ("OpenPose 1.0", "openpose18", lambda f: openpose(f, walkers("openpose18"), key="pose_keypoints"), {}),
    ("lines of JSON", "coco17", lambda f: write_text(
        f / "a.jsonl", "\n".join(json.dumps(frame) for frame in ultralytics(walkers("coco17")))), {}),
    ("the box's confidence written as 1", "coco17", lambda f: labels(
        f, walkers("coco17"), lambda n, p: ["1" if n % 2 else f"0.{50 + n + p}"]), {"ids": {"0", "1"}}),
    ("labels without visibility", "coco17", lambda f: write_text(labels(
        f, walkers("coco17"), lambda n, p: [], channels=2) / "classes.txt", "person\n").parent, {"certain": True}),
    ("spaces after commas", "coco17", lambda f: write_text(
        f / "a.csv", table(walkers("coco17"), "coco17", separator=", ")), {}),
    ("Excel's Unicode text", "coco17", lambda f: write_text(
        f / "K.TXT", table(walkers("coco17"), "coco17", separator="\t"), "utf-16"), {}),
    ("SLEAP's analysis file without names", "h36m17", sleap_file, {"ids": {"0", "1"}}),
    ("keypoints of a lifter's demo", "h36m17", lambda f: npz(
        f / "K.NPZ", reconstruction=np.stack(walkers("h36m17")).astype("float32")), {}),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "write", "holds"), [case[1:] for case in COCO], ids=[case[0] for case in COCO])
def test_a_file_is_read_as_it_was_meant(tmp_path, layout, write, holds):
    recording = read(write(tmp_path))
    assert {track.layout for track in recording.tracks} == {layout}
    assert recording.frames == FRAMES
    assert_people_are(recording, walkers(layout), **holds)


def test_words_for_no_number_are_empty_cells(tmp_path):
    people, words = walkers("coco17", 1), ["NA", "n/a", "null", "NaN"]
    text = table(people, "coco17")
    for frame, word in enumerate(words):
        text = text.replace(",".join(repr(float(v)) for v in people[0][frame, 9, :2]), f"{word},{word}")
        people[0][frame, 9] = np.nan
    assert_people_are(read(write_text(tmp_path / "a.csv", text)), people)


def test_a_binary_file_of_another_kind_is_not_taken_for_text(tmp_path):
    np.save(tmp_path / "a.npy", walkers("coco17")[0])
    with pytest.raises(UserError, match="found a binary file, of which npz, HDF5 and videos are read"):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize("names", [None, MEDIAPIPE_NAMES])
def test_frames_that_say_their_number_keep_their_time(tmp_path, names):
    frames = [0, 1, 2, 3, 4, 8, 9, 10, 11]
    person = walkers("mediapipe33", 1)[0]
    meant = person.copy()
    meant[5:8] = np.nan
    path = write_json(tmp_path / "l.json", mediapipe([person], frames, names))
    assert_people_are(read(path), [meant])


def test_what_was_left_out_or_not_taken_is_said(tmp_path):
    reading = read(mmpose_images(tmp_path, score=7.3)).reading
    assert "format: mmpose, recognised by its content" in reading
    assert "layout: coco17, from 17 joints; --layout to change" in reading
    assert any(line.startswith("units: pixels") for line in reading)
    assert "left out, as it has no keypoints: notes.json" in reading
    assert any(line.startswith("scores: up to 7.") and line.endswith("those over 1 count as 1") for line in reading)
    path = write_json(tmp_path / "a.json", results(walkers("coco17"), track_id=lambda n, p: 0))
    assert "id '0' is given to 2 people in frame 0: not taken for an id" in read(path).reading
    assert "layout: h36m17, from the joint names in the file" in read(named_otherwise(tmp_path)).reading


def test_names_that_are_of_no_joints_are_read_by_number_if_a_layout_is_stated(tmp_path):
    images = [image(n, f"{n:05d}.jpg") for n in range(FRAMES)]
    categories = [{"id": 1, "name": "person", "keypoints": [f"kp{n}" for n in range(17)]}]
    path = write_json(tmp_path / "a.json", annotations(walkers("coco17"), images, categories=categories))
    with pytest.raises(UserError, match=r"joint names: expected joints such as .*kp0, kp1.*; a --layout reads"):
        read(path)
    recording = read(path, layout="coco17")
    assert_people_are(recording, walkers("coco17"))
    assert any("so by their number" in line for line in recording.reading)


def test_people_of_other_joints_than_the_file_names_are_refused(tmp_path):
    images = [image(n, f"{n:05d}.jpg") for n in range(FRAMES)]
    categories = [{"id": 1, "name": "person", "keypoints": H36M_NAMES}]
    path = write_json(tmp_path / "a.json", annotations(walkers("mpii16"), images, categories=categories))
    with pytest.raises(UserError, match="frame 0: expected as many joints as the file names, 17, found 16"):
        read(path)


def test_images_without_numbers_are_in_their_order_and_that_is_said(tmp_path):
    images = [image(n, f"{'abcdefghijkl'[n]}.jpg") for n in range(FRAMES)]
    recording = read(write_json(tmp_path / "a.json", annotations(walkers("coco17"), images)))
    assert_people_are(recording, walkers("coco17"))
    assert any(line.startswith("frames: images in the order in which they are listed") for line in recording.reading)


def test_a_number_of_each_line_is_no_person(tmp_path):
    lines = table(walkers("coco17", 1), "coco17").splitlines()
    text = "\n".join([f"id,{lines[0]}", *(f"{n},{line}" for n, line in enumerate(lines[1:]))])
    assert_people_are(read(write_text(tmp_path / "a.csv", text)), walkers("coco17", 1))


def check(path: Path, **options: Any) -> Recording:
    """Reads and doubts as lifting does."""
    recording = read(path, **options)
    check_plausible(recording.source, recording.tracks, SIZE, rate_hz=recording.rate_hz or 30.0)
    return recording


def as_shares(people: People) -> People:
    return [person / [*SIZE, 1] for person in people]


def as_screen(people: People) -> People:
    return [(person - [SIZE[0] / 2, SIZE[1] / 2, 0]) / [SIZE[0] / 2, SIZE[0] / 2, 1] for person in people]


def two_videos(folder: Path) -> Path:
    people = {name: {"custom": [person[..., :2]]} for name, person in zip("ab", walkers("coco17"), strict=True)}
    about = {"layout_name": "coco", "video_metadata": {name: {"w": SIZE[0], "h": SIZE[1]} for name in "ab"}}
    return npz(folder / "a.npz", positions_2d=np.array(people), metadata=np.array(about))


def two_prefixes(folder: Path) -> Path:
    """Another video goes on where the first one ends."""
    out = openpose(folder, walkers("openpose18", 1), "walkA_{:06d}.json")
    for frame in range(FRAMES):
        write_json(out / f"walkB_{FRAMES + frame:06d}.json", {"people": []})
    return out


def two_cameras(folder: Path) -> Path:
    entries = results(walkers("coco17"), image_id=lambda n, p: f"cam{p}/{n:04d}.jpg")
    return write_json(folder / "a.json", entries)


def y_up(people: People) -> People:
    return [person * [1, -1, 1] + [0, SIZE[1], 0] for person in people]


# What is refused, who writes it, the words, the option that mends it, and who is read then (None: refused in any case).
REFUSED: list[tuple[str, Callable[[Path], Path], str, dict[str, Any], People | None]] = [
    ("shares in Ultralytics' JSON", lambda f: write_json(f / "a.json", ultralytics(walkers("coco17"), SIZE)),
     "keypoints that span 0.* shares of it .--units shares", {"units": "shares"}, walkers("coco17")),
    ("shares in npz", lambda f: npz(f / "a.npz", keypoints=as_shares(walkers("coco17"))[0], layout="coco17"),
     "--units shares", {"units": "shares"}, walkers("coco17", 1)),
    ("OpenPose's scale from 0 to 1", lambda f: openpose(f, as_shares(walkers("body25"))),
     "--units shares", {"units": "shares"}, walkers("body25")),
    ("screen in npz", lambda f: npz(f / "a.npz", keypoints=as_screen(walkers("coco17"))[0], layout="coco17"),
     "-1 to 1 across it .--units screen", {"units": "screen"}, walkers("coco17", 1)),
    ("OpenPose's scale from -1 to 1", lambda f: openpose(f, [2 * p * [1, 1, 0.5] - [1, 1, 0] for p in as_shares(
        walkers("body25"))]), "-1 to 1 across it .--units screen or ndc", {"units": "ndc"}, walkers("body25")),
    ("y that counts upwards", lambda f: write_json(f / "a.json", results(y_up(walkers("coco17")))),
     "upside down: does y count upwards .--y-up", {"y_up": True}, walkers("coco17")),
    ("BODY_25B", lambda f: openpose(f, walkers("body25b")),
     "stand upright if it is 'body25b': --layout body25b", {"layout": "body25b"}, walkers("body25b")),
    ("Human3.6M's joints by number", lambda f: write_json(f / "a.json", results(walkers("h36m17"))),
     "stand upright if it is 'h36m17' or '3dhp17': --layout h36m17 or 3dhp17", {"layout": "h36m17"}, walkers("h36m17")),
    ("3DHP's joints in their public order", lambda f: npz(
        f / "a.npz", keypoints=walkers("3dhp17_public")[0], layout="3dhp17"),
     "stand upright if it is '3dhp17_public'", {"layout": "3dhp17_public"}, walkers("3dhp17_public", 1)),
    ("scores in per cent", lambda f: write_json(f / "a.json", results([p * [1, 1, 100] for p in walkers("coco17")])),
     "frame 0: expected confidences from 0 to 1, found .*--highest-score", {"highest_score": 100.0}, walkers("coco17")),
    ("two videos of an archive", two_videos,
     "positions_2d: expected one video, found 2: a, b; choose one with --video", {"video": "a"}, None),
    ("two videos in a folder", two_prefixes, "expected one video, found 2: walkA, walkB; choose", {"video": "walkA"},
     walkers("openpose18", 1)),
    ("two cameras in a file", two_cameras, "image_id: expected one video, found 2: cam0, cam1", {"video": "cam0"},
     walkers("coco17", 1)),
]  # fmt: skip


@pytest.mark.parametrize(("write", "says", "mends", "people"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_is_refused_names_the_option_that_mends_it(tmp_path, write, says, mends, people):
    path = write(tmp_path)
    with pytest.raises(UserError, match=says) as refused:
        check(path)
    assert "\n" not in str(refused.value)
    recording = check(path, **mends)
    if people is not None:
        assert_people_are(recording, people)


@pytest.mark.parametrize("units", [None, "shares"])
def test_poses_relative_to_the_hip_are_not_taken_for_the_image(tmp_path, units):
    """MediaPipe's world landmarks, in metres, as landmarks or in a table; the half of them is above the hip or left."""
    person = walkers("mediapipe33", 1)[0]
    middle = person[:, [LAYOUTS["mediapipe33"].joints.index(name) for name in ("LHip", "RHip")], :2].mean(1)
    person[..., :2] = (person[..., :2] - middle[:, None]) / 500
    listed = write_json(tmp_path / "a.json", mediapipe([person * [*SIZE, 1]]))
    rows = write_text(tmp_path / "a.csv", table([person], "mediapipe33"))
    for path in (listed, rows):
        with pytest.raises(UserError, match=r"found hips at \(0, 0\) in every frame, as in MediaPipe's pose_world_"):
            read(path, units=units)


def test_frames_before_people_are_not_taken_for_a_crowd(tmp_path):
    frames_first = np.stack(walkers("coco17"))[..., :2].swapaxes(0, 1)
    with pytest.raises(UserError, match="found 12 people, each where the one before is: frames, people"):
        read(npz(tmp_path / "a.npz", pixels=frames_first))
    crowd = walkers("coco17", 1)[0][:1] + np.arange(12)[:, None, None] * [60, 0, 0]
    assert len(read(npz(tmp_path / "b.npz", pixels=crowd[:, None, :, :2])).tracks) == 12


def test_an_array_of_another_shape_is_named_as_it_is(tmp_path):
    frame = npz(tmp_path / "a.npz", keypoints=walkers("coco17")[0][0])
    with pytest.raises(UserError, match=r"keypoints: expected numbers \(frames, joints, 2 or 3\), found .* \(17, 3\)"):
        read(frame)


def test_one_name_for_all_frames_is_not_one_frame_of_all_people(tmp_path):
    entries = results(walkers("coco17", 1), image_id=lambda n, p: "abcdefghijkl"[n] + "_cam2.jpg")
    with pytest.raises(UserError, match="image_id: expected one video, found 12: a_cam"):
        read(write_json(tmp_path / "a.json", entries))


TABLES = {
    "a joint twice": ("frame,person,joint,x,y\n0,1,Nose,1,2\n0,1,Nose,3,4\n", "line 3: .*'Nose' of person '1' again"),
    "people of other joints": (
        joint_table(walkers("coco17"), "coco17").replace("0,Nose", "99,Nose", 1), "a column 'person' tells whose",
    ),
    "half a frame": ("frame,joint,x,y\n0.5,Nose,1,2\n", "line 2: frame: expected a whole number, found '0.5'"),
    "words for numbers": ("frame,joint,x,y\n0,Nose,1,left\n", "line 2: column 'y': expected a number, found 'left'"),
    "no frame": ("joint,x,y\nNose,1,2\n", "expected the columns frame, joint, x, y, or .*, found joint, x, y"),
    "too few cells": ("frame,joint,x,y\n0,Nose,1\n", "line 2: expected 4 values, found 3, separated by ','"),
    "two layouts": ("frame,joint,x,y,layout\n0,0,1,2,coco17\n1,0,1,2,mpii16\n", "expected one layout in all lines"),
    "a title": ("walk\nframe,joint,x,y\n0,0,1,2\n", "line 1: expected the names of 4 columns, .* found 1, separated"),
    "no names": ("0,1.5,2\n1,1.5,2\n", "line 1: expected the columns .*, found numbers: name the columns above them"),
    "nothing": ("", "found an empty file"),
    "a video that is not there": (table(walkers("coco17"), "coco17"), "does not tell videos apart, found 'a'"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_read_names_the_line(tmp_path, name):
    text, says = TABLES[name]
    with pytest.raises(UserError, match=says):
        read(write_text(tmp_path / "a.csv", text), layout="coco17", video="a" if "video" in name else None)


FOLDERS = {
    "pictures": ({"a.jpg": ""}, "found pictures: run a 2D detector on them first"),
    "folders": ({"cam1/a.json": "{}", "cam2/a.json": "{}"}, "found the folders cam1, cam2: lift one of them"),
    "recordings": ({"a.toml": "", "cam1.csv": "", "cam2.mp4": ""}, "found cam1.csv, cam2.mp4: lift one of them"),
    "others": ({"a.toml": ""}, "found 1 other files, such as a.toml"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_something_else_says_what_to_do(tmp_path, name):
    files, says = FOLDERS[name]
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        write_text(tmp_path / file, text)
    with pytest.raises(UserError, match=says):
        read(tmp_path)


PYTHON = ("Error", "NoneType", " dict", "KeyError", "list indices", "StopIteration", "object is not")
DAMAGED: dict[str, tuple[Any, str]] = {
    "a person who is a number": ([{"image_id": 0, "idx": 0, "keypoints": 3, "box": []}], "entry 0: expected x, y and"),
    "landmarks without y": ([{"landmarks": [[{"x": 1.0}] * 33]}], "frame 0: expected an entry with 'y'"),
    "landmarks under another name": ([{"landmark": {"marks": []}}], "expected an entry with 'pose_landmarks' or"),
    "people who are no list": ({"people": {"a": 1}}, "frame 0: expected a list of people, found an object with a"),
    "instances without scores": ([{"instances": [{"keypoints": [[1, 2]] * 17}]}], "with 'keypoint_scores', found"),
    "scores of other joints": (
        [{"instances": [{"keypoints": [[1, 2]] * 17, "keypoint_scores": [1]}]}], "as many x as y .*17 and 17 and 1",
    ),
    "marks without x": ([[{"keypoints": {"x": [1], "z": [2]}}]], "keypoints: expected an entry with 'y'"),
    "an image that is not listed": (
        {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 2, "keypoints": [1.0] * 51}]},
        "entry 0: expected the id of an image that is listed, found '2'",
    ),
    "neither image nor frame": ({"annotations": [{"keypoints": [1.0] * 51}]}, "or images beside annotations"),
    "half numbered": ([{"frame": 0, "landmarks": []}, {"landmarks": []}], "in every entry, found none in entry 1"),
    "an id that is an object": ([{"image_id": 0, "keypoints": [1.0] * 51, "track_id": {}}], "as a person's id, found"),
    "people of 17 and 16": (
        [{"image_id": 0, "keypoints": [1.0] * 51}, {"image_id": 3, "keypoints": [1.0] * 48}],
        "frame 3: expected 17 joints, as the people before, found 16",
    ),
    "times for frames": (
        [{"image_id": n / 30, "keypoints": [1.0] * 51} for n in range(2)], "image_id: expected a whole number",
    ),
    "x and y alone": ([{"image_id": 0, "keypoints": [1.0] * 34}], "found 34 numbers; x and y alone are read as a list"),
    "people within an object": (
        {"predictions": [{"image_id": 0, "keypoints": [1.0] * 51}]},
        "with predictions, where 'predictions' has an object with image_id, keypoints",
    ),
    "frames of other people": (
        {"frames": [{"frame": 0, "people": [1]}]}, "--format .*, where 'frames' has an object with frame, people",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_refusal_names_the_entry_and_says_nothing_in_pythons_words(tmp_path, name):
    content, says = DAMAGED[name]
    with pytest.raises(UserError, match=says) as refused:
        read(write_json(tmp_path / "a.json", content))
    assert not any(word in str(refused.value) for word in PYTHON)
