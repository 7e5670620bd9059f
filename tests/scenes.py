"""Small scenes to look at: a walker, and where asked a faint truth behind him, his keypoints and his error."""

from __future__ import annotations

import numpy as np
from walker import RATE_HZ, camera_at, walker_joints_world_m

from pipeline.geometry import project
from pipeline.people import Body, Scene
from pipeline.skeleton import H36M_17


def walking_scene(frames: int = 40, *, title: str = "a walker", people: int = 1, gap: slice = slice(0, 0)) -> Scene:
    """People in a row who walk in step, seen by a camera; of the first one the truth and the error, NaN in `gap`."""
    true_m = walker_joints_world_m(frames)
    camera = camera_at(0.5)
    bodies = []
    for number in range(people):
        joints_m = true_m + np.array([1.5 * number, 0.0, 0.0])
        joints_m[:, 13] += 0.05  # the left wrist is a little off
        joints_m[gap] = np.nan
        pixels = project(camera.camera_from_world.apply(true_m), camera)
        bodies.append(Body(f"person {number + 1}", H36M_17, joints_m, pixels=pixels, in_skeleton=H36M_17))
    bodies.append(Body("truth", H36M_17, true_m, faint=True))
    error_mm = np.linspace(20.0, 60.0, frames)
    error_mm[gap] = np.nan
    return Scene(title, "A walker in closed form.", RATE_HZ, tuple(bodies), (1000, 900), error_mm)
