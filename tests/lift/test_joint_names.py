"""Names of joints mean the same joint however they are written, and names of images tell frames and videos."""

from __future__ import annotations

import pytest

from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.reading.frame_numbers import number_names
from pipeline.lift.reading.joint_names import find_layout, normalize_name
from pipeline.system.errors import UserError

SPELLINGS = {
    "LFoot": ["left_ankle", "L Ankle", "ankleL", "LFoot", "lAnkle", "LEFT_ANKLE", "Left ankle", "ankle.L"],
    "RShoulder": ["right_shoulder", "RSho", "r_sho", "rshoulder", "ShoulderRight", "RIGHT_SHOULDER"],
    "Hip": ["pelvis", "root", "MidHip", "mid_hip", "Hip (root)", "hip_center"],
    "HeadTop": ["head_top", "top_head", "HeadTop"],
    "LEyeInner": ["LEFT_EYE_INNER", "left_eye_(inner)"],
    "RToe": ["RIGHT_FOOT_INDEX"],
    "Nose": ["nose", "NOSE"],
    "UpperNeck": ["upper_neck", "UpperNeck"],
}


@pytest.mark.parametrize("joint", SPELLINGS)
def test_a_joint_is_known_in_every_spelling(joint):
    assert {normalize_name(name) for name in SPELLINGS[joint]} == {joint}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_found_by_its_own_names_in_any_order(layout):
    names = LAYOUTS[layout].joints[::-1]
    found = find_layout(names, stated=None, where="file")
    assert found is not None
    assert LAYOUTS[found.layout].joints == tuple(names[place] for place in found.columns if place is not None) or (
        {layout, found.layout} in ({"crowdpose14", "aic14"}, {"3dhp17", "3dhp17_public"})  # which have the same joints
    )


def test_the_ankle_goes_before_the_foot_and_other_joints_are_not_used():
    names = ["left_foot", "tail", *(f"{side}_{limb}" for side in ("left", "right")
             for limb in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))]  # fmt: skip
    found = find_layout(names, stated="coco17", where="file")
    assert found is not None
    assert found.columns[LAYOUTS["coco17"].joints.index("LFoot")] == names.index("left_ankle")
    assert found.unused == ("left_foot", "tail")
    assert found.columns[0] is None  # there is no nose


def test_names_of_a_hand_are_no_body():
    with pytest.raises(UserError, match=r"joint names: expected joints such as left_shoulder .*, found thumb1, thumb2"):
        find_layout(["thumb1", "thumb2", "index1"], stated=None, where="file")


NAMES = {
    "a number alone": (["3.jpg", "12.jpg"], [3, 12]),
    "OpenPose": (["walk2_000000000003_keypoints.json", "walk2_000000000010_keypoints.json"], [3, 10]),
    "a camera behind": (["f0001_cam2.png", "f0002_cam2.png"], [1, 2]),
    "a size behind": (["0001_1920x1080.png", "0007_1920x1080.png"], [1, 7]),
    "a folder before": (["take3/img_5.png", "take3/img_6.png"], [5, 6]),
    "Roboflow": (["f_0001_jpg.rf.0a9b.jpg", "f_0002_jpg.rf.77c.jpg"], [1, 2]),
    "milliseconds behind": (["f_0001_0033ms.jpg", "f_0002_0066ms.jpg", "f_0003_0099ms.jpg"], [1, 2, 3]),
    "time beside": (["f1_t0033.png", "f2_t0066.png", "f3_t0099.png"], [1, 2, 3]),
    "no ending": (["walk.0001", "walk.0002"], [1, 2]),
    "one picture": (["photo.jpg"], [0]),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_frame_is_the_number_in_which_names_differ(name):
    names, numbers = NAMES[name]
    assert number_names(names, where="file: image", video=None) == dict(zip(names, numbers, strict=True))


def test_what_else_differs_tells_videos_apart():
    names = [f"cam{camera}/{take}_{frame:03d}.jpg" for camera in (1, 2) for take in "ab" for frame in range(40)]
    with pytest.raises(UserError, match="image: expected one video, found 4: cam1/a, cam1/b, cam2/a, cam2/b; choose"):
        number_names(names, where="file: image", video=None)
    chosen = number_names(names, where="file: image", video="cam2/a")
    assert chosen == {f"cam2/a_{frame:03d}.jpg": frame for frame in range(40)}
    with pytest.raises(UserError, match=r"--video: expected one of 4: .*, found 'cam3'"):
        number_names(names, where="file: image", video="cam3")
