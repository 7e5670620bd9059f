"""What the stage real_video writes, and its page reads: errors of each person and view, by what was lifted how."""

from __future__ import annotations

from pipeline.config.values import Values


class Errors(Values):
    """Mean errors over the scored frames of a person in a view, in mm; velocity per frame at the video's 60 Hz.

    `root_mm` is the distance of the root, in the camera frame; the others are of Human3.6M's 17 joints.
    """

    mpjpe_mm: float
    p_mpjpe_mm: float
    n_mpjpe_mm: float
    mpjve_mm: float
    root_mm: float


class Parts(Values):
    """What is left of the lifted poses' MPJPE, in mm, if what all frames share is taken away, and how much that was.

    `scaled_mm` by one factor, `turned_mm` by one rotation, `aligned_mm` by both. `size` is the predicted size as a
    multiple of the true; the angles turn the true pose to the predicted: pitch forward, yaw and roll, about the
    camera's axes x, y and z.
    """

    scaled_mm: float
    turned_mm: float
    aligned_mm: float
    size: float
    pitch_deg: float
    yaw_deg: float
    roll_deg: float


class ViewScores(Values):
    """A person in a view: frames scored and why others are not, and the errors by method."""

    person: str
    view: str
    roll_deg: float  # of the camera, clockwise
    down_deg: float
    frames: int
    lost: int  # frames in which the detector followed nobody, or somebody else
    unsure: int  # frames in which a joint of the reference is not known well enough
    swapped: float  # share of the scored frames in which the detector took left for right, in arms or legs
    errors: dict[str, Errors]
    parts: Parts


class ReferenceScores(Values):
    """How well the reference is known: medians over frames and the twelve joints of the limbs."""

    person: str
    sd_mm: float
    left_out_mm: float
    bone_sd_mm: float  # of the lengths of arms and legs over time
    height_m: float  # from ankle to head along the bones


class Trial(Values):
    """The whole record; `off_px` are keypoints from the reference by view, first as calibrated, then refined."""

    checkpoint: str
    row: str
    calibrated_off_px: tuple[float, ...]
    refined_off_px: tuple[float, ...]
    reference: tuple[ReferenceScores, ...]
    views: tuple[ViewScores, ...]
