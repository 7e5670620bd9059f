"""Human3.6M: four formats of poses give the same clips, keypoints come in three layouts, and what is wrong is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from pipeline.poses.clips import Clip
from pipeline.poses.geometry import screen_from_pixels
from pipeline.poses.skeleton import COCO_17, H36M_17, MPII_16
from pipeline.prepare_data.licensed import human36m, layout_of
from pipeline.prepare_data.licensed import human36m_files as files
from pipeline.prepare_data.licensed.human36m_files import (
    LAYOUTS,
    cameras_of,
    read_keypoints,
    read_poses,
    take_name,
    write_archives,
)
from pipeline.prepare_data.prepared import Dropped
from pipeline.system.archives import read_object_npz
from pipeline.system.errors import UserError
from tests.fixtures import human36m as fixtures
from tests.fixtures.four_stages import four_stages
from tests.fixtures.golden_human36m import GOLDEN, POINT_A, POINT_B

WRITERS: dict[str, Callable[[Path], None]] = {
    "archives": fixtures.write_archives,
    "cdf": fixtures.write_cdf,
    "cdf_mat": fixtures.write_cdf_mat,
    "h5": fixtures.write_h5,
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each format."""
    folders = {}
    for name, write in WRITERS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        write(folders[name])
    return folders


@pytest.fixture
def archives(raw: dict[str, Path], tmp_path: Path) -> Path:
    """Archives that a test may damage."""
    return Path(shutil.copytree(raw["archives"], tmp_path / "h36m"))


def clips_of(folder: Path, keypoints: str = "gt", validation_takes: tuple[str, ...] = ()) -> dict[str, list[Clip]]:
    return human36m.prepare(folder, keypoints=keypoints, validation_takes=validation_takes).splits


def same(splits: dict[str, list[Clip]], others: dict[str, list[Clip]]) -> bool:
    """Bit for bit, in names, cameras and arrays."""
    pairs = [pair for split in splits for pair in zip(splits[split], others[split], strict=True)]
    return all(
        clip.name == other.name
        and clip.camera.name == other.camera.name
        and clip.action == other.action
        and clip.pixels.tobytes() == other.pixels.tobytes()
        and clip.joints_camera_m.tobytes() == other.joints_camera_m.tobytes()
        for clip, other in pairs
    )


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = read_object_npz(path)
    change(content)
    np.savez_compressed(path, **content)


def test_all_formats_of_poses_give_the_same_clips(raw: dict[str, Path], archives: Path) -> None:
    expected = clips_of(raw["cdf"])
    assert {split: len(clips) for split, clips in expected.items()} == {"train": 28, "validation": 0, "test": 24}
    assert same(clips_of(raw["cdf_mat"]), expected)
    assert same(clips_of(raw["h5"]), expected)
    for split, clips in clips_of(archives).items():  # the archive's keypoints were projected in float32
        for clip, projected in zip(clips, expected[split], strict=True):
            assert clip.pixels.dtype == projected.pixels.dtype == np.float32
            np.testing.assert_allclose(clip.pixels, projected.pixels, rtol=0, atol=2e-3)
    (archives / "data_2d_h36m_gt.npz").unlink()
    assert same(clips_of(archives), expected)


@pytest.mark.parametrize(("subject", "camera", "a_camera_m", "a_px", "a_screen", "b_px"), GOLDEN)
def test_a_point_is_where_the_field_sees_it(
    tmp_path: Path,
    subject: str,
    camera: str,
    a_camera_m: tuple[float, ...],
    a_px: tuple[float, ...],
    a_screen: tuple[float, ...],
    b_px: tuple[float, ...],
) -> None:
    pose_m = np.tile(np.array(POINT_A, dtype=np.float32), (1, 32, 1))
    pose_m[:, 1] = POINT_B
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d={subject: {"Walking": pose_m}})
    splits = clips_of(tmp_path)
    (clip,) = [clip for clips in splits.values() for clip in clips if clip.camera.name == camera]
    np.testing.assert_allclose(clip.joints_camera_m[0, 0], a_camera_m, rtol=0, atol=6e-6)
    np.testing.assert_allclose(clip.pixels[0, 0], a_px, rtol=0, atol=1.5e-3)
    np.testing.assert_allclose(clip.pixels[0, 1], b_px, rtol=0, atol=1.5e-3)
    np.testing.assert_allclose(screen_from_pixels(clip.pixels, clip.camera)[0, 0], a_screen, rtol=0, atol=1e-5)


