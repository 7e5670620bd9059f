"""Does Blender put the joints where they were lifted? `make blender` asks Blender itself, as bpy from PyPI.

The example of the documentation is lifted with its feet locked; Blender opens BVH and GLB in a process of its own, as
its importers do by default, and its bones are compared with poses.npz. Exits with 1 if they are off.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.lift.body.feet import find_foot_rests
from pipeline.lift.formats import read_recording
from pipeline.lift.lift_file import lift_file
from pipeline.lift.lifter import Lifter
from pipeline.lift.outputs.rig import name_bone
from pipeline.lift.people import InputOptions, LiftOptions
from pipeline.poses.skeleton import H36M_17

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "docs" / "examples" / "soccer.npz"
READER = REPOSITORY / "tests" / "trials" / "blender_reads.py"
MOST_M = 1e-4
FEET = [H36M_17.joints.index(name) for name in ("LFoot", "RFoot")]


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="a Python that has bpy")
    parser.add_argument("--out", type=Path, default=REPOSITORY / ".work" / "blender-trial")
    arguments = parser.parse_args()
    lifter, options = Lifter.load(), LiftOptions(lock_feet=True)
    lifts = arguments.out / "lift"
    print(lift_file(EXAMPLE, lifts, lifter=lifter, lift_options=options, outputs=("npz", "bvh", "glb")))
    sliding = lifter.lift(read_recording(EXAMPLE, InputOptions()))
    sliding_m = sliding.joints_world_m(sliding.people[0])
    rests = find_foot_rests(sliding_m, H36M_17, rate_hz=sliding.rate_hz)
    subprocess.run([arguments.python, str(READER), str(arguments.out)], check=True, stdout=subprocess.DEVNULL)
    found = json.loads((arguments.out / "blender.json").read_text(encoding="utf-8"))
    with np.load(lifts / "poses.npz", allow_pickle=False) as arrays:
        joints_m = arrays["person0_joints_world_m"]
    worst_m = 0.0
    for kind, scene in found.items():
        heads_m = {name: np.array(places) for name, places in scene["heads_m"].items()}
        bones_m = np.stack([heads_m[name_bone(H36M_17, joint)] for joint in range(17)], axis=1)
        off_m = np.nanmax(np.linalg.norm(bones_m - joints_m, axis=-1))
        slides_mm = [1000 * measure_slide(poses_m, rests) for poses_m in (sliding_m, bones_m)]
        print(f"{kind}: {len(bones_m)} frames at {scene['rate_hz']:g} Hz; joints off by at most {1000 * off_m:.4f} mm;")
        print(f"  in {len(rests)} rests feet slide by {slides_mm[1]:.3f} mm, without the lock by {slides_mm[0]:.0f} mm")
        worst_m = max(worst_m, off_m, slides_mm[1] / 1000)
    print(f"pictures by Blender: {arguments.out / 'blender_*.png'}")
    return int(worst_m > MOST_M)


def measure_slide(joints_m: Float[np.ndarray, "F 17 3"], rests: Sequence[tuple[int, slice]]) -> float:
    """Returns the longest way that a foot goes in a rest, in metres."""
    ways_m = [np.linalg.norm(np.diff(joints_m[rest, FEET[foot]], axis=0), axis=-1).sum() for foot, rest in rests]
    return float(max(ways_m))


if __name__ == "__main__":
    sys.exit(main())
