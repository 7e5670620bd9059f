"""Folders of motion capture: what ships with the project is of people who move as people do, and what is refused."""

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

from pipeline.mocap.takes import Take
from pipeline.poses.skeleton import H36M_17
from pipeline.prepare_data.amc import read_amc
from pipeline.prepare_data.bvh import read_bvh
from pipeline.prepare_data.motion_capture import read_takes
from pipeline.system.errors import UserError
from tests.fixtures.walker import walker_joints_world_m

HIPS, SHOULDERS = (4, 1), (11, 14)  # left, right


def facing(joints_world_m: np.ndarray) -> np.ndarray:
    """Unit vectors on the floor: a person whose left is at +x faces -y."""
    across_m = joints_world_m[:, HIPS[0]] - joints_world_m[:, HIPS[1]]
    forward = np.cross(across_m, [0.0, 0.0, 1.0])
    return forward / np.linalg.norm(forward, axis=-1, keepdims=True)


def test_what_ships_has_all_takes_and_frames_of_its_tables(takes: dict[str, Take]) -> None:
    counted: dict[tuple[str, str], list[int]] = {}
    for take in takes.values():
        counted.setdefault((take.subset, take.split), []).append(len(take))
    assert {key: (len(frames), sum(frames)) for key, frames in counted.items()} == {
        ("cmu_mocap", "train"): (138, 100_160),
        ("mocap_bodies", "train"): (125, 25_119),
        ("mocap_bodies", "validation"): (23, 5_359),
        ("mocap_bodies", "test"): (49, 15_898),
    }


def test_nobody_is_in_two_splits_and_no_action_calls_itself_unseen_that_training_has(takes: dict[str, Take]) -> None:
    of_subject: dict[str, set[str]] = {}
    for take in takes.values():
        of_subject.setdefault(take.subject, set()).add(take.split)
    assert all(len(splits) == 1 for splits in of_subject.values())
    trained = {take.action for take in takes.values() if take.split == "train"}
    scored = {take.action for take in takes.values() if take.split != "train"}
    seen = {action.removeprefix("seen/") for action in scored if action.startswith("seen/")}
    assert seen - {"walking and running"} <= trained
    assert {action for action in scored if not action.startswith("seen/")} == {
        "unseen/dance", "unseen/gymnastics", "unseen/kicks and sitting", "unseen/swordplay and washing",
    }  # fmt: skip


def test_walkers_move_forwards_with_the_left_on_the_left_and_knees_in_front(takes: dict[str, Take]) -> None:
    walks = [take for take in takes.values() if "walking" in take.action]
    assert len(walks) > 100
    for take in walks:
        joints_m = take.joints_world_m
        velocity_mps = np.diff(joints_m[:, 0], axis=0)[:, :2] * take.rate_hz
        assert (velocity_mps * facing(joints_m)[:-1, :2]).sum() > 0.8 * np.linalg.norm(velocity_mps, axis=-1).sum()
        hip, knee, ankle = (joints_m[:, joint] for joint in (4, 5, 6))
        assert (((knee - (hip + ankle) / 2) * facing(joints_m)).sum(-1) > -0.03).mean() > 0.95, take.name
        across = [joints_m[:, left] - joints_m[:, right] for left, right in (HIPS, SHOULDERS)]
        assert ((across[0] * across[1]).sum(-1) > 0).all(), take.name


def test_bones_of_arms_and_legs_keep_their_length(takes: dict[str, Take]) -> None:
    for take in takes.values():
        for parent, child in H36M_17.bones:
            if H36M_17.joints[child].endswith(("Knee", "Foot", "Elbow", "Wrist")):
                lengths_m = np.linalg.norm(take.joints_world_m[:, child] - take.joints_world_m[:, parent], axis=-1)
                assert np.ptp(lengths_m) < 0.002, (take.name, H36M_17.joints[child])