def test_the_32_joints_become_the_17_in_camera_metres(raw: dict[str, Path]) -> None:
    clip = next(clip for clip in clips_of(raw["cdf"])["test"] if clip.name == "S9 Walking 1/60457274/0")
    points = fixtures.points_m("S9", "Walking 1", 22)
    joints_world_m = np.stack([points[name] for name in fixtures.H36M_FROM], axis=1)
    camera = cameras_of("S9")[3]
    np.testing.assert_allclose(clip.joints_camera_m, camera.camera_from_world.apply(joints_world_m), rtol=0, atol=1e-6)
    assert (clip.action, clip.subject, clip.rate_hz, len(clip)) == ("Walking", "S9", 50.0, 22)


def test_subjects_are_split_as_published_and_actions_named_as_in_the_archives(raw: dict[str, Path]) -> None:
    splits = clips_of(raw["cdf"])
    assert {clip.subject for clip in splits["train"]} == {"S1", "S8"}
    assert {clip.subject for clip in splits["test"]} == {"S9", "S11"}
    assert sum(map(len, splits["train"])) == fixtures.TRAIN_FRAMES
    assert sum(map(len, splits["test"])) == fixtures.TEST_FRAMES
    assert {clip.action for clip in splits["test"]} == {"Walking", "SittingDown", "Sitting", "Directions", "WalkDog"}
    assert take_name("TakingPhoto 1") == take_name("Photo_1") == "Photo 1"
    assert take_name("WalkingDog") == "WalkDog"


def test_the_corrupt_take_is_left_out_and_recorded(raw: dict[str, Path]) -> None:
    for kind in ("cdf", "h5"):
        prepared = human36m.prepare(raw[kind], keypoints="gt", validation_takes=())
        assert prepared.excluded_takes == ["S11 Directions"]
        assert "S11 Directions" not in {clip.take for clip in prepared.splits["test"]}
        assert "S11 Directions 1" in {clip.take for clip in prepared.splits["test"]}
        assert Dropped("S11 Directions", "54138969", 10, human36m.NO_VIDEO) in prepared.dropped


def test_validation_takes_leave_the_train_split(raw: dict[str, Path]) -> None:
    splits = clips_of(raw["archives"], validation_takes=("S8 SittingDown",))
    assert {clip.take for clip in splits["validation"]} == {"S8 SittingDown"}
    assert "S8 SittingDown" not in {clip.take for clip in splits["train"]}
    for take in ("S9 Sitting", "S8 Nothing"):
        with pytest.raises(UserError, match=f"validation_takes: expected takes of the train split, found '{take}'"):
            clips_of(raw["archives"], validation_takes=(take,))


def test_keypoints_of_every_layout_are_read(raw: dict[str, Path]) -> None:
    layouts = {"gt": H36M_17, "cpn_ft_h36m_dbb": H36M_17, "detectron_pt_coco": COCO_17, "sh_pt_mpii": MPII_16}
    for keypoints, skeleton in layouts.items():
        prepared = human36m.prepare(raw["archives"], keypoints=keypoints, validation_takes=())
        assert prepared.in_skeleton is skeleton
        assert prepared.out_skeleton is H36M_17
        assert {clip.pixels.shape[1] for clip in prepared.splits["test"]} == {len(skeleton.joints)}
    assert same(clips_of(raw["h5"], "sh_pt_mpii"), clips_of(raw["archives"], "sh_pt_mpii"))  # from folders


def test_mirrored_hourglass_keypoints_exchange_the_same_joint() -> None:
    left = {MPII_16.joints[joint] for joint in MPII_16.left}
    assert left == {"LHip", "LKnee", "LFoot", "LShoulder", "LElbow", "LWrist"}
    for joint, other in enumerate(MPII_16.mirrored):
        if joint != other:
            assert MPII_16.joints[joint][1:] == MPII_16.joints[other][1:]


def test_longer_keypoints_are_cut_to_the_motion_and_unlabelled_subjects_recorded(raw: dict[str, Path]) -> None:
    prepared = human36m.prepare(raw["archives"], keypoints="cpn_ft_h36m_dbb", validation_takes=())
    clip = next(clip for clip in prepared.splits["train"] if clip.take == "S1 Walking")
    assert len(clip.pixels) == 24
    assert clip.pixels.tobytes() == fixtures.detected_px("S1", "Walking", fixtures.H36M_FROM, more=2)[0][:24].tobytes()
    dropped = [entry for entry in prepared.dropped if entry.take in ("S1 Walking", "S3 Walking")]
    assert {(entry.take, entry.frames, entry.reason) for entry in dropped} == {
        ("S1 Walking", 2, human36m.BEYOND_END),
        ("S3 Walking", 9, human36m.WITHOUT_POSES),
    }
    assert len(dropped) == 8


