"""The embedded motion capture: its size, its bodies, a second slow conversion of it, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.mocap.cameras import Take
from pipeline.poses.skeleton import H36M_17
from pipeline.prepare_data import cmu_mocap
from pipeline.system.errors import UserError

ANGLE = st.floats(-math.pi, math.pi)
Vector = list[float]
Matrix = list[list[float]]


def bone_lengths_mm(take: Take) -> dict[str, np.ndarray]:
    joints_mm = take.joints_world_m * 1000
    return {
        H36M_17.joints[child]: np.linalg.norm(joints_mm[:, child] - joints_mm[:, parent], axis=-1)
        for parent, child in H36M_17.bones
    }


def facing(joints_world_m: np.ndarray) -> np.ndarray:
    """Unit vectors on the floor: a person whose left is at +x faces -y."""
    across_m = joints_world_m[:, H36M_17.joints.index("LHip")] - joints_world_m[:, H36M_17.joints.index("RHip")]
    forward = np.cross(across_m, [0.0, 0.0, 1.0])
    return forward / np.linalg.norm(forward, axis=-1, keepdims=True)


def test_the_archive_has_all_sequences_and_frames_of_its_table(takes):
    assert len(takes) == 138
    assert sum(len(take.joints_world_m) for take in takes.values()) == 100_160
    counted: dict[tuple[str, str], list[int]] = {}
    for take in takes.values():
        counted.setdefault((take.subset, take.split), []).append(len(take.joints_world_m))
    assert {key: (len(frames), sum(frames)) for key, frames in counted.items()} == {
        ("li", "train"): (72, 26_066),
        ("li", "test"): (24, 7_042),
        ("daz", "train"): (26, 41_518),
        ("daz", "test"): (16, 25_534),
    }
    assert {take.rate_hz for take in takes.values()} == {60.0}


def test_dance_partners_are_on_one_side_of_the_split(takes):
    salsa = {int(name.removeprefix("salsa_")): take.split for name, take in takes.items() if take.action == "salsa"}
    pairs = [(number, number + 15) for number in salsa if number + 15 in salsa]
    assert pairs
    assert all(salsa[one] == salsa[other] for one, other in pairs)


def test_rigid_bones_keep_their_length(takes):
    # Of li the spine bends between its joints and the shoulders are not rigid to the thorax, which is a midpoint.
    bent = {"li": {"Spine", "Thorax", "Neck/Nose", "LShoulder", "RShoulder"}, "daz": {"Thorax", "Neck/Nose"}}
    for take in takes.values():
        for joint, lengths_mm in bone_lengths_mm(take).items():
            if joint not in bent[take.subset]:
                assert np.ptp(lengths_mm) < 1e-6, (take.name, joint)
            assert np.ptp(lengths_mm) < 110, (take.name, joint)


def test_left_and_right_bones_are_equally_long(takes):
    # The li skeleton is a measured person's: its upper arms differ by 3 %.
    tolerance = {"li": 0.035, "daz": 1e-9}
    for take in takes.values():
        lengths_mm = bone_lengths_mm(take)
        for joint in ("Knee", "Foot", "Elbow", "Wrist", "Hip"):
            left, right = lengths_mm["L" + joint][0], lengths_mm["R" + joint][0]
            assert left == pytest.approx(right, rel=tolerance[take.subset]), (take.name, joint)


def test_bones_have_the_known_lengths(takes):
    daz_mm = bone_lengths_mm(takes["salsa_01"])
    assert daz_mm["LKnee"][0] == pytest.approx(368.3, abs=0.05)
    assert daz_mm["LFoot"][0] == pytest.approx(454.1, abs=0.05)
    # Offset of LeftLeg in skeletons.json, in units of 25.4/0.45 mm, times the scale of the take.
    thigh_mm = math.hypot(2.5972, 7.13576) * 25.4 / 0.45
    assert bone_lengths_mm(takes["test_walking_1"])["LKnee"][0] == pytest.approx(1.0376 * thigh_mm, abs=1e-6)


def test_walkers_and_runners_move_forwards_and_their_left_is_left(takes):
    for take in takes.values():
        if take.action not in ("walking", "running"):
            continue
        velocity_mps = np.diff(take.joints_world_m[:, 0], axis=0)[:, :2] * take.rate_hz
        along = (velocity_mps * facing(take.joints_world_m)[:-1, :2]).sum()
        assert along > 0.85 * np.linalg.norm(velocity_mps, axis=-1).sum(), take.name


def test_the_left_shoulder_is_on_the_side_of_the_left_hip(takes):
    for take in takes.values():
        across_m = [take.joints_world_m[:, left] - take.joints_world_m[:, right] for left, right in ((4, 1), (11, 14))]
        assert ((across_m[0] * across_m[1]).sum(-1) > 0).all(), take.name


def test_knees_bend_forwards(takes):
    # The knee lies in front of the line from hip to ankle: what a mirrored or back-to-front skeleton would not do.
    for take in takes.values():
        if take.action != "walking":
            continue
        hip, knee, ankle = (take.joints_world_m[:, joint] for joint in (4, 5, 6))
        before_m = ((knee - (hip + ankle) / 2) * facing(take.joints_world_m)).sum(-1)
        assert (before_m > -0.02).mean() > 0.95, take.name


def test_people_stand_on_the_floor_with_the_head_up(takes):
    for take in takes.values():
        height_m = take.joints_world_m[..., 2]
        ankles_m, head_m = height_m[:, [3, 6]], height_m[:, 10]
        # The archive puts the lowest resting point of the feet, mostly a toe, 30 mm above the floor.
        assert 0.02 < np.percentile(ankles_m.min(1), 2) < 0.13, take.name
        assert ankles_m.min() > -0.02, take.name
        assert (head_m > ankles_m.max(1)).all(), take.name
        assert 1.2 < np.median(head_m) < 1.8, take.name


def test_nobody_is_faster_than_a_kick(takes):
    for take in takes.values():
        speed_mps = np.linalg.norm(np.diff(take.joints_world_m, axis=0), axis=-1) * take.rate_hz
        assert speed_mps.max() < 13.2, take.name


def product(a: Matrix, b: Matrix) -> Matrix:
    return [[sum(a[row][k] * b[k][column] for k in range(3)) for column in range(3)] for row in range(3)]


def moved(origin: Vector, rotation: Matrix, offset: Vector) -> Vector:
    return [origin[row] + sum(rotation[row][k] * offset[k] for k in range(3)) for row in range(3)]


def about(axis: str, angle: float) -> Matrix:
    c, s = math.cos(angle), math.sin(angle)
    return {
        "X": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "Y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "Z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }[axis]


def rodrigues(vector: Vector) -> Matrix:
    angle = math.sqrt(sum(v * v for v in vector))
    if angle == 0:
        return [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    x, y, z = (v / angle for v in vector)
    c, s, d = math.cos(angle), math.sin(angle), 1 - math.cos(angle)
    return [
        [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
        [y * x * d + z * s, c + y * y * d, y * z * d - x * s],
        [z * x * d - y * s, z * y * d + x * s, c + z * z * d],
    ]


def li_frame(row: Vector, skeleton: dict[str, Any], body_scale: float) -> dict[str, Vector]:
    """Positions of all joints in one frame, joint by joint, as the archive's README says."""
    published = rodrigues([-v for v in row[3:6]])
    a = math.asin(published[2][1])
    b = math.atan2(-published[2][0], published[2][2])
    c = math.atan2(-published[0][1], published[1][1])
    if abs(b) > math.pi / 2:
        a, b, c = math.pi - a, b - math.copysign(math.pi, b), c + math.pi
    positions, rotations = [row[:3]], [product(product(about("Z", c), about("Y", b)), about("X", a))]
    for joint in range(1, 38):
        name, parent = skeleton["names"][joint], skeleton["parents"][joint]
        offset = skeleton["corrected_offsets"].get(name, skeleton["offsets"][joint])
        positions.append(moved(positions[parent], rotations[parent], [body_scale * v for v in offset]))
        rotations.append(product(rotations[parent], rodrigues([-v for v in row[3 + 3 * joint : 6 + 3 * joint]])))
    return dict(zip(skeleton["names"], positions, strict=True))


