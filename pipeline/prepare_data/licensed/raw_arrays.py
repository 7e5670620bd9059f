"""Arrays out of raw files: MATLAB's two formats and CDF read without executing anything, shapes and numbers checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cdflib
import h5py
import numpy as np
import scipy.io
from jaxtyping import Float32

from pipeline.poses.geometry import Camera
from pipeline.system.archives import read_confined
from pipeline.system.errors import UserError

LOWEST_PERSON_PX = 4  # keypoints within fewer pixels are not of a person: they were scaled to -1..1, say


def read_mat(path: Path, variables: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the named variables of a MATLAB file of version 5 to 7: arrays, cells as arrays of objects.

    Raises UserError if the file is missing, damaged, of version 7.3, or has not all of them, or one is absurdly large.
    """
    expected = "a whole MATLAB file of version 5 to 7"
    return read_confined(_read_mat, path, variables, expected=expected)


def _read_mat(path: Path, variables: Sequence[str]) -> dict[str, np.ndarray]:
    content = scipy.io.loadmat(path, variable_names=variables)
    _check_there(variables, (name for name, *_ in scipy.io.whosmat(path)))
    return {name: content[name] for name in variables}


def read_hdf5_mat(path: Path, variables: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the named variables of a MATLAB file of version 7.3, dimensions in HDF5's order: the reverse of MATLAB's.

    Raises UserError if the file is missing, damaged, not of version 7.3, or has not all of them, or one is absurdly
    large or not an array of numbers in the file itself (HDF5 may point to other files).
    """
    expected = "a whole MATLAB file of version 7.3"
    return read_confined(_read_hdf5_mat, path, variables, expected=expected)


def _read_hdf5_mat(path: Path, variables: Sequence[str]) -> dict[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        _check_there(variables, file.keys())
        return {name: _read_inside(file, name) for name in variables}


def _read_inside(file: h5py.File, name: str) -> np.ndarray:
    """Returns an array of numbers. Raises UserError if the name or the array's data point out of the file."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise UserError(f"'{name}': expected an array in the file, found {type(link).__name__}")
    if file[name].external or file[name].is_virtual or file[name].dtype.kind not in "fiub":
        raise UserError(f"'{name}': expected numbers in the file itself, found {file[name].dtype}")
    return file[name][()]


def read_cdf(path: Path, variable: str) -> np.ndarray:
    """Returns a variable of numbers in a CDF file. Raises UserError if it is missing, damaged or absurdly large."""
    return read_confined(_read_cdf, path, variable, expected=f"a CDF file with '{variable}'")


def _read_cdf(path: Path, variable: str) -> np.ndarray:
    array = np.asarray(cdflib.CDF(path).varget(variable))
    if array.dtype.kind not in "fiu":
        raise UserError(f"'{variable}': expected numbers, found {array.dtype}")
    return array


def _check_there(variables: Sequence[str], found: Iterable[str]) -> None:
    names = list(found)
    for name in variables:
        if name not in names:
            raise UserError(f"expected the variable '{name}', found {', '.join(names) or 'none'}")


def numbers(value: object, shape: tuple[int | None, ...], *, where: str) -> Float32[np.ndarray, "..."]:
    """Returns `value` as float32, an array of that shape (None: any length over 0) with finite numbers.

    Raises UserError, naming `where`, for anything else; a number that is not finite by the first frame that has one.
    """
    array = numbers_or_nan(value, shape, where=where)
    finite = np.isfinite(array).reshape(len(array), -1).all(1)
    if not finite.all():
        frame = int(np.flatnonzero(~finite)[0])
        raise UserError(f"{where}: expected finite numbers, found NaN or infinity in frame {frame}")
    return array


def numbers_or_nan(value: object, shape: tuple[int | None, ...], *, where: str) -> Float32[np.ndarray, "..."]:
    """Returns the same, but numbers may be missing (NaN)."""
    expected = "numbers of the shape (" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        found = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise UserError(f"{where}: expected {expected}, found {found}")
    fits = value.ndim == len(shape) and all(
        came == wanted or (wanted is None and came > 0) for came, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits:
        raise UserError(f"{where}: expected {expected}, found {value.shape}")
    return value.astype(np.float32)


def check_in_image(pixels: Float32[np.ndarray, "F J 2"], camera: Camera, *, where: str) -> None:
    """Raises UserError if the keypoints cannot be pixels of an image of the camera's size.

    Single keypoints may lie outside. Refused are keypoints whose median lies outside, or all within LOWEST_PERSON_PX.
    """
    size = f"an image of {camera.width_px} x {camera.height_px} pixels"
    x, y = np.median(pixels, axis=(0, 1))
    if not (0 <= x < camera.width_px and 0 <= y < camera.height_px):
        raise UserError(f"{where}: expected keypoints in {size}, found their median at ({x:.1f}, {y:.1f})")
    height = float(np.ptp(pixels[..., 1]))
    if height < LOWEST_PERSON_PX:
        raise UserError(
            f"{where}: expected keypoints in {size}, found all of them within {height:.2f} pixels of height"
        )
