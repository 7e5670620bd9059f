"""Writes lifted people as markers over time, Y up, under the names that OpenSim's models know: TRC and C3D.

Sources: TRC is the format of Motion Analysis as OpenSim 4.6 reads it, which wants nan where a marker is not seen; the
library c3d writes C3D.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from einops import rearrange

from pipeline.lift.body.height import estimate_height_m
from pipeline.lift.outputs.files import collect_arrays
from pipeline.lift.outputs.rig import turn_y_up
from pipeline.lift.people import Lifted, LiftedPerson
from pipeline.poses.metrics import MM_PER_M
from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import UserError
from pipeline.system.files import new_file, write_text

# The joints whose names differ from those in the marker sets of OpenSim models for pose estimation (HALPE_26, BODY_25).
MARKERS = {"Pelvis": "Hip", "LFoot": "LAnkle", "RFoot": "RAnkle", "Thorax": "Neck", "Neck/Nose": "Neck_Nose"}
C3D_FRAMES = 65535
HEADER = (
    "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
    "{rate:g}\t{rate:g}\t{frames}\t{markers}\tm\t{rate:g}\t{first}\t{frames}",
)


def name_markers(skeleton: Skeleton) -> list[str]:
    """Returns the names of the joints as markers."""
    return [MARKERS.get(name, name.replace("/", "_")) for name in skeleton.joints]


def write_trc(path: Path, lifted: Lifted, person: LiftedPerson) -> None:
    """Writes the person's joints as markers: X to the camera's right, Y up, Z towards the camera, feet at Y = 0.

    A joint that was not lifted, or whose keypoint was not seen, is nan. Frames count from 1, times from 0, both of the
    recording; the first line says how tall the person is, and whether that was stated.
    """
    markers_m = turn_y_up(collect_arrays(lifted, person)["joints_world_m"])
    names = name_markers(lifted.out_skeleton)
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


def write_c3d(path: Path, lifted: Lifted, person: LiftedPerson) -> None:
    """Writes the person's joints as points of a C3D file, in the axes and with the frames of `write_trc`.

    They are in millimetres, as programs expect it of C3D; a joint that was not lifted has the residual -1. Raises
    UserError if a frame's number is over what C3D can count.
    """
    from c3d import Writer  # only who wants C3D waits for it

    last = person.first_frame + len(person)
    if last > C3D_FRAMES:
        raise UserError(f"{path.name}: expected at most {C3D_FRAMES} frames, which C3D can count, found {last}")
    points = np.zeros((len(person), len(lifted.out_skeleton.joints), 5), dtype=np.float32)
    points[..., :3] = MM_PER_M * turn_y_up(collect_arrays(lifted, person)["joints_world_m"])
    unseen = np.isnan(points).any(-1)
    points[unseen] = [0.0, 0.0, 0.0, -1.0, 0.0]
    writer = Writer(point_rate=lifted.rate_hz, analog_rate=0.0, point_units="mm  ")
    writer.add_frames([(frame, np.zeros((1, 0))) for frame in points])
    writer.set_point_labels(name_markers(lifted.out_skeleton))
    writer.set_start_frame(person.first_frame + 1)
    writer.set_screen_axis("+X", "+Y")
    with new_file(path) as partial, partial.open("wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="missing parameter ANALOG")  # of which a lift has none
        writer.write(file)
