"""Detects people in the frames of a video with a pose network of Ultralytics, which is an optional package."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.lift.video.frames import People, VideoFrame
from pipeline.system.errors import UserError


def detect_people(frames: Iterable[VideoFrame], model: Path) -> Iterator[tuple[VideoFrame, People]]:
    """Yields each frame with the people in it: pixels and confidence of the joints that the network was trained for.

    Its own thresholds say who is a person. Raises UserError if `model` is no pose network.
    """
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # or it calls pip for what a file seems to need
    from ultralytics import YOLO

    logging.getLogger("ultralytics").setLevel(logging.WARNING)  # which says what it loads
    expected = f"{model}: expected a pose network of Ultralytics"
    network: Any = None
    for frame in frames:
        picture = np.ascontiguousarray(frame.picture[..., ::-1])  # BGR, as it expects arrays
        try:
            network = network or YOLO(model, task="pose", verbose=False)
            (result,) = network.predict(picture, verbose=False)
        except Exception as error:  # of any kind, with what it reads the file with
            raise UserError(f"{expected}, found: {' '.join(str(error).split())}") from error
        if result.keypoints is None:
            raise UserError(f"{expected}, found one for the task '{network.task}'")
        if not result.keypoints.has_visible:
            raise UserError(f"{expected} with confidences, found one without")
        yield frame, list(result.keypoints.data.cpu().numpy().astype(float))