def test_nobody_is_faster_than_a_kick_or_below_the_floor(takes: dict[str, Take]) -> None:
    for take in takes.values():
        speed_mps = np.linalg.norm(np.diff(take.joints_world_m, axis=0), axis=-1) * take.rate_hz
        assert speed_mps.max() < 13.2, take.name
        assert take.joints_world_m[..., 2].min() > -0.1, take.name


def write_folder(folder: Path, *, skeleton: dict[str, Any], **files: Any) -> Path:
    """A folder with one take called `walk`, of the file that is given."""
    folder.mkdir()
    (folder / "skeleton.json").write_text(json.dumps(skeleton), encoding="utf-8")
    (file,) = files.values() or ("walk.npz",)
    lines = f"name,file,subject,action,split,rate_hz\nwalk,{file},me,walking,train,25\n"
    (folder / "takes.csv").write_text(lines, encoding="utf-8")
    return folder


def test_arrays_in_other_units_axes_orders_and_names_are_the_same_joints(tmp_path: Path) -> None:
    joints_m = walker_joints_world_m(12)
    order = np.random.default_rng(0).permutation(17)
    turned_in = np.stack([joints_m[..., 0], joints_m[..., 2], -joints_m[..., 1]], -1)[:, order] / 0.0254
    names = [f"joint {H36M_17.joints[place]}" for place in order]
    skeleton = {"unit_mm": 25.4, "up": "y", "names": names}
    skeleton["joints"] = {name: [f"joint {name}"] for name in H36M_17.joints}
    skeleton["joints"]["Hip"] = ["joint LHip", "joint RHip"]
    folder = write_folder(tmp_path / "mine", skeleton=skeleton)
    np.savez(folder / "walk.npz", walk=turned_in)
    (take,) = read_takes(folder)
    assert (take.subset, take.subject, take.action, take.split, take.rate_hz) == (
        "mine",
        "me",
        "walking",
        "train",
        25.0,
    )
    np.testing.assert_allclose(take.joints_world_m, joints_m, atol=1e-9)


def test_a_bvh_file_gives_the_joints_of_its_own_rotations(tmp_path: Path) -> None:
    """A figure whose bones all hang straight down from the hip, each 0.2 m long and turned by 90 degrees about z."""
    lines = [
        "HIERARCHY",
        "ROOT J0",
        "{",
        "OFFSET 0 0 0",
        "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation",
    ]
    for number in range(1, 17):
        lines += [f"JOINT J{number}", "{", "OFFSET 0 -20 0", "CHANNELS 3 Zrotation Xrotation Yrotation"]
    lines += ["End Site", "{", "OFFSET 0 -20 0", "}", *["}"] * 17, "MOTION", "Frames: 2", "Frame Time: 0.04"]
    still = ["0"] * 48
    lines += [" ".join(["10", "20", "30", "0", "0", "0", *still]), " ".join(["10", "20", "30", "90", "0", "0", *still])]
    joints = {name: [f"J{place}"] for place, name in enumerate(H36M_17.joints)} | {"Head": ["J16_end"]}
    joints |= {"LKnee": ["J2"], "LHip": ["J0"], "LFoot": ["J4"], "Spine": ["J1"], "Thorax": ["J2"]}
    folder = write_folder(tmp_path / "bvh", skeleton={"unit_mm": 10, "up": "y", "joints": joints}, file="walk.bvh")
    (folder / "walk.bvh").write_text("\n".join(lines), encoding="utf-8")
    (take,) = read_takes(folder)
    hip_m = [0.1, -0.3, 0.2]
    np.testing.assert_allclose(take.joints_world_m[:, 0], [hip_m, hip_m], atol=1e-6)
    hanging, sideways = take.joints_world_m[:, 10] - hip_m  # 17 bones
    np.testing.assert_allclose(hanging, [0, 0, -3.4], atol=1e-5)
    np.testing.assert_allclose(sideways, [3.4, 0, 0], atol=1e-5)


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 90 0
  CHANNELS 6 Zrotation Xrotation Yrotation Zposition Xposition Yposition
  JOINT Left Leg {
    OFFSET 0 -10 0
    CHANNELS 2 Yposition Xrotation
    End Site { OFFSET 0 -5 0 } } }