def daz_frame(row: Vector, skeleton: dict[str, Any]) -> dict[str, Vector]:
    """Positions of all BVH nodes in one frame, and of the top of the head."""
    values = iter(row)
    positions: list[Vector] = []
    rotations: list[Matrix] = []
    for joint, channels in enumerate(skeleton["channels"]):
        offset = list(skeleton["offsets"][joint])
        local: Matrix = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        for channel in channels:
            if channel.endswith("position"):
                offset["XYZ".index(channel[0])] += next(values)
            else:
                local = product(local, about(channel[0], math.radians(next(values))))
        parent = skeleton["parents"][joint]
        positions.append(offset if parent < 0 else moved(positions[parent], rotations[parent], offset))
        rotations.append(local if parent < 0 else product(rotations[parent], local))
    named = dict(zip(skeleton["names"], positions, strict=True))
    head = skeleton["names"].index("head")
    return named | {"head_top": moved(positions[head], rotations[head], [0.0, 13.0, 0.0])}


LI_JOINTS = (
    "LeftUpLeg+RightUpLeg RightUpLeg RightLeg RightFoot LeftUpLeg LeftLeg LeftFoot Spine Neck+Neck1 Head Head_End "
    "LeftArm LeftForeArm LeftFingerBase RightArm RightForeArm RightFingerBase"
)
DAZ_JOINTS = (
    "lThigh+rThigh rThigh rShin rFoot lThigh lShin lFoot abdomen lCollar+rCollar head head_top lShldr lForeArm lHand "
    "rShldr rForeArm rHand"
)