def test_what_is_not_as_published_is_named_take_by_take(raw: dict[str, Path]) -> None:
    differences = human36m.prepare(raw["cdf"], keypoints="gt", validation_takes=()).differences
    assert "S5: expected 30 takes, found none" in differences
    of_s1 = next(line for line in differences if line.startswith("S1:"))
    assert of_s1.startswith("S1: expected 30 takes, found 4: Directions 0 of 2; ")
    assert "; Photo 1 of 2 (Photo); " in of_s1
    assert "Walking" not in of_s1
    of_s11 = next(line for line in differences if line.startswith("S11:"))
    assert of_s11.startswith("S11: expected 29 takes, found 3: Discussion 0 of 2; ")
    assert "test subjects: expected 543344 frames over all cameras, found 352 in 6 takes" in differences
    assert any(line.startswith("train subjects: expected 1559752 frames") for line in differences)


def test_a_whole_dataset_has_no_missing_takes() -> None:
    pose_m = np.zeros((1, 32, 3), dtype=np.float32)
    takes = {f"{action}{number}": pose_m for action in files.ACTIONS for number in ("", " 1")}
    poses = {subject: dict(takes) for subject in files.LABELLED}
    assert list(human36m.missing_takes(poses)) == []
    del poses["S11"]["Directions"]
    assert list(human36m.missing_takes(poses)) == []
    poses["S6"]["Walking 2"] = pose_m
    assert list(human36m.missing_takes(poses)) == [
        "S6: expected 30 takes, found 31: Walking 3 of 2 (Walking, Walking 1, Walking 2)"
    ]


@pytest.mark.parametrize("kind", list(WRITERS))
def test_archives_written_and_read_back_give_the_same_clips_bit_for_bit(
    kind: str, raw: dict[str, Path], tmp_path: Path
) -> None:
    names = {
        "archives": ["gt", "cpn_ft_h36m_dbb", "detectron_pt_coco", "sh_pt_mpii"],
        "h5": ["gt", "sh_pt_mpii"],
    }.get(kind, ["gt"])
    write_archives(raw[kind], tmp_path / "out", keypoints=names)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["data_3d_h36m.npz", *(f"data_2d_h36m_{name}.npz" for name in names)]
    )
    for name in names:
        assert same(clips_of(tmp_path / "out", name), clips_of(raw[kind], name))
        metadata = read_object_npz(tmp_path / "out" / f"data_2d_h36m_{name}.npz")["metadata"]
        if name == "gt":
            assert metadata == fixtures.H36M_METADATA
        if name == "detectron_pt_coco":
            assert metadata == fixtures.COCO_METADATA
    poses = read_object_npz(tmp_path / "out" / "data_3d_h36m.npz")["positions_3d"]
    assert "Directions" not in poses["S11"]
    assert poses["S9"]["Walking 1"].dtype == np.float32
    assert poses["S9"]["Walking 1"].shape == (22, 32, 3)


def test_missing_files_and_those_of_another_dataset_are_refused(archives: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected the poses of Human3\.6M as one of data_3d_h36m\.npz, .*found none"):
        read_poses(tmp_path)
    expected = r"data_2d_h36m_hrnet\.npz: expected keypoints, found no such file; there are gt, cpn_ft_h36m_dbb, det"
    with pytest.raises(UserError, match=expected):
        read_keypoints(archives, "hrnet")
    poses: list[tuple[dict[str, Any], str]] = [
        ({"positions_3d": {"Train/S1": {}}}, r"data_3d_h36m\.npz: expected subjects of S1, S5, .*, found 'Train/S1'"),
        ({"data": {"TS1": 1}}, "expected 'positions_3d' by subject and take, found data"),
        ({"positions_3d": {"S1": []}}, "S1: expected takes by name, found list"),
    ]
    for content, message in poses:
        np.savez(archives / "data_3d_h36m.npz", **content)
        with pytest.raises(UserError, match=message):
            read_poses(archives)
    keypoints: list[tuple[dict[Any, Any], str]] = [
        ({"Train/S1": {}}, r"data_2d_h36m_gt\.npz: expected subjects of S1, .*, found 'Train/S1'"),
        ({"S1": {3: []}}, "S1: expected names of takes, found 3"),
    ]
    for takes, message in keypoints:
        np.savez(archives / "data_2d_h36m_gt.npz", positions_2d=takes, metadata=fixtures.H36M_METADATA)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=message):
            read_keypoints(archives, "gt")


