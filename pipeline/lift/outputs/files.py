"""Writes people in 3D for other programs: npz, JSON and CSV, with units, axes and what was assumed in them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from pipeline.lift.body.height import estimate_height_m
from pipeline.lift.people import Lifted, LiftedPerson

UNITS = {"_m": "metres", "_px": "pixels", "_hz": "frames per second", "confidence": "0 to 1"}
AXES = {
    "camera": "x right, y down, z forward; origin at the camera",
    "world": "Z up, X to the right of the camera, Y where it looks; feet at Z = 0, origin below the camera",
    "pixels": "x right, y down; origin at the image's top left corner",
}
PIXEL_DECIMALS = 2
DECIMALS = 5  # of metres in JSON and CSV: a hundredth of a millimetre


def describe(lifted: Lifted) -> dict[str, object]:
    """Returns what is known about the poses: units, axes, layouts, rate, lens, what was assumed, the model's card."""
    camera = lifted.camera
    heights_m = np.array([estimate_height_m(one.joints_camera_m, lifted.out_skeleton) for one in lifted.people])
    return {
        "source": lifted.source,
        "frames": lifted.frames,
        "rate_hz": lifted.rate_hz,
        "model_rate_hz": lifted.card["rate_hz"],
        "image_size_px": list(lifted.image_size_px),
        "units": UNITS,
        "axes": AXES,
        "layout": lifted.out_skeleton.name,
        "joints": list(lifted.out_skeleton.joints),
        "parents": list(lifted.out_skeleton.parents),
        "keypoint_layout": lifted.in_skeleton.name,
        "keypoints": list(lifted.in_skeleton.joints),
        "camera": {
            "focal_px": camera.focal_px,
            "centre_px": camera.centre_px,
            "radial": camera.radial,
            "tangential": camera.tangential,
        },
        "world_from_camera": {
            "rotation": lifted.world_from_camera.rotation.tolist(),
            "translation_m": lifted.world_from_camera.translation_m.tolist(),
        },
        "assumed": list(lifted.assumed),
        "model": lifted.card,
        "body_scales": [person.scale for person in lifted.people],
        "body_heights_m": _round_to_list("body_heights_m", heights_m),
        "people": [person.person for person in lifted.people],
    }


def collect_arrays(lifted: Lifted, person: LiftedPerson) -> dict[str, np.ndarray]:
    """Returns the person's arrays by name. Joints whose keypoint was neither seen nor filled in are NaN: guesses."""
    guessed = find_guessed_joints(lifted, person)[..., None]
    return {
        "joints_camera_m": np.where(guessed, np.nan, person.joints_camera_m),
        "root_camera_m": person.root_camera_m,
        "joints_world_m": np.where(guessed, np.nan, lifted.joints_world_m(person)),
        "pixels": person.pixels,
        "confidence": person.confidence,
        "filled": person.filled,
    }


def find_guessed_joints(lifted: Lifted, person: LiftedPerson) -> Bool[np.ndarray, "F J_out"]:
    """Returns which output joints the model saw no keypoint of in a frame, as far as the layouts share names."""
    guessed = np.zeros(person.joints_camera_m.shape[:2], dtype=bool)
    unseen = np.isnan(person.pixels).any(-1)
    for joint, name in enumerate(lifted.out_skeleton.joints):
        if name in lifted.in_skeleton.joints:
            guessed[:, joint] = unseen[:, lifted.in_skeleton.joints.index(name)]
    return guessed


def make_file_name(person: str) -> str:
    """Returns the name of a person as part of a file name that leads nowhere else."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", person)[:60]


def write_npz(path: Path, lifted: Lifted) -> None:
    """Writes one array for each person and quantity, person0_joints_camera_m ...; `about` is a text, JSON."""
    arrays: dict[str, np.ndarray] = {"about": np.array(json.dumps(describe(lifted)))}
    for number, person in enumerate(lifted.people):
        arrays[f"person{number}_first_frame"] = np.array(person.first_frame)
        for name, array in collect_arrays(lifted, person).items():
            arrays[f"person{number}_{name}"] = array
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # its stub has a Boolean among the keywords


def write_json(path: Path, lifted: Lifted) -> None:
    """Writes the same as JSON, a line for each frame of each array; null where there is no number."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(describe(lifted) | {"people": []}, allow_nan=False).removesuffix("]}"))
        for number, person in enumerate(lifted.people):
            start = {"person": person.person, "first_frame": person.first_frame}
            file.write((",\n" if number else "\n") + json.dumps(start).removesuffix("}"))
            for name, array in collect_arrays(lifted, person).items():
                lines = (json.dumps(_round_to_list(name, frame), allow_nan=False) for frame in array)
                file.write(f',\n"{name}": [\n')
                file.writelines(line if at == 0 else f",\n{line}" for at, line in enumerate(lines))
                file.write("]")
            file.write("}")
        file.write("]}\n")


def write_csv(path: Path, lifted: Lifted) -> None:
    """Writes a line for each person, frame and joint; cells of joints that were not lifted are empty."""
    header = ["person", "frame", "time_s", "joint"]
    header += [f"{axis}_{frame}_m" for frame in ("world", "camera") for axis in "xyz"] + ["confidence", "filled"]
    write_table(path, header, (row for person in lifted.people for row in _csv_rows(lifted, person)))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file, whose cells that are NaN are empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(["" if cell != cell else cell for cell in row] for row in rows)


def _csv_rows(lifted: Lifted, person: LiftedPerson) -> Iterator[list[object]]:
    arrays = collect_arrays(lifted, person)
    in_camera_m = arrays["joints_camera_m"] + person.root_camera_m[:, None]
    places_m = np.concatenate([arrays["joints_world_m"], in_camera_m], axis=-1)
    names = lifted.in_skeleton.joints
    keypoints = [names.index(name) if name in names else None for name in lifted.out_skeleton.joints]
    for frame, place_m in enumerate(places_m):
        number = person.first_frame + frame
        rounded = place_m.round(DECIMALS).tolist()
        for name, place, keypoint in zip(lifted.out_skeleton.joints, rounded, keypoints, strict=True):
            evidence: list[object] = ["", ""]
            if keypoint is not None:
                evidence = [round(float(person.confidence[frame, keypoint]), 4), int(person.filled[frame, keypoint])]
            yield [person.person, number, round(number / lifted.rate_hz, 6), name, *place, *evidence]


def _round_to_list(name: str, array: Float[np.ndarray, "*S"] | Bool[np.ndarray, "*S"]) -> object:
    if array.dtype == bool:
        return array.tolist()
    decimals = PIXEL_DECIMALS if name == "pixels" else DECIMALS
    rounded = array.round(decimals).astype(object)
    rounded[np.isnan(array)] = None
    return rounded.tolist()