@pytest.mark.parametrize("name", ["test_soccer_1", "train_walking_2", "martial_08"])
def test_a_slow_conversion_joint_by_joint_agrees(name, takes, raw_cmu):
    skeletons = json.loads((raw_cmu / "skeletons.json").read_text(encoding="utf-8"))
    with (raw_cmu / "sequences.csv").open(newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["name"] == name)
    with np.load(raw_cmu / row["file"]) as archive:
        motion = archive[name].astype(float)
    take = takes[name]
    for frame in range(0, len(motion), len(motion) // 40):
        if row["subset"] == "li":
            positions = li_frame(motion[frame].tolist(), skeletons["li"], float(row["body_scale"]))
            unit_mm, joints = 25.4 / 0.45, LI_JOINTS
        else:
            positions = daz_frame(motion[frame].tolist(), skeletons["daz"])
            unit_mm, joints = 10.0, DAZ_JOINTS
        for joint, sources in enumerate(joints.split()):
            x, y, z = (sum(xyz) / len(xyz) for xyz in zip(*(positions[s] for s in sources.split("+")), strict=True))
            expected_mm = [unit_mm * x, -unit_mm * z, unit_mm * y - float(row["floor_mm"])]
            np.testing.assert_allclose(take.joints_world_m[frame, joint] * 1000, expected_mm, rtol=0, atol=1e-6)


@settings(deadline=None)
@given(a=ANGLE, b=st.floats(-1.5, 1.5), c=ANGLE)
def test_the_root_turns_as_the_amc_angles_mean(a, b, c):
    if abs(abs(a) - math.pi / 2) < 0.01:  # gimbal lock: the angles cannot be told apart
        return
    published = np.array(product(product(about("Z", c), about("X", a)), about("Y", b)))
    meant = product(product(about("Z", c), about("Y", b)), about("X", a))
    np.testing.assert_allclose(cmu_mocap._amc_root_rotation(published[None])[0], meant, atol=1e-9)


def edit_table(folder: Path, old: str, new: str) -> None:
    path = folder / "sequences.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def edit_motion(folder: Path, file: str, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    with np.load(folder / file) as archive:
        motions = dict(archive)
    change(motions)
    np.savez(folder / file, **motions)


def read_all(folder: Path) -> list[Take]:
    return list(cmu_mocap.read_takes(folder))


def refuses(folder: Path, *parts: str) -> Any:
    """That a UserError of one line names `folder`'s file and says the rest."""
    return pytest.raises(UserError, match="^" + re.escape(str(folder) + "/") + ".*".join(parts) + r"[^\n]*\Z")


def test_the_tiny_archive_is_read_in_the_order_of_its_table(tiny_raw):
    names = [take.name for take in read_all(tiny_raw / "cmu_mocap")]
    lines = (tiny_raw / "cmu_mocap" / "sequences.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert names == [line.split(",")[0] for line in lines]


def test_an_unknown_person_is_called_so(takes):
    assert takes["test_jumping_1"].subject == "li-unknown"
    assert takes["test_soccer_1"].subject == "li-11"


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("sequences.csv", "expected the table of sequences, found FileNotFoundError"),
        ("skeletons.json", "expected the skeletons li and daz, found FileNotFoundError"),
        ("li_walking.npz", "expected a whole npz archive, found no such file"),
    ],
)
def test_a_missing_file_is_named(file, found, own_raw):
    folder = own_raw / "cmu_mocap"
    (folder / file).unlink()
    with refuses(folder, file + ": ", found):
        read_all(folder)


