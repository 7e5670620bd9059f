"""What was lifted, as a scene to look at."""

from __future__ import annotations

import numpy as np

from pipeline.lift.people import Lifted, LiftedPerson
from pipeline.visualization.scene import Body, Scene


def lifted_scene(lifted: Lifted) -> Scene:
    """What was lifted, to look at: every person where he is, with the keypoints that the model saw."""
    count = "1 person" if len(lifted.people) == 1 else f"{len(lifted.people)} people"
    assumed = f" Assumed: {'; '.join(lifted.assumed)}." if lifted.assumed else ""
    return Scene(
        title=lifted.source,
        caption=f"{count}, lifted to 3D at {lifted.rate_hz:g} Hz.{assumed}",
        rate_hz=lifted.rate_hz,
        bodies=tuple(_lifted_body(lifted, person) for person in lifted.people),
        image_size_px=lifted.image_size_px,
    )


def _lifted_body(lifted: Lifted, person: LiftedPerson) -> Body:
    """The person over all frames of the recording, NaN where he is not."""
    own = slice(person.first_frame, person.first_frame + len(person))
    joints_world_m = np.full((lifted.frames, len(lifted.out_skeleton.joints), 3), np.nan)
    joints_world_m[own] = lifted.joints_world_m(person)
    pixels = np.full((lifted.frames, len(lifted.in_skeleton.joints), 2), np.nan)
    pixels[own] = person.pixels
    return Body(
        name=person.person,
        skeleton=lifted.out_skeleton,
        joints_world_m=joints_world_m,
        pixels=pixels,
        in_skeleton=lifted.in_skeleton,
    )
