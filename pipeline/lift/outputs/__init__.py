"""Writes lifted people into a folder, whole or not at all: for each output a file, and about.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.lift.outputs import angles, bvh, files, glb, markers, scene
from pipeline.lift.people import Lifted, LiftedPerson
from pipeline.system.errors import BAD_VALUE, UserError
from pipeline.system.files import new_folder, read_json, write_json


def for_each_person(write: Callable[[Path, Lifted, LiftedPerson], object]) -> Callable[[Path, Lifted], None]:
    """Returns what writes a file for each person who was lifted in some frame: person0_<name>.bvh for person.bvh."""

    def write_people(path: Path, lifted: Lifted) -> None:
        for number, person in enumerate(lifted.people):
            if np.isfinite(person.root_camera_m).any():
                name = files.make_file_name(person.person)
                write(path.with_stem(f"{path.stem}{number}_{name}"), lifted, person)

    return write_people


# For each output its file and what writes it.
OUTPUTS = {
    "npz": ("poses.npz", files.write_npz),
    "json": ("poses.json", files.write_json),
    "csv": ("poses.csv", files.write_csv),
    "bvh": ("person.bvh", for_each_person(bvh.write_bvh)),
    "glb": ("people.glb", glb.write_glb),
    "trc": ("person.trc", for_each_person(markers.write_trc)),
    "c3d": ("person.c3d", for_each_person(markers.write_c3d)),
    "angles": ("angles.csv", angles.write_angles),
    "html": ("view.html", scene.write_page),
    "mp4": ("people.mp4", scene.write_film),
    "gif": ("people.gif", scene.write_film),
    "overlay": ("overlay.mp4", scene.write_overlay_film),
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


def write_lifted(out: Path | str, lifted: Lifted, outputs: Sequence[str] = DEFAULT_OUTPUTS) -> None:
    """Writes the outputs and about.json into the folder `out`, in place of what lift wrote there before.

    Raises UserError if an output is unknown, `out` holds anything else, or it cannot be written; then what was there
    stays.
    """
    out = Path(out)
    check_outputs(out, outputs)
    if "overlay" in outputs and lifted.filmed_on is None:
        raise UserError("outputs: expected the video in Lifted.filmed_on, for the overlay, found none")
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
