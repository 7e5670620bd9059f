"""Reads keypoints from HDF5: projects and analysis files of SLEAP, and DeepLabCut's tables, which pandas writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
from einops import rearrange

from pipeline.lift.formats.sleap import Content, arrange_analysis, arrange_project
from pipeline.lift.formats.tables import CHANNELS
from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.entries import describe, read_whole
from pipeline.lift.reading.frame_numbers import number_names, refuse_video
from pipeline.system.archives import PlainUnpickler, read_confined
from pipeline.system.errors import UserError

EXPECTED = "a file of SLEAP (.slp or analysis) or DeepLabCut"
AXES = {"tracks": ["track", "xy", "node", "frame"], "point_scores": ["track", "node", "frame"]}  # unless `dims` says
TABLES = ("frames", "instances", "points", "pred_points")  # of a project
HIGHEST_LEVEL = 4  # of DeepLabCut's columns: scorer, individuals, bodyparts, coords


def read_hdf5(path: Path, options: InputOptions) -> Detections:
    """Reads people from an HDF5 file; what is in it tells which of three kinds it is.

    SLEAP's project (.slp), with labels and predictions of one or several videos: a label goes before the prediction
    that it corrects. SLEAP's analysis file: `tracks`, `point_scores` and the names of joints and tracks. DeepLabCut's
    table, in either form that pandas writes. Sources: sleap-io's and pandas' documentation of their files. Raises
    UserError if it is none of these, or a part of it is missing or of another shape.
    """
    content = read_confined(_read_content, path, expected=EXPECTED)
    if "tables" in content:
        return arrange_project(content, path, options.video)
    refuse_video(options.video, where=str(path))
    return arrange_analysis(content, path) if "tracks" in content else _arrange_table(content, path)


def _read_content(path: Path) -> Content:
    """Returns arrays and names that are in the file itself; this and what it calls runs in the child process."""
    with h5py.File(path, "r") as file:
        if "tracks" in file:
            return _read_analysis(file)
        if "instances" in file:
            return _read_project(file)
        tables = [group for group in map(file.get, _own_groups(file)) if "table" in group or "block0_values" in group]
        if len(tables) != 1:
            raise UserError(f"expected {EXPECTED}, found {', '.join(list(file)[:8]) or 'an empty file'}")
        return _read_table(tables[0])


def _own_groups(file: h5py.File) -> list[str]:
    """Returns the groups of the file itself: HDF5 may point to other files."""
    own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    return [name for name in own if isinstance(file[name], h5py.Group)]


def _find_dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """Returns a dataset of the file itself, as `_own_groups`."""
    data = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
        raise UserError(f"expected '{name}' in the file itself, found {', '.join(list(group)[:8])}")
    return data


def _read_numbers(group: h5py.Group, name: str, dimensions: int) -> np.ndarray:
    data = _find_dataset(group, name)
    if data.dtype.kind not in "fiu" or data.ndim != dimensions:
        raise UserError(f"'{name}': expected numbers in {dimensions} dimensions, found {data.dtype} {data.shape}")
    numbers: np.ndarray = data[()]
    return numbers


def _read_texts(group: h5py.Group, name: str) -> list[str]:
    data = _find_dataset(group, name)
    if data.dtype.kind not in "SO" or data.ndim != 1:
        raise UserError(f"'{name}': expected a list of texts, found {data.dtype} {data.shape}")
    return [_decode(text) for text in data[()]]


def _decode(text: object) -> str:
    if not isinstance(text, (bytes, str)):
        raise UserError(f"expected text, found a value of type {type(text).__name__}")
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)


def _read_analysis(file: h5py.File) -> Content:
    found: Content = {"node_names": _read_texts(file, "node_names")}
    if "track_names" in file:
        found["track_names"] = _read_texts(file, "track_names")
    return found | {name: _read_in_order(file, name) for name in AXES if name in file}


def _read_in_order(file: h5py.File, name: str) -> np.ndarray:
    """Returns an array of an analysis file as people, frames, joints and x and y, as far as it has them."""
    axes = AXES[name]
    stated = json.loads(_decode(_find_dataset(file, name).attrs.get("dims", json.dumps(axes))))
    if not isinstance(stated, list) or sorted(map(str, stated)) != sorted(axes):
        raise UserError(f"'{name}': expected the dimensions {', '.join(axes)}, found {stated}")
    order = [axis for axis in ("track", "frame", "node", "xy") if axis in axes]
    return rearrange(_read_numbers(file, name, len(axes)), f"{' '.join(map(str, stated))} -> {' '.join(order)}")


def _read_project(file: h5py.File) -> Content:
    tables = {}
    for name in TABLES:
        data = _find_dataset(file, name)
        if not data.dtype.names or data.ndim != 1:
            raise UserError(f"'{name}': expected a table with named columns, found {data.dtype} {data.shape}")
        rows = data[()]
        tables[name] = {column: rows[column] for column in data.dtype.names}
    if "metadata" not in _own_groups(file) or "json" not in file["metadata"].attrs:
        raise UserError(f"expected 'metadata' with the attribute json, found {', '.join(list(file)[:8])}")
    about = file["metadata"]
    return {
        "tables": tables,
        "metadata": _decode(about.attrs["json"]),
        "format_id": float(about.attrs.get("format_id", 1.0)),
        "videos_json": _read_texts(file, "videos_json"),
        "tracks_json": _read_texts(file, "tracks_json"),
    }


def _read_table(group: h5py.Group) -> Content:
    """Reads the names of `columns`, a number or name for each of the `rows`, and the `values` of a table of pandas.

    It is in pandas' form "table" or "fixed".
    """
    if "table" in group:
        table = _find_dataset(group, "table")
        if {"index", "values_block_0"} != set(table.dtype.names or ()) or "values_block_0_kind" not in table.attrs:
            raise UserError(f"'table': expected an index and one block of values, found {table.dtype}")
        rows = table[()]
        columns = PlainUnpickler(BytesIO(bytes(table.attrs["values_block_0_kind"]))).load()
        return {"columns": columns, "rows": _plain_rows(rows["index"]), "values": rows["values_block_0"]}
    has_levels = "axis1_level0" in group
    index: Sequence[object] = (
        _read_levels(group, "axis1") if has_levels else _plain_rows(_find_dataset(group, "axis1")[()])
    )
    names = _read_levels(group, "block0_items")
    return {"columns": names, "rows": index, "values": _read_numbers(group, "block0_values", 2)}


def _plain_rows(rows: np.ndarray) -> list[object]:
    return [_decode(row) if isinstance(row, bytes) else row for row in rows.tolist()]


def _read_levels(group: h5py.Group, name: str) -> list[tuple[object, ...]]:
    """Returns the names of columns or rows that have several, level by level."""
    count = next(level for level in range(HIGHEST_LEVEL + 1) if f"{name}_level{level}" not in group or level == 4)
    levels = [_plain_rows(_find_dataset(group, f"{name}_level{level}")[()]) for level in range(count)]
    codes = [_read_numbers(group, f"{name}_label{level}", 1) for level in range(count)]
    return [tuple(level[code] for level, code in zip(levels, row, strict=True)) for row in zip(*codes, strict=True)]


def _arrange_table(content: Content, path: Path) -> Detections:
    """Arranges columns by individual, joint and channel; the first of their names, the scorer, is the same in all."""
    columns, values = content["columns"], content["values"]
    lengths = {len(column) if isinstance(column, tuple) else 0 for column in columns}
    if lengths not in ({3}, {4}) or values.shape[1] != len(columns):
        expected = "columns with scorer, individuals if several, bodyparts and coords, as DeepLabCut has them"
        raise UserError(f"{path}: expected {expected}, found {describe(columns[0] if columns else columns)}")
    named = [column for column in columns if isinstance(column, tuple)]
    people = list(dict.fromkeys(str(column[1]) if len(column) == 4 else "" for column in named))
    joints = list(dict.fromkeys(str(column[-2]) for column in named))
    keypoints = np.full((len(values), len(people), len(joints), 3), np.nan)
    keypoints[..., 2] = 1
    for place, column in enumerate(named):
        channel = CHANNELS.get(str(column[-1]).lower())
        if channel is not None:
            person = people.index(str(column[1]) if len(column) == 4 else "")
            keypoints[:, person, joints.index(str(column[-2])), ("x", "y", "confidence").index(channel)] = values[
                :, place
            ]
    frames: dict[int, list[Detection]] = {}
    for number, row in zip(_number_rows(content["rows"], path), keypoints, strict=True):
        seen = [Detection(person, name or None) for name, person in zip(people, row, strict=True)]
        frames.setdefault(number, []).extend(seen)
    return Detections(None, frames, joints=tuple(joints))


def _number_rows(rows: Sequence[object], path: Path) -> list[int]:
    """Returns the frame number of each row: the number that it has, or that in the name of its image."""
    if all(isinstance(row, (int, float)) for row in rows):
        return [read_whole(row, where=f"{path}: index") for row in rows]
    names = ["/".join(map(str, row)) if isinstance(row, tuple) else str(row) for row in rows]
    numbers = number_names(list(dict.fromkeys(names)), where=f"{path}: index", video=None)
    return [numbers[name] for name in names]
