"""Stage detect: the two-person demo of Pose2Sim -> detections.npz, with MediaPipe's pose landmarker.

Downloads the demo, which lies in the package pose2sim (BSD 3-clause, D. Pagnon and others), and what the landmarker is
made of. The package's clip of one person is not touched, so that something remains that nothing was chosen on.
"""

from __future__ import annotations

import logging
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from experiments.real_video.detections import IMAGE_SIZE_PX, PEOPLE, RATE_HZ, VIEWS, Detections, write_detections
from pipeline.lift.video.mediapipe_model import download, make_detector_model
from pipeline.system.errors import UserError

log = logging.getLogger(__name__)

DEMO_WHEEL = "pose2sim==0.10.49"
DEMO_SHA256 = "403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1"
DEMO = "Pose2Sim/Demo_MultiPerson"
CALIBRATION = f"{DEMO}/calibration/Calib.qca.txt"
# Where each person is in the first frame of each view: left, top, right, bottom in pixels.
FIRST_BOXES_PX = {
    "mover": ((200, 300, 600, 1140), (380, 380, 760, 1140), (440, 380, 830, 1340), (130, 430, 690, 1430)),
    "helper": ((470, 760, 1088, 1770), (0, 600, 380, 1480), (150, 460, 370, 1060), (610, 380, 980, 950)),
}
CROP = 1.3  # side of the square in which a person is looked for again, in sizes of the box around his landmarks
NEAR = 0.1  # of that side: hips that lie farther from those followed are somebody else's
SUBPIXEL = 64  # Qualisys gives lenses in 64ths of a pixel
QUALISYS_AXES = np.diag([1.0, -1.0, -1.0])  # whose cameras look along -z, with y up

Picture = UInt8[np.ndarray, "H W 3"]
Marks = Float[np.ndarray, "33 3"]


def detect(out: Path) -> None:
    """Writes the detections to `out`. Raises UserError if an optional package is missing or a download fails."""
    try:
        import cv2  # noqa: F401
        import mediapipe  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name}: expected the detector for videos, found none: make video") from error
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "pose_landmarker_full.task"
        make_detector_model(model)
        wheel = download(DEMO_WHEEL, folder / "demo", sha256=DEMO_SHA256)
        with zipfile.ZipFile(wheel) as archive:
            calibration = archive.read(CALIBRATION)
            videos = [Path(archive.extract(f"{DEMO}/videos/{view}.mp4", folder)) for view in VIEWS]
        by_view = []
        for view, video in enumerate(videos):
            pictures = read_pictures(video)
            by_view.append([detect_person(pictures, FIRST_BOXES_PX[who][view], model) for who in PEOPLE])
            log.info("%s: %d frames", VIEWS[view], len(pictures))
    followed_px, followed_m, alone_px = (
        np.stack([[found[kind] for found in view] for view in by_view], axis=1) for kind in range(3)
    )
    write_detections(out, Detections(followed_px, followed_m, alone_px, *read_calibration(calibration)))


