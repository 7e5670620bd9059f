"""Layouts of detectors become Human3.6M's joints without losing left, right or place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.lift.layouts import DERIVED, LAYOUTS, convert_to_h36m17
from pipeline.lift.people import Track
from pipeline.poses.skeleton import H36M_17
from tests.fixtures.keypoint_files import convert_layout
from tests.fixtures.lifting import track_of, walker_keypoints

LIMBS = [name for name in H36M_17.joints if name[0] in "LR"]


def make_track(layout: str, frames: int = 9) -> Track:
    keypoints = convert_layout(walker_keypoints(frames, jitter_px=3.0), layout)
    return Track("0", layout, 0, keypoints[..., :2], keypoints[..., 2])


def test_all_layouts_named_are_there():
    named = {"h36m17", "coco17", "body25", "openpose18", "halpe26", "mpii16", "mediapipe33", "humaneva15", "3dhp17"}
    named |= {"body25b", "3dhp17_public", "crowdpose14", "aic14"}
    assert set(LAYOUTS) == named
    assert set(DERIVED) == named - {"h36m17"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_a_tree_with_two_sides(layout):
    skeleton = LAYOUTS[layout]
    assert len(set(skeleton.joints)) == len(skeleton.joints) == len(skeleton.parents)
    assert skeleton.parents.count(-1) == 1
    for joint, name in enumerate(skeleton.joints):
        if joint in skeleton.left:
            assert skeleton.joints[skeleton.mirrored[joint]] == "R" + name[1:]
        path = [joint]
        while (parent := skeleton.parents[path[-1]]) >= 0:
            assert parent not in path
            path.append(parent)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_limbs_keep_their_pixels_and_their_confidence(layout):
    original, found = track_of(walker_keypoints(9, jitter_px=3.0)), convert_to_h36m17(make_track(layout))
    for name in LIMBS:
        joint = H36M_17.joints.index(name)
        np.testing.assert_array_equal(found.pixels[:, joint], original.pixels[:, joint])
        np.testing.assert_array_equal(found.confidence[:, joint], original.confidence[:, joint])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mirrored_person_gives_the_mirrored_joints(layout):
    track, mirrored = make_track(layout), list(LAYOUTS[layout].mirrored)
    other = replace(track, pixels=track.pixels[:, mirrored] * [-1, 1], confidence=track.confidence[:, mirrored])
    found = convert_to_h36m17(other)
    np.testing.assert_allclose(
        found.pixels[:, H36M_17.mirrored] * [-1, 1], convert_to_h36m17(track).pixels, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_moved_and_scaled_person_gives_the_joints_moved_and_scaled(layout):
    track = make_track(layout)
    found = convert_to_h36m17(replace(track, pixels=2 * track.pixels + [30, -7]))
    np.testing.assert_allclose(found.pixels, 2 * convert_to_h36m17(track).pixels + [30, -7], rtol=0, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_trunk_runs_from_the_hip_up_to_the_head(layout):
    joints = [H36M_17.joints.index(name) for name in ("Hip", "Spine", "Thorax", "Neck/Nose", "Head")]
    heights = convert_to_h36m17(make_track(layout)).pixels[:, joints, 1]
    assert (np.diff(heights, axis=1) < 0).all()  # pixels count downwards


def test_a_face_seen_from_the_side_still_has_a_head():
    track = make_track("coco17")
    track.pixels[:, LAYOUTS["coco17"].joints.index("LEar")] = np.nan
    head = H36M_17.joints.index("Head")
    assert np.isfinite(convert_to_h36m17(track).pixels[:, head]).all()


def test_a_derived_joint_is_unseen_if_what_it_comes_from_is():
    track = make_track("coco17")
    track.pixels[:, LAYOUTS["coco17"].joints.index("LHip")] = np.nan
    found = convert_to_h36m17(track)
    unseen = {name for joint, name in enumerate(H36M_17.joints) if np.isnan(found.pixels[:, joint]).all()}
    assert unseen == {"Hip", "LHip", "Spine"}
    assert not found.confidence[:, H36M_17.joints.index("Hip")].any()
