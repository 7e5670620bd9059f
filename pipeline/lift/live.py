"""Lifts one person live: from a camera, or a file that stands for one, to a page on this machine, with latencies."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.lift.formats import read_recording, recognise_format
from pipeline.lift.input import make_track, prepare_track
from pipeline.lift.lifter import Lifter
from pipeline.lift.live_page import LivePage
from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.keypoints import settle_keypoints
from pipeline.lift.video.detectors import DETECTORS, detect_people, refuse_missing_detector
from pipeline.lift.video.frames import VideoFrame, read_frames
from pipeline.system.errors import UserError
from pipeline.visualization.scene import WORLD_FROM_LEVEL_CAMERA

log = logging.getLogger(__name__)

GROUND_S = 1.0  # the ground is where the lowest joint was within this time
LONGEST_WAIT_S = 0.5  # for a frame of a file that stands for a camera, however late all of them are
NOBODY: tuple[float, float, float] = (np.nan, np.nan, 0.0)
Seen = tuple[float, Float[np.ndarray, "J 3"]]  # when keypoints were seen, and they
Publish = Callable[[dict[str, object]], None]


@dataclass(frozen=True)
class LiveFrame:
    """The keypoints of one person in one frame, NaN if nobody is there, and how long they took to come about.

    `time_s` counts from the first frame; `taken_at` is time.perf_counter() when the frame was there.
    """

    time_s: float
    keypoints: Float[np.ndarray, "J 3"]
    layout: str
    image_size_px: tuple[int, int]
    taken_at: float
    capture_s: float = 0.0
    detect_s: float = 0.0


def lift_live(
    frames: Iterable[LiveFrame], lifter: Lifter, publish: Publish, latencies_s: list[dict[str, float]]
) -> None:
    """Lifts frames as they come and publishes each pose; adds to `latencies_s` how long each stage took for a frame.

    Frames may come at any times: between them the keypoints are interpolated to the model's rate, at which the stream
    runs. The camera is taken as level, and the ground as where the lowest joint was lately.
    """
    step_s = 1 / lifter.rate_hz
    stream, before, tick = None, None, 0
    lowest_m: deque[float] = deque(maxlen=max(1, round(GROUND_S * lifter.rate_hz)))
    for frame in frames:
        began = time.perf_counter()
        if stream is None:
            layout = lifter.settings.skeleton.name
            stream = lifter.stream(layout=layout, image_size=frame.image_size_px, latency=0)
        keypoints = _see(frame, lifter)
        now = frame.time_s, keypoints
        last = int((frame.time_s + 1e-9) / step_s)
        for number in range(tick, last):  # of frames that are late nobody is shown the poses
            stream.add(_interpolate(before, now, number * step_s))
        pose_m = stream.push(_interpolate(before, now, last * step_s)) if last >= tick else None
        before, tick = now, last + 1
        if pose_m is None:  # no tick since the frame before
            continue
        lifted = time.perf_counter()
        world_m = WORLD_FROM_LEVEL_CAMERA.apply(pose_m)
        if np.isfinite(world_m).all():
            lowest_m.append(float(world_m[:, 2].min()))
        world_m = world_m - [0, 0, min(lowest_m, default=0.0)]
        stages = {"capture": frame.capture_s, "detect": frame.detect_s, "lift": lifted - began}
        publish({"time_s": round(frame.time_s, 3), "joints": _plain(world_m, 3), "pixels": _plain(keypoints[:, :2], 1),
                 "image": list(frame.image_size_px),
                 "ms": {stage: round(1000 * value, 1) for stage, value in stages.items()}})  # fmt: skip
        latencies_s.append(stages | {"total": frame.capture_s + time.perf_counter() - frame.taken_at})


def summarize_latencies(latencies_s: Sequence[Mapping[str, float]]) -> str:
    """Returns in lines the median and the 95th percentile of what each stage took."""
    lines = [f"{len(latencies_s)} frames; latency in ms: median, 95th percentile"]
    for stage in latencies_s[0] if latencies_s else ():
        median, high = 1000 * np.percentile([frame[stage] for frame in latencies_s], [50, 95])
        lines.append(f"  {stage:<8}{median:8.1f}{high:8.1f}")
    return "\n".join(lines)


def play_file(path: Path, options: InputOptions) -> Iterator[LiveFrame]:
    """Yields the frames of a video or a keypoint file when a camera would: in real time, without those it is late for.

    Of several people the one seen longest is shown, of a video in each frame the largest. Raises UserError as
    read_recording does.
    """
    if (options.format or recognise_format(path)) == "video":
        model = refuse_missing_detector(path, options.detector, options.detector_model)
        yield from detect_live(_in_real_time(read_frames(path)), options.detector, model)
        return
    recording = read_recording(path, options)
    if recording.image_size_px is None or recording.rate_hz is None:
        missing = "--image-size" if recording.image_size_px is None else "--rate-hz"
        raise UserError(f"{path}: expected {missing}, which the file does not tell, found none")
    track, started = recording.tracks[0], time.perf_counter()
    for number in range(len(track)):
        time_s = number / recording.rate_hz
        if not _wait_until(started + time_s, patience_s=1 / recording.rate_hz):
            continue
        keypoints = np.column_stack([track.pixels[number], track.confidence[number]])
        yield LiveFrame(time_s, keypoints, track.layout, recording.image_size_px, time.perf_counter())


def capture_camera(number: int) -> Iterator[tuple[VideoFrame, float, float]]:
    """Yields pictures of a camera, when each was there and how long it took. Raises UserError if there is no camera."""
    import cv2

    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise UserError(f"--camera: expected the number of a camera, found none that is {number}")
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not those that waited
        started = None
        while camera.grab():
            taken = time.perf_counter()
            started = taken if started is None else started
            is_read, picture = camera.retrieve()
            if not is_read:
                break
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            yield VideoFrame(taken - started, picture), taken, time.perf_counter() - taken
    finally:
        camera.release()


def detect_live(pictures: Iterable[tuple[VideoFrame, float, float]], detector: str, model: Path) -> Iterator[LiveFrame]:
    """Yields the largest person in each picture, as the detector sees him."""
    about: deque[tuple[float, float, float]] = deque()

    def frames() -> Iterator[VideoFrame]:
        for frame, taken_at, capture_s in pictures:
            about.append((taken_at, capture_s, time.perf_counter()))
            yield frame

    for frame, people in detect_people(frames(), detector, model):
        taken_at, capture_s, began = about.popleft()
        height_px, width_px, _ = frame.picture.shape
        largest = max(people, key=lambda joints: float(np.ptp(joints[:, 1])), default=np.tile(NOBODY, (17, 1)))
        found = Detections(DETECTORS[detector].layout if people else "h36m17", {0: [Detection(largest, None)]})
        settled, _ = settle_keypoints(found, InputOptions(), model)
        (person,) = settled.frames[0]
        detect_s = time.perf_counter() - began
        size_px = width_px, height_px
        yield LiveFrame(frame.time_s, person.keypoints, str(settled.layout), size_px, taken_at, capture_s, detect_s)


def _see(frame: LiveFrame, lifter: Lifter) -> Float[np.ndarray, "J 3"]:
    """Returns the keypoints in the model's layout."""
    track = prepare_track(make_track(frame.keypoints[None], layout=frame.layout), lifter.settings)
    return np.column_stack([track.pixels[0], track.confidence[0]])