def read_pictures(video: Path) -> list[Picture]:
    """Returns the frames of a video in RGB."""
    import cv2

    capture = cv2.VideoCapture(str(video))
    pictures: list[Picture] = []
    while True:
        is_read, picture = capture.read()
        if not is_read:
            return pictures
        pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def detect_person(
    pictures: Sequence[Picture], first_box_px: tuple[int, int, int, int], model: Path
) -> tuple[Float[np.ndarray, "F 33 3"], Float[np.ndarray, "F 33 3"], Float[np.ndarray, "F 33 3"]]:
    """Returns a person's landmarks: followed through the video in pixels and in metres, and alone in each picture.

    The person is shown to the landmarker by blackening the first frame outside of the box; then it follows him through
    whole frames, or does not. Alone, he is looked for in a square around those landmarks, where there may be two.
    """
    from mediapipe.tasks.python import vision
    from mediapipe.tasks.python.core.base_options import BaseOptions

    followed_px, followed_m, alone_px = np.full((3, len(pictures), 33, 3), np.nan)
    kinds = [(vision.RunningMode.VIDEO, 1), (vision.RunningMode.IMAGE, 2)]
    video, image = (
        vision.PoseLandmarkerOptions(BaseOptions(model_asset_path=str(model)), mode, num_poses=most)
        for mode, most in kinds
    )
    create = vision.PoseLandmarker.create_from_options
    with create(video) as follower, create(image) as finder:
        for frame, whole in enumerate(pictures):
            shown = whole if frame else _blacken_outside(whole, first_box_px)
            found = follower.detect_for_video(_as_image(shown), round(1000 * frame / RATE_HZ))
            if not found.pose_landmarks:
                continue
            followed_px[frame] = _marks_px(found.pose_landmarks[0], (0, 0), IMAGE_SIZE_PX)
            followed_m[frame] = [[mark.x, mark.y, mark.z] for mark in found.pose_world_landmarks[0]]
            left, top, right, bottom = _square_around(followed_px[frame])
            people = finder.detect(_as_image(whole[top:bottom, left:right])).pose_landmarks
            marks = [_marks_px(person, (left, top), (right - left, bottom - top)) for person in people]
            off_px = [float(np.linalg.norm(_hips(one) - _hips(followed_px[frame]))) for one in marks]
            if marks and min(off_px) < NEAR * (bottom - top):
                alone_px[frame] = marks[int(np.argmin(off_px))]
    return followed_px, followed_m, alone_px


def _as_image(picture: Picture) -> Any:
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))


def _blacken_outside(picture: Picture, box_px: tuple[int, int, int, int]) -> Picture:
    left, top, right, bottom = box_px
    black = np.zeros_like(picture)
    black[top:bottom, left:right] = picture[top:bottom, left:right]
    return black


def _marks_px(person: Any, corner_px: tuple[int, int], size_px: tuple[int, int]) -> Marks:
    """Returns x, y and visibility of landmarks that are shares of a part of the picture."""
    shares = np.array([[mark.x, mark.y, mark.visibility] for mark in person])
    return shares * [*size_px, 1] + [*corner_px, 0]


def _hips(marks_px: Marks) -> Float[np.ndarray, "2"]:
    return marks_px[23:25, :2].mean(0)


def _square_around(marks_px: Marks) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of the square around a person, as far as it lies in the picture."""
    least, most = marks_px[:, :2].min(0), marks_px[:, :2].max(0)
    middle, half = (least + most) / 2, CROP / 2 * float((most - least).max())
    left, top = np.maximum(middle - half, 0).astype(int)
    right, bottom = np.minimum(middle + half, IMAGE_SIZE_PX).astype(int)
    return left, top, right, bottom


def read_calibration(
    text: bytes,
) -> tuple[Float[np.ndarray, "V 3 3"], Float[np.ndarray, "V 5"], Float[np.ndarray, "V 3 3"], Float[np.ndarray, "V 3"]]:
    """Returns matrix and distortion as OpenCV has them, rotation and translation of camera_from_world, of each camera.

    Source: Qualisys Track Manager's calibration files; positions are in mm.
    """
    cameras = []
    for camera in ElementTree.fromstring(text).iter("camera"):
        lens, place = (_numbers_of(camera, name) for name in ("intrinsic", "transform"))
        matrix = np.eye(3)
        matrix[[0, 1], [0, 1]] = lens["focalLengthU"], lens["focalLengthV"]
        matrix[:2, 2] = lens["centerPointU"], lens["centerPointV"]
        matrix[:2] /= SUBPIXEL
        names = [*(f"radialDistortion{n}" for n in (1, 2)), *(f"tangentalDistortion{n}" for n in (1, 2))]
        rotation = QUALISYS_AXES @ [[place[f"r{row}{column}"] for column in (1, 2, 3)] for row in (1, 2, 3)]
        translation_m = -rotation @ [place[axis] / 1000 for axis in "xyz"]
        cameras.append((matrix, np.array([*(lens[name] for name in names), 0.0]), rotation, translation_m))
    matrices, coefficients, rotations, translations_m = (np.stack(part) for part in zip(*cameras, strict=True))
    return matrices, coefficients, rotations, translations_m


def _numbers_of(camera: ElementTree.Element, name: str) -> dict[str, float]:
    element = camera.find(name)
    assert element is not None, f"a {name} of the pinned file"
    return {key: float(value) for key, value in element.attrib.items()}
