"""What the stage detect writes and the others read: keypoints of two people in four views, and the calibration."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.lift.formats.camera import parse_camera
from pipeline.poses.geometry import Camera, RigidTransform
from pipeline.system.errors import UserError
from pipeline.system.files import new_file

PEOPLE = ("mover", "helper")
VIEWS = ("cam01", "cam02", "cam03", "cam04")
IMAGE_SIZE_PX = (1088, 1920)
RATE_HZ = 60.0

Landmarks = Float[np.ndarray, "P V F 33 3"]


@dataclass(frozen=True)
class Detections:
    """Landmarks of MediaPipe for each person, view and frame, NaN where there are none, and the four cameras.

    `followed_px` are x, y and visibility of a person followed through the video, `followed_m` the landmarks that
    MediaPipe calls world: metres about the middle of the hips, camera frame. `alone_px` are those of the same person
    found in each picture by itself. The cameras are OpenCV's matrix and k1, k2, p1, p2, k3, and camera_from_world.
    """

    followed_px: Landmarks
    followed_m: Landmarks
    alone_px: Landmarks
    camera_matrix: Float[np.ndarray, "V 3 3"]
    dist_coeffs: Float[np.ndarray, "V 5"]
    rotation: Float[np.ndarray, "V 3 3"]
    translation_m: Float[np.ndarray, "V 3"]

    @property
    def cameras(self) -> list[Camera]:
        """The cameras, with the lens and the place of the calibration."""
        lenses = zip(VIEWS, self.camera_matrix, self.dist_coeffs, strict=True)
        return [
            parse_camera({"camera_matrix": matrix, "dist_coeffs": coefficients}, IMAGE_SIZE_PX, where=view)
            for view, matrix, coefficients in lenses
        ]

    @property
    def cameras_from_world(self) -> list[RigidTransform]:
        """Where the calibration has the cameras; the world has Z up."""
        return [RigidTransform(*place) for place in zip(self.rotation, self.translation_m, strict=True)]


def write_detections(path: Path, detections: Detections) -> None:
    """Writes the file; pixels are rounded to a tenth and metres to a tenth of a millimetre."""
    arrays = asdict(detections)
    for name in ("followed_px", "alone_px"):
        arrays[name] = np.concatenate([arrays[name][..., :2].round(1), arrays[name][..., 2:].round(3)], axis=-1)
    arrays["followed_m"] = arrays["followed_m"].round(4)
    write_arrays(path, arrays)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed npz, numbers as float32; unlike numpy's, the same bytes for the same arrays."""
    with new_file(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            content = io.BytesIO()
            np.save(content, values if values.dtype == bool else values.astype(np.float32))
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)


def read_arrays(path: Path, *, stage: str) -> dict[str, np.ndarray]:
    """Reads what write_arrays wrote, numbers as float64. Raises UserError, naming the stage, if there is no file."""
    if not path.is_file():
        raise UserError(f"{path}: expected what the stage {stage} writes, found none")
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return {name: values if values.dtype == bool else values.astype(float) for name, values in arrays.items()}


def read_detections(path: Path) -> Detections:
    """Reads the file. Raises UserError if there is none."""
    return Detections(**read_arrays(path, stage="detect"))