def test_bad_poses_are_named(archives: Path) -> None:
    good = read_object_npz(archives / "data_3d_h36m.npz")["positions_3d"]["S9"]["Walking 1"]
    nan = good.copy()
    nan[11, 3, 1] = np.nan
    cases = {
        ("Walking 1", "expected finite numbers, found NaN or infinity in frame 11"): nan,
        ("Walking 1", r"expected numbers of the shape \(any, 32, 3\), found \(22, 17, 3\)"): good[:, :17],
        ("Walking 1", r"expected joints within 20 m of the origin, found one at \d+ m"): 1000 * good,
        ("Walking 1", "expected numbers of the shape"): "text",
        ("Dancing", "expected an action of Directions, .*, found 'Dancing'"): good,
    }
    for (take, message), pose_m in cases.items():
        np.savez(archives / "data_3d_h36m.npz", positions_3d={"S9": {take: pose_m}})
        with pytest.raises(UserError, match=rf"data_3d_h36m\.npz: S9 {take}: {message}"):
            read_poses(archives)


def test_damaged_pose_files_are_named(raw: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(raw["cdf"], tmp_path / "cdf"))
    path = folder / "S9" / "MyPoseFeatures" / "D3_Positions" / "Walking 1.cdf"
    for content in (path.read_bytes()[:500], b"no CDF"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"Walking 1\.cdf: expected a CDF file with 'Pose', found"):
            read_poses(folder)
    path.unlink()
    photo = folder / "S1" / "MyPoseFeatures" / "D3_Positions" / "Photo.cdf"
    shutil.copy(photo.with_name("TakingPhoto.cdf"), photo)
    with pytest.raises(
        UserError, match=r"TakingPhoto\.cdf: expected one file for each take, found a second of 'Photo'"
    ):
        read_poses(folder)
    photo.unlink()
    shutil.copytree(folder / "S9", folder / "S10")
    with pytest.raises(UserError, match=r"expected a folder of S1, S5, .*, found 'S10'"):
        read_poses(folder)

    scipy.io.savemat(folder / "Sitting.cdf.mat", {"data": np.zeros((5, 95))})
    with pytest.raises(UserError, match=r"Sitting\.cdf\.mat: 'data': expected rows of 96 numbers, found .*\(5, 95\)"):
        files._read_cdf_mat(folder / "Sitting.cdf.mat")
    with h5py.File(folder / "Sitting.h5", "w") as file:
        file["3D_positions"] = np.zeros((15, 96), dtype=np.float32)
    with pytest.raises(UserError, match=r"Sitting\.h5: '3D_positions': expected 96 rows of numbers, found \(15, 96\)"):
        files._read_h5(folder / "Sitting.h5")


def change_keypoints(archives: Path, keypoints: str, change: Callable[[dict[str, Any]], None]) -> None:
    rewrite(archives / f"data_2d_h36m_{keypoints}.npz", lambda content: change(content["positions_2d"]))


def test_bad_keypoints_are_named(archives: Path) -> None:
    name = "cpn_ft_h36m_dbb"
    original = (archives / f"data_2d_h36m_{name}.npz").read_bytes()
    where = rf"data_2d_h36m_{name}\.npz: S9 Walking 1"

    def nan(px: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(px))[:, None, None] == 7, np.nan, px)

    def first(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any]], None]:
        return lambda takes: takes["S9"]["Walking 1"].__setitem__(0, change(takes["S9"]["Walking 1"][0]))

    camera = f"{where}: camera 54138969"
    cases: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
        (lambda takes: takes["S9"].pop("Walking 1"), f"{where}: expected keypoints since there are poses, found no"),
        (lambda takes: takes.pop("S9"), rf"{name}\.npz: S9 .*: expected keypoints since there are poses, found no"),
        (lambda takes: takes["S9"]["Walking 1"].append(0), f"{where}: expected keypoints in 4 cameras, found 5"),
        (lambda takes: takes["S9"].update({"Walking 1": 3}), f"{where}: expected keypoints in 4 cameras, found int"),
        (first(lambda px: px[:-1]), f"{camera}: expected keypoints of all 22 frames of the motion, found 21"),
        (first(nan), f"{camera}: expected finite numbers, found NaN or infinity in frame 7"),
        (first(lambda px: px[:, :16]), rf"{camera}: expected numbers of the shape \(any, 17, 2\), found \(22, 16, 2\)"),
        (first(lambda px: px / 1000), f"{camera}: expected keypoints in an image of 1000 x 1002 pixels"),
        (first(lambda px: px * 0.5), f"{camera}: expected keypoints within 200 pixels of the projected person"),
    ]
    for change, message in cases:
        (archives / f"data_2d_h36m_{name}.npz").write_bytes(original)
        change_keypoints(archives, name, change)
        with pytest.raises(UserError, match=message):
            clips_of(archives, name)