@pytest.mark.parametrize("bytes_left", [0, 1000, -100])
def test_a_truncated_archive_is_named(bytes_left, own_raw):
    path = own_raw / "cmu_mocap" / "li_walking.npz"
    path.write_bytes(path.read_bytes()[:bytes_left])
    with refuses(path.parent, "li_walking.npz: expected a whole npz archive, found "):
        read_all(path.parent)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_with_flipped_bytes_is_named(save, own_raw):
    path = own_raw / "cmu_mocap" / "daz_martial.npz"
    with np.load(path) as archive:
        save(path, **dict(archive))
    content = bytearray(path.read_bytes())
    content[1000:1400] = bytes(255 - byte for byte in content[1000:1400])
    path.write_bytes(content)
    with refuses(path.parent, "daz_martial.npz: expected a whole npz archive, found "):
        read_all(path.parent)


def test_a_pickle_in_an_archive_is_not_opened(own_raw):
    folder = own_raw / "cmu_mocap"

    def pickle(motions: dict[str, np.ndarray]) -> None:
        motions["martial_03"] = np.array([{"a": 1}], dtype=object)

    edit_motion(folder, "daz_martial.npz", pickle)
    with refuses(folder, r"daz_martial.npz: 'martial_03': expected float32 \(40, 132\), found object"):
        read_all(folder)


def test_a_missing_array_is_named(own_raw):
    folder = own_raw / "cmu_mocap"
    edit_motion(folder, "daz_martial.npz", lambda motions: motions.pop("martial_08"))
    with refuses(folder, "daz_martial.npz: expected an array 'martial_08', found none of that name"):
        read_all(folder)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda motion: motion[:-1], r"float32 \(39, 132\)"),
        (lambda motion: motion[:, :-3], r"float32 \(40, 129\)"),
        (lambda motion: motion[0], r"float32 \(132,\)"),
        (lambda motion: motion.astype(np.float64), r"float64 \(40, 132\)"),
    ],
)
def test_an_array_of_another_shape_or_type_is_named(change, found, own_raw):
    folder = own_raw / "cmu_mocap"
    edit_motion(folder, "daz_martial.npz", lambda m: m.update(martial_03=change(m["martial_03"])))
    with refuses(folder, r"daz_martial.npz: 'martial_03': expected float32 \(40, 132\), found ", found):
        read_all(folder)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_named_with_its_row(number, own_raw):
    folder = own_raw / "cmu_mocap"

    def spoil(motions: dict[str, np.ndarray]) -> None:
        motions["train_walking_1"][17, 5] = number

    edit_motion(folder, "li_walking.npz", spoil)
    with refuses(folder, "li_walking.npz: 'train_walking_1': expected finite numbers, found NaN .* in row 17"):
        read_all(folder)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("npz,daz,", "npz,dax,", "expected subset li or daz and split train or test, found subset 'dax'"),
        (",test,35,", ",dev,35,", "expected subset li or daz and split .*, found subset 'li', split 'dev'"),
        ("60,40,1.0376", "60,40,tall", "body_scale: expected a number over 0, found 'tall'"),
        ("60,40,1.0376", "60,40,nan", "body_scale: expected a number over 0, found 'nan'"),
        ("60,40,1.0376", "60,40,-1", "body_scale: expected a number over 0, found '-1'"),
        ("60,40,1.0376", "0,40,1", "fps: expected a number over 0, found '0'"),
        ("60,40,1.0376", "60,40.5,1", "frames: expected a number over 0, found '40.5'"),
        ("60,40,1.0376", "60,0,1", "frames: expected a number over 0, found '0'"),
        ("60,40,1.0376,0", "60,40,1,inf", "floor_mm: expected a number, found 'inf'"),
        ("60,40,1.0376,0", "60,40", "expected 10 values, found 8"),
        ("60,40,1.0376,0", "60,40,1,0,0", "expected 10 values, found 11"),
    ],
)
def test_a_bad_line_of_the_table_is_named(old, new, found, own_raw):
    folder = own_raw / "cmu_mocap"
    edit_table(folder, old, new)
    with refuses(folder, r"sequences.csv: line \d: ", found):
        read_all(folder)


def test_a_column_of_another_name_is_refused(own_raw):
    folder = own_raw / "cmu_mocap"
    edit_table(folder, "body_scale", "bodyscale")
    with refuses(folder, "sequences.csv: expected the columns name, "):
        read_all(folder)


