"""Reads keypoints from HDF5: what SLEAP exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from einops import rearrange

from pipeline.lift.formats.arrays import split_frames
from pipeline.lift.people import Detections, InputOptions
from pipeline.lift.reading.frame_numbers import refuse_video
from pipeline.system.archives import read_confined
from pipeline.system.errors import UserError


def read_sleap(path: Path, options: InputOptions) -> Detections:
    """Reads the analysis file that SLEAP exports (HDF5): tracks (people, 2, joints, frames), and the joints' names."""
    refuse_video(options.video, where=str(path))
    content = read_confined(_read_sleap, path, expected="an analysis file of SLEAP, with tracks and node_names")
    tracks = rearrange(content["tracks"], "person channel joint frame -> person frame joint channel")
    scores = np.ones(tracks.shape[:3])
    if "point_scores" in content:
        scores = rearrange(content["point_scores"], "person joint frame -> person frame joint")
    if tracks.shape[3] != 2 or scores.shape != tracks.shape[:3] or len(content["node_names"]) != tracks.shape[2]:
        expected = "tracks (people, 2, joints, frames), and point_scores and node_names to match"
        raise UserError(f"{path}: expected {expected}, found {content['tracks'].shape}")
    people = np.concatenate([tracks, np.where(np.isfinite(tracks).all(-1), scores, 0)[..., None]], axis=3)
    return Detections(None, split_frames(list(people)), joints=tuple(content["node_names"]))


def _read_sleap(path: Path) -> dict[str, Any]:
    """Reads the arrays of numbers and the names that are in the file itself: HDF5 may point to other files."""
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        for name, kinds, dimensions in (("tracks", "fiu", 4), ("node_names", "SO", 1), ("point_scores", "fiu", 3)):
            link = file.get(name, getlink=True)
            if link is None and name == "point_scores":
                continue
            data = file[name] if isinstance(link, h5py.HardLink) else None
            if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
                raise UserError(f"expected '{name}' in the file itself, found {', '.join(list(file)[:8])}")
            if data.dtype.kind not in kinds or data.ndim != dimensions:
                raise UserError(f"'{name}': expected {dimensions} dimensions, found {data.dtype} {data.shape}")
            found[name] = data[()] if kinds == "fiu" else [text.decode("utf-8") for text in data[()]]
    return found
