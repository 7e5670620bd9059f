"""Tool lift: a keypoint file or video is read, its people are lifted, and a folder of them is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.lift.formats import read_recording
from pipeline.lift.lifter import Lifter
from pipeline.lift.outputs import DEFAULT_OUTPUTS, check_outputs, write_lifted
from pipeline.lift.people import InputOptions, Lifted, LiftOptions, Recording
from pipeline.system.errors import UserError


def lift_file(
    source: Path,
    out: Path,
    *,
    lifter: Lifter,
    input_options: InputOptions = InputOptions(),
    lift_options: LiftOptions = LiftOptions(),
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
) -> str:
    """Lifts the people in `source`, writes them into the folder `out`, and returns a summary as text.

    Raises UserError, before anything is written, if the options or the input are wrong, nobody can be lifted, or `out`
    holds files that this tool did not write.
    """
    check_outputs(out, outputs)
    if input_options.camera_file is not None and (lift_options.focal_px, lift_options.fov_deg) != (None, None):
        where = input_options.camera_file
        raise UserError(f"{where}: expected a camera or a focal length or field of view, found both")
    recording = read_recording(source, input_options)
    lifted = lifter.lift(recording, lift_options)
    write_lifted(out, lifted, outputs)
    return summarize(lifted, recording, out)


def summarize(lifted: Lifted, recording: Recording, out: Path) -> str:
    """Returns in a few lines who was lifted, at which rate, and what was assumed."""
    rate = f"{lifted.rate_hz:g} Hz"
    if lifted.rate_hz != lifted.card["rate_hz"]:
        rate += f" (brought to the model's {lifted.card['rate_hz']:g} Hz and back)"
    lines = [f"{lifted.source}: {len(lifted.people)} of {len(recording.tracks)} people, {lifted.frames} frames, {rate}"]
    for person in lifted.people:
        in_3d = int(np.isfinite(person.root_camera_m).all(1).sum())
        parts = f"{in_3d} of {len(person)} frames in 3D, {person.filled.mean():.1%} of the keypoints filled in"
        lines.append(f"  person {person.person}: from frame {person.first_frame}, {parts}")
    lines += [f"  {assumption}" for assumption in lifted.assumed]
    return "\n".join([*lines, f"written to {out}"])


def parse_image_size(text: str) -> tuple[int, int]:
    """Returns width and height of "1920x1080". Raises UserError if it is something else."""
    match = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if match is None:
        raise UserError(f"image size: expected WIDTHxHEIGHT in pixels, such as 1920x1080, found '{text}'")
    return int(match[1]), int(match[2])
