"""A walker in closed form as the lifter would give him back, without any model."""

from __future__ import annotations

import numpy as np
from walker import RATE_HZ, camera_at, walker_joints_world_m

from pipeline.geometry import project
from pipeline.people import Lifted, LiftedPerson
from pipeline.skeleton import H36M_17


def lifted_person(frames: int, *, name: str = "person 1", first_frame: int = 0, start: float = 0.0) -> LiftedPerson:
    """The walker in front of the camera of `lifted_walkers`."""
    camera = camera_at(0.5)
    joints_camera_m = camera.camera_from_world.apply(walker_joints_world_m(frames, start=start))
    root_m = joints_camera_m[:, H36M_17.root]
    return LiftedPerson(
        person=name,
        first_frame=first_frame,
        pixels=project(joints_camera_m, camera),
        confidence=np.ones((frames, 17)),
        filled=np.zeros((frames, 17), dtype=bool),
        joints_camera_m=joints_camera_m - root_m[:, None],
        root_camera_m=root_m,
    )


def lifted_walkers(*people: LiftedPerson, frames: int) -> Lifted:
    """A recording of these people, whose camera is known."""
    camera = camera_at(0.5)
    return Lifted(
        source="walk.json",
        frames=frames,
        rate_hz=RATE_HZ,
        image_size_px=(1000, 900),
        in_skeleton=H36M_17,
        out_skeleton=H36M_17,
        camera=camera,
        world_from_camera=camera.camera_from_world.inverse(),
        people=people,
        assumed=("a lens of 50 degrees",),
        card={},
    )