def _interpolate(before: Seen | None, after: Seen, time_s: float) -> Float[np.ndarray, "J 3"]:
    if before is None or after[0] <= before[0]:
        return after[1]
    share = (time_s - before[0]) / (after[0] - before[0])
    return (1 - share) * before[1] + share * after[1]


def _in_real_time(frames: Iterable[VideoFrame]) -> Iterator[tuple[VideoFrame, float, float]]:
    """Yields pictures as a camera that has begun with the first: when each was there, and how long it took.

    Those that are late are left out, but for one each LONGEST_WAIT_S, where reading itself is too slow.
    """
    started = wanted = None
    asked = time.perf_counter()
    for frame in frames:
        read = time.perf_counter()
        started, wanted = started or read, wanted or read
        if _wait_until(started + frame.time_s, patience_s=0.05) or read - wanted > LONGEST_WAIT_S:
            yield frame, time.perf_counter(), read - asked
            wanted = time.perf_counter()
        asked = time.perf_counter()


def _wait_until(instant: float, *, patience_s: float) -> bool:
    """Waits until time.perf_counter() is at `instant`; returns whether that was not over `patience_s` ago."""
    left_s = instant - time.perf_counter()
    if left_s > 0:
        time.sleep(left_s)
    return left_s > -patience_s


def _plain(values: Float[np.ndarray, "*N"], decimals: int) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), decimals) for value in values.reshape(-1)]


def show_live(frames: Iterable[LiveFrame], lifter: Lifter, *, title: str, port: int) -> str:
    """Shows frames lifted until they end or Ctrl-C, and returns how long each stage took, as text.

    Raises UserError if there are no frames, before a page is shown, or its port is taken.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise UserError(f"{title}: expected frames, found none")
    latencies_s: list[dict[str, float]] = []
    page = LivePage(lifter.card.skeletons, title=title, port=port)
    log.info("live at %s, until Ctrl-C", page.url)
    try:
        with suppress(KeyboardInterrupt):
            lift_live(chain([first], frames), lifter, page.publish, latencies_s)
    finally:
        page.close()
    return summarize_latencies(latencies_s)
