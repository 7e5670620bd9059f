"""Writes lifted people into a folder, whole or not at all: for each output a file, and about.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.lift.outputs import angles, bvh, files, glb, markers, overlay, scene
from pipeline.lift.people import Lifted
from pipeline.system.errors import BAD_VALUE, UserError
from pipeline.system.files import new_folder, read_json, write_json

# For each output its file and what writes it; bvh, trc and c3d are a file for each person.
OUTPUTS = {
    "npz": ("poses.npz", files.write_npz),
    "json": ("poses.json", files.write_json),
    "csv": ("poses.csv", files.write_csv),
    "bvh": ("person.bvh", bvh.write_people),
    "glb": ("people.glb", glb.write_glb),
    "trc": ("person.trc", markers.write_trc_files),
    "c3d": ("person.c3d", markers.write_c3d_files),
    "angles": ("angles.csv", angles.write_angles),
    "html": ("view.html", scene.write_page),
    "mp4": ("people.mp4", scene.write_film),
    "gif": ("people.gif", scene.write_film),
    "overlay": ("overlay.mp4", overlay.write_overlay_film),
    "png": ("strip.png", scene.write_pictures),
}
DEFAULT_OUTPUTS = ("npz", "json", "csv", "bvh", "glb", "html")
ABOUT = "about.json"


def check_outputs(out: Path, outputs: Sequence[str]) -> None:
    """Raises UserError if an output is unknown, or `out` holds anything that was not written by lift."""
    for output in outputs:
        if output not in OUTPUTS:
            raise UserError(f"outputs: expected some of {', '.join(OUTPUTS)}, found '{output}'")
    is_current = out.resolve() == Path.cwd()
    if not out.exists() or (out.is_dir() and not any(out.iterdir()) and not is_current):
        return
    if not out.is_dir():
        raise UserError(f"{out}: expected a folder, found a file")
    try:
        written = {ABOUT, *read_json(out / ABOUT)["files"]}
    except (UserError, *BAD_VALUE):
        written = set()
    foreign = sorted(path.name for path in out.iterdir() if path.name not in written)
    if foreign or is_current:
        found = f"'{foreign[0]}' in it" if foreign else "the current folder"
        raise UserError(f"{out}: expected a new folder or one written by lift, found {found}")


def write_lifted(out: Path, lifted: Lifted, outputs: Sequence[str]) -> None:
    """Writes the outputs and about.json into the folder `out`, in place of what was there.

    Raises UserError if the folder cannot be written; then what was there stays.
    """
    try:
        with new_folder(out.resolve()) as folder:
            for name, (file, write) in OUTPUTS.items():
                if name in outputs:
                    write(folder / file, lifted)
            names = sorted(path.name for path in folder.iterdir())
            about = files.describe(lifted) | {"files": names}
            if "angles" in outputs:
                about["angles_deg"] = angles.ANGLES | angles.LIMB_ANGLES
            write_json(folder / ABOUT, about)
    except OSError as error:
        raise UserError(f"{out}: expected a folder that can be written, found {error.strerror}") from error