MOTION
Frames: 2
Frame Time: 0.04
0 0 0 3 1 2 -10 0
90 0 90 3 1 2 -20 90

"""


def test_a_bvh_file_may_have_any_channels_of_any_joint_in_any_order(tmp_path: Path) -> None:
    """The hips turn about z, then about the y that has turned with them; the leg grows and bends by 90 degrees."""
    (tmp_path / "walk.bvh").write_text(BVH, encoding="utf-8")
    rate_hz, joints = read_bvh(tmp_path / "walk.bvh")
    assert rate_hz == pytest.approx(25)
    assert list(joints) == ["Hips", "Left Leg", "Left Leg_end"]
    still, turned = (np.stack([joint[frame] for joint in joints.values()]) for frame in range(2))
    np.testing.assert_allclose(still, [[1, 2, 3], [1, -8, 3], [1, -13, 3]], atol=1e-9)
    np.testing.assert_allclose(turned, [[1, 2, 3], [21, 2, 3], [21, -3, 3]], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("90 0 90 3 1 2 -20 90", ""), "8 numbers for 2 frames of 8 channels"),  # cut off between two lines
        (("-20 90", "-20"), "15 numbers for 2 frames of 8 channels"),  # cut off within a line
        (("-20 90", "-20 90 0"), "17 numbers for 2 frames of 8 channels"),
        (("Frames: 2", "Frames: 0"), "16 numbers for 0 frames of 8 channels"),
        (("Xrotation\n    End", "Wrotation\n    End"), "no OFFSET or unknown CHANNELS of Left Leg"),
        (("OFFSET 0 -5 0 } }", "OFFSET 0 -5 0 }"), "no end of Hips"),
        (("JOINT Left Leg", "JOINT Hips"), "two joints of one name"),
        (("Frames: 2", "2"), "no MOTION with Frames and Frame Time"),
        (("Frame Time: 0.04", "Frame Time: 0"), "a Frame Time of 0 seconds"),
    ],
)
def test_a_bvh_file_that_is_not_whole_is_refused(tmp_path, change, complaint):
    assert BVH.count(change[0]) == 1
    (tmp_path / "walk.bvh").write_text(BVH.replace(*change), encoding="utf-8")
    with pytest.raises(UserError, match=rf"walk\.bvh: expected a whole BVH file, found ValueError: {complaint}"):
        read_bvh(tmp_path / "walk.bvh")


ASF = """# made up
:version 1.10
:units
  mass 1.0
  length 0.5
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name trunk
     direction 0 3 0
     length 4
     axis 0 0 90  XYZ
    dof rx
    limits (-20.0 45.0)
  end
  begin
     id 2
     name arm
     direction 1 0 0
     length 2
     axis 0 0 0  XYZ
    dof rx rz
    limits (-160.0 20.0)
           (-70.0 60.0)
  end
  begin
     id 3
     name nail
     direction 0 0 1
     length 1
     axis 0 0 0  XYZ
  end
:hierarchy
  begin
    root trunk
    trunk arm
    arm nail
  end
