"""What the licensed datasets have in common: cameras that stood at published places."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.poses.geometry import Camera, RigidTransform, rotation_from_quaternion
from pipeline.system.errors import UserError

# Dataset -> subject -> camera -> its orientation as unit quaternion (w, x, y, z) and its position in mm in the world.
# Human3.6M's are those of the calibration by Ionescu et al. 2014, HumanEva's those of Sigal et al. 2010.
PLACEMENTS: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = json.loads(
    Path(__file__).with_name("camera_placements.json").read_text(encoding="utf-8")
)


def place_cameras(dataset: str, subject: str, lenses: Iterable[Camera]) -> tuple[Camera, ...]:
    """Returns cameras with these lenses where they stood for `subject` of `dataset`, in the order of the lenses.

    Raises UserError for a subject whose cameras were not published.
    """
    if subject not in PLACEMENTS[dataset]:
        known = ", ".join(PLACEMENTS[dataset])
        raise UserError(f"cameras of {dataset}: expected a subject of {known}, found '{subject}'")
    cameras = []
    for lens in lenses:
        placement = PLACEMENTS[dataset][subject][lens.name]
        rotation = rotation_from_quaternion(np.array(placement["world_from_camera_wxyz"]))
        world_from_camera = RigidTransform(rotation, np.array(placement["position_mm"]) / 1000)
        cameras.append(replace(lens, camera_from_world=world_from_camera.inverse()))
    return tuple(cameras)
