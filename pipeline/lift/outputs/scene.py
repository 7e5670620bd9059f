"""Shows lifted people as a page, a film or a strip of pictures, or on the video that they were seen in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipeline.lift.people import FilmedOn, Lifted, LiftedPerson
from pipeline.lift.video.frames import VideoFrame, describe_video, read_frames
from pipeline.system.errors import UserError
from pipeline.visualization.scene import Body, Scene

RATE_TOLERANCE = 0.02  # by which the rate of keypoints and the mean rate that a video states may differ
Picture = UInt8[np.ndarray, "H W 3"]


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


def write_overlay_film(path: Path, lifted: Lifted) -> None:
    """Writes a film (.mp4) of people on their video. Raises UserError if that is not the one they were seen in."""
    from pipeline.visualization.overlay import write_overlay

    assert lifted.filmed_on is not None, "checked before lifting"
    camera = replace(lifted.camera, camera_from_world=lifted.world_from_camera.inverse())
    pictures = choose_pictures(read_frames(lifted.filmed_on.video), lifted, lifted.filmed_on)
    write_overlay(path, build_scene(lifted), camera, pictures)


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


def check_video(filmed_on: FilmedOn, *, rate_hz: float) -> None:
    """Raises UserError if the file is no video, or one of clearly another rate than the keypoints'."""
    about = describe_video(filmed_on.video)
    video_hz = about.nominal_rate_hz
    if video_hz is not None and abs(video_hz / rate_hz - 1) > RATE_TOLERANCE:
        found = f"one of {video_hz:g} Hz; --rate-hz {video_hz:g} if the keypoints are of each of its frames"
        raise UserError(f"{filmed_on.video}: expected the video of keypoints at {rate_hz:g} Hz, found {found}")


def choose_pictures(frames: Iterable[VideoFrame], lifted: Lifted, filmed_on: FilmedOn) -> Iterator[Picture]:
    """Yields the picture of each lifted frame.

    That is the video's frame of the same number, or the one nearest to it in time: lifted frames follow each other
    evenly, those of a phone do not. Raises UserError if pictures have another shape than the image of the keypoints,
    or there are more or fewer of them than there are numbered frames.
    """
    where = filmed_on.video
    video = _check_shapes(frames, lifted.image_size_px, where=where)
    pictures = (frame.picture for frame in video) if filmed_on.numbered else _by_time(video, lifted.rate_hz)
    count = 0
    for picture in pictures:
        count += 1
        if count <= lifted.frames:
            yield picture
        elif not filmed_on.numbered:
            return
    if count != lifted.frames and (filmed_on.numbered or count < lifted.frames):
        raise UserError(f"{where}: expected a video of {lifted.frames} frames, as many as were lifted, found {count}")


def _check_shapes(frames: Iterable[VideoFrame], size_px: tuple[int, int], *, where: Path) -> Iterator[VideoFrame]:
    width, height = size_px
    for frame in frames:
        down, across = frame.picture.shape[:2]
        if abs(across * height - down * width) > max(width, height):  # over a pixel off
            raise UserError(f"{where}: expected pictures in the shape of {width}x{height}, found {across}x{down}")
        yield frame


def _by_time(frames: Iterable[VideoFrame], rate_hz: float) -> Iterator[Picture]:
    """Yields for each instant, 1 / rate_hz apart, the picture nearest to it, until half of that after the last."""
    number, before = 0, None
    for frame in frames:
        while before is not None and number / rate_hz < (before.time_s + frame.time_s) / 2:
            yield before.picture
            number += 1
        before = frame
    while before is not None and number / rate_hz <= before.time_s + 1 / rate_hz:
        yield before.picture
        number += 1