"""
AMC = """#!OML:ASF
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 0
trunk 0
arm 0 0
2
root 0 0 0 90 0 90
trunk 0
arm 0 0
3
root 0 0 0 0 0 0
trunk 90
arm 0 90
4
root 0 0 0 0 0 0
trunk 0
arm 90 90
"""


def write_amc(folder: Path, *, asf: str = ASF, amc: str = AMC) -> Path:
    (folder / "01.asf").write_text(asf, encoding="utf-8")
    (folder / "01_02.amc").write_text(amc, encoding="utf-8")
    return folder / "01_02.amc"


def test_an_amc_file_gives_the_ends_of_bones_that_turn_about_their_own_axes(tmp_path: Path) -> None:
    """Lengths come out doubled, as the unit is 0.5. The trunk's x axis is the world's y, as its `axis` says."""
    joints = read_amc(write_amc(tmp_path))
    assert list(joints) == ["root", "trunk", "arm", "nail"]
    rest, turned, twisted, bent = (np.stack([joint[frame] for joint in joints.values()]) for frame in range(4))
    np.testing.assert_allclose(rest, [[2, 4, 6], [2, 12, 6], [6, 12, 6], [6, 12, 8]], atol=1e-9)
    # About x first, then about z: what pointed up points to z and stays, what pointed along x points up.
    np.testing.assert_allclose(turned, [[0, 0, 0], [0, 0, 8], [0, 4, 8], [2, 4, 8]], atol=1e-9)
    # The trunk turns about itself and takes the arm along, which its own turn about z has pointed up before.
    np.testing.assert_allclose(twisted, [[0, 0, 0], [0, 8, 0], [0, 12, 0], [2, 12, 0]], atol=1e-9)
    np.testing.assert_allclose(bent, [[0, 0, 0], [0, 8, 0], [0, 12, 0], [2, 12, 0]], atol=1e-9)


def test_an_amc_file_in_radians_and_other_units_is_the_same_motion(tmp_path: Path) -> None:
    def in_radians(line: str) -> str:
        name, *numbers = line.split()
        moves = 3 if name == "root" else 0
        angles = [str(np.deg2rad(float(number))) for number in numbers[moves:]]
        return " ".join([name, *numbers[:moves], *angles])

    expected = read_amc(write_amc(tmp_path))
    skeleton = ASF.replace("angle deg", "angle rad").replace("axis 0 0 90", f"axis 0 0 {np.pi / 2}")
    lines = [in_radians(line) if " " in line else line for line in AMC.splitlines()]
    found = read_amc(write_amc(tmp_path, asf=skeleton, amc="\n".join(lines)))
    for name, joint in expected.items():
        np.testing.assert_allclose(found[name], joint, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"amc": "1\nroot 1 2 3 0 0 0\ntrunk 0\n"}, "found ValueError: 0 and not 2 numbers for arm in frame 1"),
        ({"amc": AMC.replace("arm 90 90", "arm 90")}, "found ValueError: 1 and not 2 numbers for arm in frame 4"),
        ({"amc": ":DEGREES"}, "found ValueError: no frames"),
        ({"asf": ASF.replace("dof rx rz", "dof rx l")}, "found ValueError: arm moves otherwise than by rx, ry, rz"),
        (
            {"asf": "walk"},
            r"01_02\.amc: expected an AMC file of the skeleton 01\.asf, found ValueError: no :root in 01\.asf",
        ),
    ],
)
def test_an_amc_file_that_does_not_fit_its_skeleton_is_refused(tmp_path, change, complaint):
    with pytest.raises(UserError, match=complaint):
        read_amc(write_amc(tmp_path, **change))


def test_an_amc_file_is_a_take_and_needs_its_skeleton(tmp_path: Path) -> None:
    joints = {name: ["root"] for name in H36M_17.joints}
    joints |= {"LKnee": ["trunk"], "LHip": ["root"], "LFoot": ["arm"], "Spine": ["nail"], "Thorax": ["trunk"]}
    folder = write_folder(tmp_path / "amc", skeleton={"unit_mm": 50, "up": "y", "joints": joints}, file="01_02.amc")
    write_amc(folder)
    (take,) = read_takes(folder)
    np.testing.assert_allclose(take.joints_world_m[0, 0], [0.1, -0.3, 0.2], atol=1e-6)
    (folder / "01.asf").unlink()
    with pytest.raises(
        UserError, match=r"01_02\.amc: expected its skeleton beside it, 01_02\.asf or 01\.asf, found none"
    ):
        list(read_takes(folder))


def change_table(folder: Path, **changes: str) -> None:
    path = folder / "takes.csv"
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row | changes)


def change_skeleton(folder: Path, **changes: Any) -> None:
    path = folder / "skeleton.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def rewrite(folder: Path, joints: Any) -> None:
    np.savez(folder / "walk.npz", walk=joints)


WALK = walker_joints_world_m(5)
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no table": (lambda folder: (folder / "takes.csv").unlink(), r"takes\.csv: expected the table of takes"),
    "no skeleton": (lambda folder: (folder / "skeleton.json").unlink(), r"skeleton\.json: expected how the joints"),
    "no archive": (lambda folder: (folder / "walk.npz").unlink(), r"walk\.npz: expected a whole npz archive"),
    "a bvh that is none": (
        lambda folder: (change_table(folder, file="a.bvh"), (folder / "a.bvh").write_text("MOTION 1 2")),
        r"a\.bvh: expected a whole BVH file",
    ),
    "no such split": (
        lambda folder: change_table(folder, split="dev"),
        r"line 2: split: expected train, .* found 'dev'",
    ),
    "no rate": (
        lambda folder: change_table(folder, rate_hz="fast"),
        r"line 2: rate_hz: expected a number over 0, found",
    ),
    "a bvh of another rate": (
        lambda folder: (change_table(folder, file="a.bvh", rate_hz="30"), (folder / "a.bvh").write_text(BVH)),
        r"a\.bvh: Frame Time: expected 30 frames a second, as takes\.csv says of take walk, found 25; correct",
    ),
    "a subject in two splits": (
        lambda folder: (folder / "takes.csv").write_text(
            "name,file,subject,action,split,rate_hz\n"
            "walk,walk.npz,me,walking,train,25\nrun,walk.npz,me,running,unused,25\nhop,walk.npz,me,hopping,test,25\n"
        ),
        r"line 4: split: expected train, as in the lines before of subject me, found test; nobody may be in two",
    ),
    "a file elsewhere": (lambda folder: change_table(folder, file="../walk.npz"), r"line 2: file: expected an \.npz"),
    "no subject": (lambda folder: change_table(folder, subject=""), r"line 2: subject: expected a name, found none"),
    "no such array": (
        lambda folder: change_table(folder, name="run"),
        r"walk\.npz: 'run': expected an array of joints",
    ),
    "other joints": (lambda folder: rewrite(folder, WALK[:, :16]), r"'walk': expected shape \(frames, 17, 3\), found"),
    "not finite": (lambda folder: rewrite(folder, WALK * [1, 1, math.nan]), r"expected finite numbers, .* in frame 0"),
    "a giant": (
        lambda folder: change_skeleton(folder, unit_mm=10000),
        r"expected 0\.5 to 2\.0 m .* found 1\d(\.\d)? m; unit",
    ),
    "a unit of text": (
        lambda folder: change_skeleton(folder, unit_mm="m"),
        r"skeleton\.json: unit_mm: expected a number",
    ),
    "sideways": (lambda folder: change_skeleton(folder, up="x"), r"skeleton\.json: up: expected 'y' or 'z', found 'x'"),
    "joints left out": (
        lambda folder: change_skeleton(folder, joints={"Hip": ["Hip"]}),
        r"joints: expected each of Hip, ",
    ),
    "a joint that is not there": (
        lambda folder: change_skeleton(folder, joints={name: ["Toe"] for name in H36M_17.joints}),
        r"walk\.npz: take walk: Hip: expected joint 'Toe' of skeleton\.json among Hip, RHip",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", skeleton={"unit_mm": 1000, "up": "z"})
    rewrite(folder, WALK)
    assert len(list(read_takes(folder))) == 1
    change, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(UserError, match=message) as refusal:
        list(read_takes(folder))
    assert re.match(rf"{re.escape(str(folder))}/", str(refusal.value))
