"""Arrays out of raw files: MATLAB's two formats and CDF read without executing anything, shapes and numbers checked."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cdflib
import h5py
import numpy as np
import scipy.io
from jaxtyping import Float32
from scipy.io.matlab import MatReadError

from pipeline.poses.geometry import Camera
from pipeline.system.confined import confined
from pipeline.system.errors import UserError

MAX_RATIO = 200  # of the arrays to the file that they are in, where the arrays are over 64 MiB
READ_ERRORS = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError),
    *(NotImplementedError, AttributeError, AssertionError, MatReadError, struct.error, zlib.error),
)


def read_mat(path: Path, variables: Sequence[str]) -> dict[str, Any]:
    """The named variables of a MATLAB file of version 5 to 7: arrays, cells as arrays of objects.

    Raises UserError if the file is missing, damaged, of version 7.3, or has not all of them, or one is absurdly large.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a MATLAB file, found no such file")
    content: dict[str, Any] = confined(_read_mat, path, variables)
    return content


def _read_mat(path: Path, variables: Sequence[str]) -> dict[str, Any]:
    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
        content = scipy.io.loadmat(path, variable_names=[name for name in variables if name in shapes])
        _check_there(variables, list(shapes), path)  # last: of a file that was cut off, the rest seems not to be there
        found = {name: content[name] for name in variables}
    except READ_ERRORS as error:
        raise UserError(f"{path}: expected a whole MATLAB file of version 5 to 7, found {_reason(error)}") from error
    _check_size(path, sum(_byte_count(array, path) for array in found.values()))
    return found


def _byte_count(value: object, path: Path) -> int:
    """Of numbers, or of a cell of numbers. Raises UserError for what else MATLAB has."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiubcU":
        return value.nbytes
    if type(value) is np.ndarray and value.dtype == object:
        return sum(item.nbytes for item in value.flat if isinstance(item, np.ndarray))
    raise UserError(
        f"{path}: expected numbers and cells of them, found {getattr(value, 'dtype', type(value).__name__)}"
    )


def read_hdf5_mat(path: Path, variables: Sequence[str]) -> dict[str, np.ndarray]:
    """The named variables of a MATLAB file of version 7.3, dimensions in HDF5's order: the reverse of MATLAB's.

    Raises UserError if the file is missing, damaged, not of version 7.3, or has not all of them, or one is absurdly
    large or not an array of numbers in the file itself (HDF5 may point to other files).
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a MATLAB file of version 7.3, found no such file")
    content: dict[str, np.ndarray] = confined(_read_hdf5_mat, path, variables)
    return content


def _read_hdf5_mat(path: Path, variables: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with h5py.File(path, "r") as file:
            links = {name: file.get(name, getlink=True) for name in variables if name in file.keys()}  # noqa: SIM118
            for name, link in links.items():
                if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
                    raise UserError(f"{path}: '{name}': expected an array in the file, found {type(link).__name__}")
            _check_there(variables, list(file.keys()), path)
            for name in variables:
                if file[name].external or file[name].is_virtual or file[name].dtype.kind not in "fiub":
                    raise UserError(f"{path}: '{name}': expected numbers in the file itself, found {file[name].dtype}")
            _check_size(path, sum(file[name].size * file[name].dtype.itemsize for name in variables))
            return {name: file[name][()] for name in variables}
    except READ_ERRORS as error:
        raise UserError(f"{path}: expected a whole MATLAB file of version 7.3, found {_reason(error)}") from error


def read_cdf(path: Path, variable: str) -> np.ndarray:
    """A variable of numbers in a CDF file. Raises UserError if it is not there, damaged or absurdly large."""
    array: np.ndarray = confined(_read_cdf, path, variable)
    return array


def _read_cdf(path: Path, variable: str) -> np.ndarray:
    try:
        array = np.asarray(cdflib.CDF(path).varget(variable))
    except READ_ERRORS as error:
        raise UserError(f"{path}: expected a CDF file with '{variable}', found {_reason(error)}") from error
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: '{variable}': expected numbers, found {array.dtype}")
    _check_size(path, array.nbytes)
    return array


def _check_there(variables: Sequence[str], found: Sequence[str], path: Path) -> None:
    for name in variables:
        if name not in found:
            raise UserError(f"{path}: expected the variable '{name}', found {', '.join(found) or 'none'}")


def _check_size(path: Path, content_bytes: int) -> None:
    packed = path.stat().st_size
    if content_bytes > 64 << 20 and content_bytes > MAX_RATIO * packed:
        raise UserError(f"{path}: expected a file of data, found {packed} bytes that unpack to {content_bytes}")


def numbers(value: object, shape: tuple[int | None, ...], *, where: str) -> Float32[np.ndarray, "..."]:
    """`value` as an array of that shape (None: any length over 0) with finite numbers, rounded to float32.

    Raises UserError, naming `where`, for anything else; a number that is not finite by the first frame that has one.
    """
    array = numbers_or_nan(value, shape, where=where)
    finite = np.isfinite(array).reshape(len(array), -1).all(1)
    if not finite.all():
        frame = int(np.flatnonzero(~finite)[0])
        raise UserError(f"{where}: expected finite numbers, found NaN or infinity in frame {frame}")
    return array


def numbers_or_nan(value: object, shape: tuple[int | None, ...], *, where: str) -> Float32[np.ndarray, "..."]:
    """The same, but numbers may be missing."""
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

    Single keypoints may lie outside. Refused is what lies outside in the median, and what is smaller than a person.
    """
    size = f"an image of {camera.width_px} x {camera.height_px} pixels"
    x, y = np.median(pixels, axis=(0, 1))
    if not (0 <= x < camera.width_px and 0 <= y < camera.height_px):
        raise UserError(f"{where}: expected keypoints in {size}, found their median at ({x:.1f}, {y:.1f})")
    height = float(np.ptp(pixels[..., 1]))
    if height < 4:
        raise UserError(
            f"{where}: expected keypoints in {size}, found all of them within {height:.2f} pixels of height"
        )


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
