"""Reads the camera of a recording: from a JSON file beside it, or from the numbers in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.poses.geometry import Camera
from pipeline.system.errors import UserError
from pipeline.system.files import read_json


def read_camera(path: Path, image_size_px: tuple[int, int] | None) -> Camera:
    """Reads the camera of a JSON file: an object with numbers as `parse_camera` takes them, or an about.json of lift.

    `image_size_px` is the recording's; where that is None it is the file's `image_size_px`. Raises UserError if the
    file is not a camera, or neither says the size.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a camera as JSON, found no such file")
    about = read_json(path)
    if not isinstance(about, dict):
        raise UserError(f"{path}: expected an object with a camera's numbers, found {type(about).__name__}")
    size = image_size_px or about.get("image_size_px")
    if not (isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        raise UserError(f"{path}: expected image_size_px in it, or --image-size, found {size}")
    return parse_camera(about.get("camera", about), (size[0], size[1]), where=str(path))


def parse_camera(numbers: Mapping[str, object], image_size_px: tuple[int, int], *, where: str) -> Camera:
    """Returns the camera of a calibration: `focal_px` (1 number or 2), `centre_px`, `radial` and `tangential` if any.

    Or as OpenCV names it, `camera_matrix` (3 x 3) and `dist_coeffs` (k1, k2, p1, p2, k3), whose tangential terms are
    taken for those of Human3.6M's lens model: a few tenths of a pixel, for lenses of |p| < 0.001. Raises UserError,
    naming `where`, if a number is missing, not finite, or the focal length not over 0.
    """
    try:
        if "camera_matrix" in numbers:
            matrix = np.array(numbers["camera_matrix"], dtype=float).reshape(3, 3)
            focal, centre = matrix[[0, 1], [0, 1]], matrix[:2, 2]
            k1, k2, p1, p2, k3 = _numbers(numbers, "dist_coeffs", 5)
            radial, tangential = (k1, k2, k3), (p2, p1)
        else:
            focal = np.broadcast_to(np.array(numbers["focal_px"], dtype=float), (2,))
            centre = np.array(numbers["centre_px"], dtype=float).reshape(2)
            k1, k2, k3 = _numbers(numbers, "radial", 3)
            p1, p2 = _numbers(numbers, "tangential", 2)
            radial, tangential = (k1, k2, k3), (p1, p2)
    except (KeyError, TypeError, ValueError) as error:
        expected = "focal_px and centre_px, or camera_matrix (and dist_coeffs: 5 numbers)"
        raise UserError(f"{where}: expected a camera's {expected}, found {type(error).__name__}: {error}") from error
    if not np.isfinite([*focal, *centre, *radial, *tangential]).all() or not (focal > 0).all():
        raise UserError(f"{where}: expected a focal length over 0 and finite numbers, found {focal} and {centre}")
    (fx, fy), (cx, cy) = map(float, focal), map(float, centre)
    return Camera("calibrated", *image_size_px, (fx, fy), (cx, cy), radial, tangential)


def _numbers(numbers: Mapping[str, object], name: str, count: int) -> list[float]:
    """Returns the `count` numbers of that name, zeros without it."""
    return np.array(numbers.get(name, [0] * count), dtype=float).reshape(count).tolist()