@pytest.mark.parametrize(("lines", "found"), [(0, "expected the columns "), (1, "expected one line per sequence, ")])
def test_a_table_without_sequences_is_refused(lines, found, own_raw):
    path = own_raw / "cmu_mocap" / "sequences.csv"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]), encoding="utf-8")
    with refuses(path.parent, "sequences.csv: ", found):
        read_all(path.parent)


def test_a_table_that_is_not_text_is_refused(own_raw):
    path = own_raw / "cmu_mocap" / "sequences.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with refuses(path.parent, "sequences.csv: expected the table of sequences, found UnicodeDecodeError"):
        read_all(path.parent)


@pytest.mark.parametrize(
    "change",
    [
        lambda skeletons: skeletons.pop("daz"),
        lambda skeletons: skeletons["li"].pop("parents"),
        lambda skeletons: skeletons["li"].pop("corrected_offsets"),
        lambda skeletons: skeletons["daz"].pop("unit_mm"),
        lambda skeletons: skeletons["daz"].pop("channels"),
        lambda skeletons: skeletons["li"]["offsets"].pop(),
        lambda skeletons: skeletons["li"]["names"].pop(),
        lambda skeletons: skeletons["li"]["names"].__setitem__(3, skeletons["li"]["names"][2]),
        lambda skeletons: skeletons["daz"]["names"].__setitem__(50, "rfoot"),
        lambda skeletons: skeletons["li"]["parents"].__setitem__(5, 5),
        lambda skeletons: skeletons["daz"]["parents"].__setitem__(5, -1),
        lambda skeletons: skeletons["daz"]["parents"].__setitem__(5, "4"),
        lambda skeletons: skeletons["daz"]["parents"].append(0),
        lambda skeletons: skeletons["daz"]["channels"].pop(),
        lambda skeletons: skeletons["daz"]["channels"][4].__setitem__(0, "Wrotation"),
        lambda skeletons: skeletons["daz"]["channels"][4].__setitem__(0, ""),
        lambda skeletons: skeletons["daz"]["offsets"][0].__setitem__(0, math.nan),
        lambda skeletons: skeletons["li"]["corrected_offsets"].update(Neck=[1.0, 2.0]),
        lambda skeletons: skeletons["li"].update(unit_mm=0),
    ],
)
def test_a_damaged_skeleton_is_refused(change, own_raw):
    path = own_raw / "cmu_mocap" / "skeletons.json"
    skeletons = json.loads(path.read_text(encoding="utf-8"))
    change(skeletons)
    path.write_text(json.dumps(skeletons), encoding="utf-8")
    with refuses(path.parent, "skeletons.json: expected the skeletons li and daz, found (KeyError|ValueError): "):
        read_all(path.parent)


def prepare_tiny(raw_folder: Path, **changes: Any) -> Any:
    options: dict[str, Any] = {"keypoints": "gt", "rate_hz": 30.0, "validation_takes": ()}
    return cmu_mocap.prepare(raw_folder / "cmu_mocap", **(options | changes))


def test_validation_takes_leave_the_train_split(tiny_raw):
    prepared = prepare_tiny(tiny_raw, validation_takes=("train_walking_3", "martial_03"))
    assert {split: {take.name for take in takes} for split, takes in prepared.takes.items()} == {
        "train": {"train_walking_1", "train_walking_2"},
        "validation": {"train_walking_3", "martial_03"},
        "test": {"test_walking_1", "martial_08"},
    }


@pytest.mark.parametrize("rate_hz", [30.0, 20.0])
def test_takes_have_the_wanted_rate(rate_hz, tiny_raw):
    raw = {take.name: take for take in cmu_mocap.read_takes(tiny_raw / "cmu_mocap")}
    for takes in prepare_tiny(tiny_raw, rate_hz=rate_hz).takes.values():
        for take in takes:
            assert take.rate_hz == rate_hz
            every = round(raw[take.name].rate_hz / rate_hz)
            expected_m = raw[take.name].joints_world_m[::every].astype(np.float32)
            np.testing.assert_array_equal(take.joints_world_m, expected_m)


@pytest.mark.parametrize("name", ["walking", "test_walking_1"])
def test_a_validation_take_must_be_one_of_the_train_split(name, tiny_raw):
    with pytest.raises(UserError, match=f"validation_takes: expected takes of the train split, found '{name}'"):
        prepare_tiny(tiny_raw, validation_takes=("train_walking_3", name))


def test_unknown_keypoints_are_refused(tiny_raw):
    with pytest.raises(UserError, match="keypoints: expected one of gt, det for dataset cmu, found 'cpn'"):
        prepare_tiny(tiny_raw, keypoints="cpn")
