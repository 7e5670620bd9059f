"""Shows lifted people as a page, a film or a strip of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.lift.people import Lifted, LiftedPerson
from pipeline.visualization.scene import Body, Scene


def write_page(path: Path, lifted: Lifted) -> None:
    """Writes a page in which the people can be turned and played."""
    from pipeline.visualization.viewer import viewer_page

    scene = build_scene(lifted)
    path.write_text(viewer_page([scene], title=scene.title), encoding="utf-8")


def write_film(path: Path, lifted: Lifted) -> None:
    """Writes a film, .mp4 or .gif."""
    from pipeline.visualization.movie import write_movie

    write_movie(path, build_scene(lifted))


def write_pictures(path: Path, lifted: Lifted) -> None:
    """Writes a strip of pictures as one .png."""
    from pipeline.visualization.movie import write_strip

    write_strip(path, build_scene(lifted))


def build_scene(lifted: Lifted) -> Scene:
    """Returns every person where he is, with the keypoints that the model saw."""
    count = "1 person" if len(lifted.people) == 1 else f"{len(lifted.people)} people"
    assumed = f" Assumed: {'; '.join(lifted.assumed)}." if lifted.assumed else ""
    return Scene(
        title=Path(lifted.source).name,
        caption=f"{count}, lifted to 3D at {lifted.rate_hz:g} Hz.{assumed}",
        rate_hz=lifted.rate_hz,
        bodies=tuple(_build_body(lifted, person) for person in lifted.people),
        image_size_px=lifted.image_size_px,
    )


def _build_body(lifted: Lifted, person: LiftedPerson) -> Body:
    """Returns the person over all frames of the recording, NaN where he is not."""
    present = slice(person.first_frame, person.first_frame + len(person))
    joints_world_m = np.full((lifted.frames, len(lifted.out_skeleton.joints), 3), np.nan)
    joints_world_m[present] = lifted.joints_world_m(person)
    pixels = np.full((lifted.frames, len(lifted.in_skeleton.joints), 2), np.nan)
    pixels[present] = person.pixels
    return Body(
        name=person.person,
        skeleton=lifted.out_skeleton,
        joints_world_m=joints_world_m,
        pixels=pixels,
        in_skeleton=lifted.in_skeleton,
    )