def test_exact_keypoints_that_are_not_of_these_poses_are_refused(archives: Path) -> None:
    def one_frame_late(takes: dict[str, Any]) -> None:
        takes["S9"]["Walking 1"][0] = np.roll(takes["S9"]["Walking 1"][0], 1, axis=0)

    change_keypoints(archives, "gt", one_frame_late)
    expected = r"expected the projection of the poses within 0\.05 pixels, found keypoints \d+\.\d\d pixels off"
    with pytest.raises(UserError, match=rf"gt\.npz: S9 Walking 1: camera 54138969: {expected}"):
        clips_of(archives)


def test_keypoints_of_a_take_without_poses_are_recorded_and_named(archives: Path) -> None:
    def more(takes: dict[str, Any]) -> None:
        takes["S9"]["Walking 7"] = takes["S9"]["Walking 1"]

    change_keypoints(archives, "cpn_ft_h36m_dbb", more)
    prepared = human36m.prepare(archives, keypoints="cpn_ft_h36m_dbb", validation_takes=())
    assert Dropped("S9 Walking 7", "54138969", 22, human36m.WITHOUT_MOTION) in prepared.dropped
    assert f"S9 Walking 7: {human36m.WITHOUT_MOTION}" in prepared.differences


def test_a_missing_camera_of_the_hourglass_folders_is_named(raw: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(raw["h5"], tmp_path / "h5")) / "h36m" / "S9" / "StackedHourglass"
    (folder / "Walking_1.58860488.h5").rename(folder / "Walking_1.12345678.h5")
    with pytest.raises(
        UserError, match=r"Walking_1\.12345678\.h5: expected subjects .* found subject 'S9', camera '123"
    ):
        read_keypoints(tmp_path / "h5", "sh_pt_mpii")
    (folder / "Walking_1.12345678.h5").unlink()
    with pytest.raises(UserError, match="S9 Walking 1: expected camera 58860488, found no file"):
        read_keypoints(tmp_path / "h5", "sh_pt_mpii")


def test_unknown_layouts_are_refused() -> None:
    for metadata, message in [
        (None, "'metadata': expected num_joints and keypoints_symmetry, found none"),
        ({"num_joints": 17}, "'metadata': expected num_joints and keypoints_symmetry, found num_joints"),
        (
            {**fixtures.H36M_METADATA, "num_joints": 16},
            "expected the keypoint layout h36m, coco, mpii, found 16 joints",
        ),
        ({**fixtures.H36M_METADATA, "layout_name": "coco"}, "found 17 joints, left .* called 'coco'"),
        ({**fixtures.H36M_METADATA, "keypoints_symmetry": 3}, "'keypoints_symmetry': expected two lists of joints"),
    ]:
        with pytest.raises(UserError, match=f"x: .*{message}"):
            layout_of(metadata, LAYOUTS, where="x")


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("h36m-gt-f9-poseformer", "cdf"),
        ("h36m-detectron_pt_coco-f9-linear", "archives"),
    ],
)
def test_a_row_goes_through_all_four_stages(row: str, kind: str, raw: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "h36m").symlink_to(raw[kind])
    metrics, table = four_stages(row, tmp_path, raw_folder=tmp_path / "raw")
    protocol = metrics["protocol"]
    assert protocol["scored"] == fixtures.TEST_FRAMES
    assert protocol["excluded_takes"] == ["S11 Directions"]
    assert "S5: expected 30 takes, found none" in protocol["not_as_published"]
    assert sorted(metrics["per_action"]) == ["Directions", "Sitting", "SittingDown", "WalkDog", "Walking"]
    assert sorted(metrics["per_subject"]) == ["S11", "S9"]
    assert set(metrics["per_joint"]) == set(H36M_17.joints)
    assert "| h36m |" in table
    curve = (tmp_path / "checkpoints" / row / "run0" / "history.csv").read_text().splitlines()
    assert curve[1].split(",")[3] == ""  # no validation error: nothing is held out
