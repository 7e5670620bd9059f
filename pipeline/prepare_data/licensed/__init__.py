"""Reads, checks and writes what the licensed datasets share: archives, keypoints of several cameras, clips of a take.

VideoPose3D (Pavllo et al. 2019) made the archives of Human3.6M and HumanEva-I: data_3d_<dataset>.npz with the world
positions of each take and data_2d_<dataset>_<keypoints>.npz with one array of keypoints for each camera.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float32

from pipeline.poses.clips import Clip
from pipeline.poses.geometry import Camera, RigidTransform, rotation_from_quaternion
from pipeline.poses.skeleton import Skeleton
from pipeline.prepare_data.licensed.raw_arrays import check_in_image
from pipeline.prepare_data.licensed.raw_files import Need, RawDataset, RawFiles
from pipeline.prepare_data.prepared import Dropped, Prepared
from pipeline.system.errors import UserError

# Dataset -> subject -> camera -> its orientation as unit quaternion (w, x, y, z) and its position in mm in the world.
# Human3.6M's are those of the calibration by Ionescu et al. 2014, HumanEva's those of Sigal et al. 2010.
PLACEMENTS: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = json.loads(
    Path(__file__).with_name("camera_placements.json").read_text(encoding="utf-8")
)

CameraKeypoints = list[Float32[np.ndarray, "_ _ 2"]]  # (frames, joints, 2) in pixels for each camera


def place_cameras(dataset: str, subject: str, lenses: Iterable[Camera]) -> tuple[Camera, ...]:
    """Returns cameras with these lenses where they stood for `subject` of `dataset`, in the order of the lenses.

    Raises UserError for a subject whose cameras were not published.
    """
    check_known([subject], PLACEMENTS[dataset], where=f"cameras of {dataset}", expected="a subject of")
    cameras = []
    for lens in lenses:
        placement = PLACEMENTS[dataset][subject][lens.name]
        rotation = rotation_from_quaternion(np.array(placement["world_from_camera_wxyz"]))
        world_from_camera = RigidTransform(rotation, np.array(placement["position_mm"]) / 1000)
        cameras.append(replace(lens, camera_from_world=world_from_camera.inverse()))
    return tuple(cameras)


def check_known(names: Iterable[object], known: Iterable[str], *, where: str, expected: str) -> None:
    """Raises UserError for the first name that is not among the known ones, which its text lists after `expected`."""
    known = tuple(known)
    for name in names:
        if name not in known:
            raise UserError(f"{where}: expected {expected} {', '.join(known)}, found '{name}'")


def check_validation_takes(takes: Iterable[str], train_takes: Collection[str], *, dataset: str, expected: str) -> None:
    """Raises UserError for the first take that cannot leave the train split because it is not in it."""
    for take in takes:
        if take not in train_takes:
            raise UserError(f"datasets.{dataset}.validation_takes: expected {expected}, found '{take}'")


def archived_keypoints(folder: Path, prefix: str) -> list[str]:
    """Returns the names of the keypoints that have an archive `prefix`<name>.npz in the folder, sorted."""
    return sorted(path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}*.npz"))


def takes_of_archive(content: Mapping[str, object], key: str, *, path: Path) -> dict[Any, dict[str, object]]:
    """Returns what an archive holds under `key`: by subject or recording, and then by take.

    Raises UserError if it is not laid out like that.
    """
    groups = content.get(key)
    if not isinstance(groups, dict):
        raise UserError(f"{path}: expected '{key}' by subject and take, found {', '.join(content)}")
    for group, takes in groups.items():
        if not isinstance(takes, dict):
            raise UserError(f"{path}: {group}: expected takes by name, found {type(takes).__name__}")
        for take in takes:
            if not isinstance(take, str):
                raise UserError(f"{path}: {group}: expected names of takes, found {take!r}")
    return groups


def layout_of(metadata: object, layouts: Mapping[str, Skeleton], *, where: str) -> Skeleton:
    """Returns the layout that an archive's metadata describe: by name or, if they give none, by its left and right.

    Raises UserError if it is none of `layouts`, or if the name does not fit the number of joints or their sides.
    """
    if not isinstance(metadata, dict) or "num_joints" not in metadata or "keypoints_symmetry" not in metadata:
        found = ", ".join(str(key)[:30] for key in list(metadata)[:40]) if isinstance(metadata, dict) else ""
        raise UserError(f"{where}: 'metadata': expected num_joints and keypoints_symmetry, found {found or 'none'}")
    try:
        left, right = (sorted(int(joint) for joint in side) for side in metadata["keypoints_symmetry"])
        joints = int(metadata["num_joints"])
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: 'keypoints_symmetry': expected two lists of joints, found {error}") from error
    name = metadata.get("layout_name")
    for known, skeleton in layouts.items():
        fits = (joints, left, right) == (len(skeleton.joints), sorted(skeleton.left), sorted(skeleton.right))
        if fits and (name is None or (isinstance(name, str) and name == known)):
            return skeleton
    found = f"{joints} joints, left {left}, right {right}" + ("" if name is None else f" called '{str(name)[:40]}'")
    raise UserError(f"{where}: expected the keypoint layout {', '.join(layouts)}, found {found}")


def metadata_of(skeleton: Skeleton, layouts: Mapping[str, Skeleton]) -> dict[str, object]:
    """Returns the metadata with which an archive describes the layout `skeleton`, as VideoPose3D reads them."""
    return {
        "layout_name": next(name for name, known in layouts.items() if known == skeleton),
        "num_joints": len(skeleton.joints),
        "keypoints_symmetry": [list(skeleton.left), list(skeleton.right)],
    }


def arrays_by_camera(value: object, cameras: Sequence[str], *, where: str) -> Iterator[tuple[str, object]]:
    """Yields the array of each camera with the words that name it in a message.

    Raises UserError if `value` is not a sequence of one array for each camera.
    """
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != len(cameras):
        found = f"{len(value)}" if isinstance(value, (list, tuple, np.ndarray)) else type(value).__name__
        raise UserError(f"{where}: expected keypoints in {len(cameras)} cameras, found {found}")
    for camera, array in zip(cameras, value, strict=True):
        yield f"{where}: camera {camera}", array


def check_keypoints(pixels: CameraKeypoints, cameras: Sequence[Camera], *, frames: int, where: str) -> None:
    """Raises UserError if keypoints end before the motion, which has `frames`, or cannot be pixels of their camera.

    They may go on after the motion has ended.
    """
    for camera, camera_pixels in zip(cameras, pixels, strict=True):
        if len(camera_pixels) < frames:
            expected = f"keypoints of all {frames} frames of the motion"
            raise UserError(f"{where}: camera {camera.name}: expected {expected}, found {len(camera_pixels)}")
        check_in_image(camera_pixels[:frames], camera, where=f"{where}: camera {camera.name}")


def make_clips(
    describe: Callable[..., Clip],
    cameras: Sequence[Camera],
    joints_world_m: Float32[np.ndarray, "F J 3"],
    pixels: CameraKeypoints,
) -> list[Clip]:
    """Returns the clip of a take in each camera: its joints in the camera frame, its keypoints cut to their length.

    `describe` is Clip with everything that the clips of the take share already given.
    """
    motion_m = joints_world_m.astype(np.float64)
    return [
        describe(
            camera=camera,
            pixels=camera_pixels[: len(joints_world_m)],
            joints_camera_m=camera.camera_from_world.apply(motion_m).astype(np.float32),
        )
        for camera, camera_pixels in zip(cameras, pixels, strict=True)
    ]


def drop_frames(take: str, cameras: Iterable[str], frames: Iterable[int], reason: str) -> list[Dropped]:
    """Returns the record of what is left out of a take, for each camera that has any frames of it."""
    return [Dropped(take, camera, count, reason) for camera, count in zip(cameras, frames, strict=True) if count]


def find_differences(prepare: Callable[..., Prepared], keypoints: Iterable[str]) -> list[str]:
    """Returns what is not as the dataset is known to be, prepared with each kind of keypoints; every line once."""
    return list(dict.fromkeys(line for name in keypoints for line in prepare(keypoints=name).differences))


def raw_dataset(name: str, check: Callable[[Path], list[str]]) -> RawDataset:
    """Returns what raw_files.yaml says about the raw files of a dataset, with the function that checks them."""
    entry = yaml.safe_load(Path(__file__).with_name("raw_files.yaml").read_text(encoding="utf-8"))[name]
    needs = [Need(**(need | {"files": tuple(RawFiles(**file) for file in need["files"])})) for need in entry["needs"]]
    return RawDataset(title=entry["title"], folder=name, page=entry["page"], needs=tuple(needs), check=check)


def write_npz(path: Path, **content: Any) -> None:
    """Writes dicts and arrays as a compressed archive of numpy, as other people's code reads it."""
    np.savez_compressed(path, **content)
