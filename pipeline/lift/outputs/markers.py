"""Writes lifted people as TRC: markers over time in metres, Y up, under the names that OpenSim's models know.

Source: the file format of Motion Analysis, as OpenSim 4.6 reads it, which wants nan where a marker is not seen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from einops import rearrange

from pipeline.lift.body.height import estimate_height_m
from pipeline.lift.outputs.files import collect_arrays, name_files
from pipeline.lift.outputs.rig import turn_y_up
from pipeline.lift.people import Lifted, LiftedPerson
from pipeline.system.files import write_text

# The joints whose names differ from those in the marker sets of OpenSim models for pose estimation (HALPE_26, BODY_25).
MARKERS = {"Pelvis": "Hip", "LFoot": "LAnkle", "RFoot": "RAnkle", "Thorax": "Neck", "Neck/Nose": "Neck_Nose"}
HEADER = (
    "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
    "{rate:g}\t{rate:g}\t{frames}\t{markers}\tm\t{rate:g}\t{first}\t{frames}",
)


def write_people(path: Path, lifted: Lifted) -> None:
    """Writes one file for each person who was lifted in some frame: person0_<name>.trc and so on for person.trc."""
    for file, person in name_files(path, lifted):
        write_trc(file, lifted, person)


def write_trc(path: Path, lifted: Lifted, person: LiftedPerson) -> None:
    """Writes the person's joints as markers: X to the camera's right, Y up, Z towards the camera, feet at Y = 0.

    A joint that was not lifted, or whose keypoint was not seen, is nan. Frames count from 1, times from 0, both of the
    recording; the first line says how tall the person is, and whether that was stated.
    """
    markers_m = turn_y_up(collect_arrays(lifted, person)["joints_world_m"])
    names = [MARKERS.get(name, name.replace("/", "_")) for name in lifted.out_skeleton.joints]
    height_m = estimate_height_m(person.joints_camera_m, lifted.out_skeleton)
    size = f"body height {height_m:.2f} m, {'as the model predicts it' if person.scale == 1 else 'as stated'}"
    numbers = np.arange(person.first_frame, person.first_frame + len(person))
    known = {"rate": lifted.rate_hz, "frames": len(person), "markers": len(names), "first": person.first_frame + 1}
    lines = [f"PathFileType\t4\t(X/Y/Z)\t{path.name}, {size}"]
    lines += [line.format(**known) for line in HEADER]
    lines.append("Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t")
    lines.append("\t\t" + "\t".join(f"{axis}{marker + 1}" for marker in range(len(names)) for axis in "XYZ"))
    lines.append("")
    for number, row in zip(numbers, rearrange(markers_m, "f j c -> f (j c)"), strict=True):
        cells = [f"{number + 1}", f"{number / lifted.rate_hz:.6f}", *(f"{value:.6f}" for value in row + 0.0)]
        lines.append("\t".join(cells))
    write_text(path, "\n".join(lines) + "\n")
