"""Lifts 2D human keypoints to 3D from Python: what a program outside of the repository imports."""

from pipeline.lift.formats import read_recording
from pipeline.lift.lifter import Lifter
from pipeline.lift.outputs import write_lifted
from pipeline.lift.people import InputOptions, Lifted, LiftOptions, Recording
from pipeline.system.errors import UserError

__all__ = [
    "InputOptions",
    "LiftOptions",
    "Lifted",
    "Lifter",
    "Recording",
    "UserError",
    "read_recording",
    "write_lifted",
]
