"""Reads the people of a video: its frames, a detector's keypoints in them, and when they were taken."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.frame_numbers import refuse_video
from pipeline.lift.reading.times import Times, find_rate
from pipeline.lift.video.detectors import detect_people, find_detector, find_joints_outside, refuse_missing_detector
from pipeline.lift.video.frames import VideoAbout, VideoFrame, describe_video, read_frames
from pipeline.poses.geometry import Camera
from pipeline.system.errors import UserError

FULL_FRAME_DIAGONAL_MM = float(np.hypot(36, 24))  # over which lenses' "35 mm equivalent" is meant (CIPA DCG-001)
FOCAL_TAG = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
CAPTURE_RATE_TAGS = ("com.android.capture.fps", "com.apple.quicktime.capture-framerate")
REFRESH_S = 0.2


def read_video(path: Path, options: InputOptions) -> Detections:
    """Returns the people of a video, frame by frame, as the detector `options.detector` sees them.

    Time stamps tell when frames were taken, unless `options.rate_hz` states a rate. Raises UserError if the detector or
    its model is missing, the video cannot be read, or an option is stated that a video answers itself.
    """
    refuse_video(options.video, where=str(path))
    layout = find_detector(options.detector).layout
    for name, is_stated in (
        ("--image-size", options.image_size_px is not None), ("--layout", None not in (options.layout, layout)),
        ("--units", options.units is not None), ("--y-up", options.y_up),
        ("--highest-score", options.highest_score is not None),
    ):  # fmt: skip
        if is_stated:
            raise UserError(f"{path}: {name}: expected none with a video, which tells it, found one")
    model = refuse_missing_detector(path, options.detector, options.detector_model)
    about = describe_video(path)
    frames: dict[int, list[Detection]] = {}
    stamps_s, size_px = [], (0, 0)
    with closing(read_frames(path)) as pictures:
        shown = _show_progress(pictures, path.name, about.duration_s)
        for number, (frame, people) in enumerate(detect_people(shown, options.detector, model)):
            frames[number] = [Detection(keypoints, None) for keypoints in people]
            stamps_s.append(frame.time_s)
            size_px = frame.picture.shape[1], frame.picture.shape[0]
    times_s = np.array(stamps_s)
    if (np.diff(times_s) <= 0).any():
        number = int(np.argmax(np.diff(times_s) <= 0)) + 1
        raise UserError(
            f"{path}: frame {number}: expected a time after the frame before, found {times_s[number]:.4f} s"
        )
    rate_hz, is_even, times_note = _settle_rate(times_s, about, options.rate_hz)
    camera, lens_note = _find_lens(about, size_px)
    return Detections(
        layout,
        frames,
        size_px,
        rate_hz,
        camera,
        notes=(*times_note, *lens_note, *_tell_edge(frames, size_px)),
        layout_from="the detector's",
        units_from="as the detector gives them",
        times_s=None if is_even else times_s,
    )


def _show_progress(frames: Iterable[VideoFrame], name: str, duration_s: float | None) -> Iterator[VideoFrame]:
    """Yields the frames, and shows how many there were, how many in a second, and the time left.

    Drawn between two frames alone, as detectors divert what is written while they work.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, auto_refresh=False, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=duration_s, numbers="")
        began_s = shown_s = time.monotonic()
        for number, frame in enumerate(frames):
            yield frame
            now_s = time.monotonic()
            if now_s - shown_s >= REFRESH_S:
                shown_s = now_s
                numbers = f"{number + 1:,} frames, {(number + 1) / (now_s - began_s):.1f} frames/s"
                bar.update(task, completed=frame.time_s, numbers=numbers, refresh=True)


def _tell_edge(frames: Mapping[int, Sequence[Detection]], size_px: tuple[int, int]) -> tuple[str, ...]:
    """Returns in words how much of people the detector guessed beyond the picture, if it did."""
    people = [find_joints_outside(person.keypoints, size_px) for found in frames.values() for person in found]
    share = float(np.mean(people)) if people else 0.0
    told = f"beyond the edge of the picture: {share:.1%} of the joints, guessed by the detector; not used"
    return (told,) if share > 0 else ()


def _settle_rate(
    times_s: Times, about: VideoAbout, stated_hz: float | None
) -> tuple[float | None, bool, tuple[str, ...]]:
    """Returns the rate, whether the frames are at it already, and in words where it is from."""
    found = find_rate(times_s, nominal_hz=about.nominal_rate_hz)
    if stated_hz is not None or found is None:
        return stated_hz, True, () if stated_hz is None else (f"rate: {stated_hz:g} Hz, stated; time stamps not used",)
    rate_hz, is_even = found
    if is_even:
        notes = [f"rate: {rate_hz:g} Hz, by the frames' time stamps"]
    else:
        slowest, fastest = (float(1 / np.diff(times_s).max()), float(1 / np.diff(times_s).min()))
        varies = f"{slowest:.3g} to {fastest:.3g} Hz by the frames' time stamps"
        notes = [f"rate: {varies}; keypoints brought to a constant {rate_hz:g} Hz"]
    captured_hz = next((float(about.tags[tag]) for tag in CAPTURE_RATE_TAGS if tag in about.tags), rate_hz)
    if captured_hz > 1.1 * rate_hz:
        notes.append(
            f"slow motion: taken at {captured_hz:g} Hz, says the camera; --rate-hz {captured_hz:g} lifts it so"
        )
    return rate_hz, is_even, tuple(notes)


def _find_lens(about: VideoAbout, size_px: tuple[int, int]) -> tuple[Camera | None, tuple[str, ...]]:
    """Returns the camera whose focal length the file states, if it does, and says so in words."""
    try:
        focal_mm = float(about.tags[FOCAL_TAG])
    except (KeyError, ValueError):
        return None, ()
    if not 5 < focal_mm < 1000:
        return None, (f"lens: {focal_mm:g} mm in the file is no focal length; not used",)
    width_px, height_px = size_px
    focal_px = focal_mm / FULL_FRAME_DIAGONAL_MM * float(np.hypot(width_px, height_px))
    camera = Camera("video", width_px, height_px, (focal_px, focal_px), (width_px / 2, height_px / 2))
    return camera, (f"lens in the file: {focal_mm:g} mm as in 35 mm film, over the diagonal: {focal_px:.0f} px",)
