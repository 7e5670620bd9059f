"""Tool lift: a keypoint file or video is read, its people are lifted, and a folder of them is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.lift.formats import read_recording, recognise_format
from pipeline.lift.lifter import Lifter
from pipeline.lift.outputs import DEFAULT_OUTPUTS, check_outputs, write_lifted
from pipeline.lift.outputs.scene import check_video
from pipeline.lift.people import FilmedOn, InputOptions, Lifted, LiftOptions, Recording
from pipeline.lift.video.frames import describe_video
from pipeline.system.errors import UserError, make_printable


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

    The output "overlay" draws them on the frames of `source`, if it is a video, or of `input_options.overlay_on`.

    Raises UserError, before anything is written, if the options or the input are wrong, nobody can be lifted, or `out`
    holds files that this tool did not write.
    """
    check_outputs(out, outputs)
    if input_options.camera_file is not None and (lift_options.focal_px, lift_options.fov_deg) != (None, None):
        where = input_options.camera_file
        raise UserError(f"{where}: expected a camera or a focal length or field of view, found both")
    filmed_on = find_video(source, input_options) if "overlay" in outputs else None
    recording = read_recording(source, input_options)
    if input_options.overlay_on is not None and filmed_on is not None:
        check_video(filmed_on, rate_hz=lifter.rate_hz if recording.rate_hz is None else recording.rate_hz)
    lifted = replace(lifter.lift(recording, lift_options), filmed_on=filmed_on)
    write_lifted(out, lifted, outputs)
    return summarize(lifted, recording, out, min_confidence=lifter.settings.min_confidence)


def find_video(source: Path, options: InputOptions) -> FilmedOn:
    """Returns the video to draw people on. Raises UserError if there is none, or two."""
    overlay_on = options.overlay_on
    is_video = source.is_file() and (options.format or recognise_format(source)) == "video"
    if is_video and overlay_on is not None:
        raise UserError(f"--overlay-on: expected it with keypoints alone, found {overlay_on} beside the video {source}")
    if not is_video and overlay_on is None:
        raise UserError(f"{source}: expected --overlay-on and the video of its keypoints, for the overlay, found none")
    video = source if overlay_on is None else overlay_on
    describe_video(video)
    return FilmedOn(video, numbered=not is_video or options.rate_hz is not None)


def summarize(lifted: Lifted, recording: Recording, out: Path, *, min_confidence: float) -> str:
    """Returns in a few lines who was lifted, at which rate, how the input was read, and what was assumed."""
    rate = f"{lifted.rate_hz:g} Hz"
    if lifted.rate_hz != lifted.card["rate_hz"]:
        rate += f" (brought to the model's {lifted.card['rate_hz']:g} Hz and back)"
    lines = [f"{lifted.source}: {len(lifted.people)} of {len(recording.tracks)} people, {lifted.frames} frames, {rate}"]
    lines += [f"  {line}" for line in recording.reading]
    tracks = {track.person: track for track in recording.tracks}
    for person in lifted.people:
        confidence = tracks[person.person].confidence
        seen, unsure = confidence > 0, (confidence > 0) & (confidence < min_confidence)
        in_3d, gaps = int(np.isfinite(person.root_camera_m).all(1).sum()), int((~seen.any(1)).sum())
        found = f"{seen.mean():.1%} of the joints seen, {person.filled.mean():.1%} of the keypoints filled in"
        where = f"from frame {person.first_frame}, {in_3d} of {len(person)} frames in 3D"
        lines.append(f"  person {person.person}: {where}, {found}")
        if gaps:
            lines.append(f"    not seen in {gaps} frames")
        if unsure.any():
            lines.append(f"    not used: {unsure.mean():.1%} of the joints, under --min-confidence {min_confidence:g}")
        few = int((seen.any(1) & np.isnan(person.joints_camera_m).any((1, 2))).sum())
        if few:
            lines.append(f"    not lifted: {few} frames with less than half of the joints")
    lines += [f"  {assumption}" for assumption in lifted.assumed]
    return "\n".join(map(make_printable, [*lines, f"written to {out}"]))
