"""Tool lift: a keypoint file or video -> a folder with people in 3D, written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.lift.lifter import Lifter
from pipeline.lift.model_input import calibrated_camera
from pipeline.lift.outputs.files import about, write_csv, write_npz, write_poses_json
from pipeline.lift.people import Lifted, Recording
from pipeline.poses.geometry import Camera
from pipeline.system.errors import BAD_VALUE, UserError
from pipeline.system.files import new_folder, read_json, write_json

OUTPUTS = ("npz", "json", "csv", "bvh", "glb", "html", "mp4", "gif", "png")
DEFAULT_OUTPUTS = ("npz", "json", "csv", "bvh", "glb", "html")
ABOUT = "about.json"
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


def lift_recording(
    source: Path,
    out: Path,
    *,
    lifter: Lifter,
    file_format: str | None = None,
    layout: str | None = None,
    persons: Sequence[str] | None = None,
    rate_hz: float | None = None,
    image_size_px: tuple[int, int] | None = None,
    focal_px: float | None = None,
    fov_deg: float | None = None,
    camera_file: Path | None = None,
    smooth: str | None = None,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    detector_model: Path | None = None,
) -> str:
    """A summary of what was lifted from `source` and written into the folder `out`, as text.

    Raises UserError, before anything is written, if the options or the input are wrong, nobody can be lifted, or `out`
    holds files that this tool did not write.
    """
    for output in outputs:
        if output not in OUTPUTS:
            raise UserError(f"outputs: expected some of {', '.join(OUTPUTS)}, found '{output}'")
    if camera_file is not None and (focal_px is not None or fov_deg is not None):
        raise UserError(f"{camera_file}: expected a camera or a focal length or field of view, found both")
    check_replaceable(out)
    if source.suffix.lower() in VIDEOS:
        from pipeline.lift.formats.video import detect_in_video

        recording = detect_in_video(source, detector_model=detector_model)
    else:
        from pipeline.lift.formats import read_recording

        recording = read_recording(
            source, format=file_format, layout=layout, image_size_px=image_size_px, rate_hz=rate_hz
        )
    if camera_file is not None:
        recording = replace(recording, camera=read_camera(camera_file, recording.image_size_px))
    lifted = lifter.lift(recording, persons=persons, focal_px=focal_px, fov_deg=fov_deg, smooth=smooth)
    try:
        with new_folder(out.resolve()) as folder:
            write_outputs(folder, lifted, outputs)
    except OSError as error:
        raise UserError(f"{out}: expected a folder that can be written, found {error.strerror}") from error
    return summary(lifted, recording, out)


def read_camera(path: Path, image_size_px: tuple[int, int] | None) -> Camera:
    """The camera of a JSON file: numbers as pipeline.lift.model_input.calibrated_camera takes them, or an about.json's.

    `image_size_px` is the recording's; else the file's own. Raises UserError if the file is not one, or neither says.
    """
    about = read_json(path)
    if not isinstance(about, dict):
        raise UserError(f"{path}: expected an object with a camera's numbers, found {type(about).__name__}")
    numbers = about.get("camera", about)
    size = image_size_px or about.get("image_size_px")
    if not (isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        raise UserError(f"{path}: expected image_size_px in it, or --image-size, found {size}")
    return calibrated_camera(numbers, (size[0], size[1]), where=str(path))


def parse_image_size(text: str) -> tuple[int, int]:
    """Width and height of "1920x1080". Raises UserError if it is something else."""
    match = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text)
    if match is None:
        raise UserError(f"image size: expected WIDTHxHEIGHT in pixels, such as 1920x1080, found '{text}'")
    return int(match[1]), int(match[2])


def check_replaceable(out: Path) -> None:
    """Raises UserError if `out` is there and anything in it was not written by this tool."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir()) and out.resolve() != Path.cwd()):
        return
    if not out.is_dir():
        raise UserError(f"{out}: expected a folder, found a file")
    try:
        own = {ABOUT, *read_json(out / ABOUT)["files"]}
    except (UserError, *BAD_VALUE):
        own = set()
    foreign = sorted(path.name for path in out.iterdir() if path.name not in own)
    if foreign or out.resolve() == Path.cwd():
        found = f"'{foreign[0]}' in it" if foreign else "the current folder"
        raise UserError(f"{out}: expected a new folder or one written by lift, found {found}")


def write_outputs(folder: Path, lifted: Lifted, outputs: Sequence[str]) -> None:
    """Write the chosen outputs and about.json into the existing folder."""
    if "npz" in outputs:
        write_npz(folder / "poses.npz", lifted)
    if "json" in outputs:
        write_poses_json(folder / "poses.json", lifted)
    if "csv" in outputs:
        write_csv(folder / "poses.csv", lifted)
    if "bvh" in outputs:
        from pipeline.lift.outputs.bvh import write_bvh

        for number, person in enumerate(lifted.people):
            if np.isfinite(person.root_camera_m).any():
                write_bvh(folder / f"person{number}_{_file_name(person.person)}.bvh", lifted, person)
    if "glb" in outputs:
        from pipeline.lift.outputs.glb import write_glb

        write_glb(folder / "people.glb", lifted)
    if {"html", "mp4", "gif", "png"} & set(outputs):
        _write_views(folder, lifted, outputs)
    files = sorted(path.name for path in folder.iterdir())
    write_json(folder / ABOUT, about(lifted) | {"files": files})


def _write_views(folder: Path, lifted: Lifted, outputs: Sequence[str]) -> None:
    from pipeline.lift.outputs.scene import lifted_scene
    from pipeline.visualization.viewer import viewer_page

    scene = lifted_scene(lifted)
    if "html" in outputs:
        (folder / "view.html").write_text(viewer_page([scene], title=scene.title), encoding="utf-8")
    for suffix in ("mp4", "gif"):
        if suffix in outputs:
            from pipeline.visualization.movie import write_movie

            write_movie(folder / f"people.{suffix}", scene)
    if "png" in outputs:
        from pipeline.visualization.movie import write_strip

        write_strip(folder / "strip.png", scene)


def summary(lifted: Lifted, recording: Recording, out: Path) -> str:
    """What was lifted, at which rate, and what was assumed; a few lines."""
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


def _file_name(person: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", person)[:60]
