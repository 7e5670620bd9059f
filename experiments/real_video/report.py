"""Stage real_video_report: results.json and the words of page.md -> README.md, and the table in docs/lift.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from experiments.real_video.detections import PEOPLE
from experiments.real_video.measure import AIMED, EXACT, KNOWN_LENS, LIFTED, MEDIAPIPE, NO_SWAPS, UNSURE_M
from experiments.real_video.records import Errors, Trial, ViewScores
from pipeline.poses.row_metrics import read_json_as
from pipeline.system.files import write_text
from pipeline.visualization.tables import markdown_table, put_between

PAGE = Path(__file__).with_name("page.md")
MARKERS = ("<!-- real video: written by `python -m experiments real_video_report` -->", "<!-- real video: end -->")
STEPS = {
    LIFTED: "as `poselift lift` does: keypoints as detected, lens assumed",
    KNOWN_LENS: "with the calibrated lens",
    NO_SWAPS: "and the detector's left and right put right by the reference",
    EXACT: "and the reference's joints projected, instead of detected keypoints",
    AIMED: "and the camera turned until the person's path is in the middle and the world's up is up",
    MEDIAPIPE: "MediaPipe's world landmarks",
}


def real_video_report(results: Path, *, page: Path, guide: Path) -> None:
    """Writes the page, and the table into the guide. Raises UserError if there are no results or no markers."""
    trial = read_json_as(Trial, results, "the record of the trial on real video")
    text = guide.read_text(encoding="utf-8")
    write_text(guide, put_between(MARKERS, errors_table(trial), text, where=str(guide)))
    write_text(page, page_of(trial))


def errors_table(trial: Trial) -> str:
    """Returns the errors of each person and view, of the model and of MediaPipe beside each other, and their means."""
    metrics: dict[str, Callable[[Errors], str]] = {
        "MPJPE": lambda errors: f"{errors.mpjpe_mm:.0f}",
        "P-MPJPE": lambda errors: f"{errors.p_mpjpe_mm:.0f}",
        "N-MPJPE": lambda errors: f"{errors.n_mpjpe_mm:.0f}",
        "MPJVE": lambda errors: f"{errors.mpjve_mm:.1f}",
        "root, m": lambda errors: f"{errors.root_mm / 1000:.2f}",
    }

    def cells(views: Sequence[ViewScores]) -> list[str]:
        both = [mean_errors(views, method) for method in (LIFTED, MEDIAPIPE)]
        return [" / ".join(map(metric, both)) for metric in metrics.values()]

    lines = [[view.person, view.view, str(view.frames), *cells([view])] for view in trial.views]
    for who, views in _groups(trial).items():
        lines.append([who, "mean", str(sum(view.frames for view in views)), *cells(views)])
    return markdown_table(["person", "view", "frames", *metrics], lines)


def mean_errors(views: Sequence[ViewScores], method: str) -> Errors:
    """Returns the plain mean over the views."""
    return Errors(
        **{name: float(np.mean([getattr(view.errors[method], name) for view in views])) for name in Errors.model_fields}
    )


def _groups(trial: Trial) -> dict[str, list[ViewScores]]:
    groups = {who: [view for view in trial.views if view.person == who] for who in PEOPLE}
    return groups | {"both": list(trial.views)}


def page_of(trial: Trial) -> str:
    """Returns the whole page: page.md with the tables and figures of the record in their places."""
    calibrated_px, refined_px = (
        ", ".join(f"{px:.0f}" for px in off_px) for off_px in (trial.calibrated_off_px, trial.refined_off_px)
    )
    return PAGE.read_text(encoding="utf-8").format(
        trial=trial,
        unsure_mm=1000 * UNSURE_M,
        errors=errors_table(trial),
        steps=steps_table(trial),
        parts=parts_table(trial),
        calibrated_off_px=calibrated_px,
        refined_off_px=refined_px,
        reference=reference_table(trial),
        views=views_table(trial),
    )


def steps_table(trial: Trial) -> str:
    """Returns the errors as one difficulty after the other is taken away, by view and on average."""
    groups = {f"{view.person} {view.view}": [view] for view in trial.views} | _groups(trial)
    lines = []
    for method, words in STEPS.items():
        means = [mean_errors(views, method) for views in groups.values()]
        lines.append([words, *(f"{errors.mpjpe_mm:.0f} / {errors.p_mpjpe_mm:.0f}" for errors in means)])
    return markdown_table(["what is lifted", *groups], lines)


def parts_table(trial: Trial) -> str:
    """Returns what scale and orientation are of the error, by view."""
    header = ["person", "view", "MPJPE", "scaled", "turned", "both", "P-MPJPE", "size", "pitch", "yaw", "roll"]
    lines = []
    for view in trial.views:
        errors, parts = view.errors[LIFTED], view.parts
        lengths = (errors.mpjpe_mm, parts.scaled_mm, parts.turned_mm, parts.aligned_mm, errors.p_mpjpe_mm)
        angles = (parts.pitch_deg, parts.yaw_deg, parts.roll_deg)
        cells = [*(f"{mm:.0f}" for mm in lengths), f"{parts.size:.2f}", *(f"{deg:.0f}°" for deg in angles)]
        lines.append([view.person, view.view, *cells])
    return markdown_table(header, lines)


def reference_table(trial: Trial) -> str:
    """Returns how well each person's joints are known."""
    lines = [
        [one.person, f"{one.sd_mm:.0f}", f"{one.left_out_mm:.0f}", f"{one.bone_sd_mm:.0f}", f"{one.height_m:.2f}"]
        for one in trial.reference
    ]
    return markdown_table(
        ["person", "standard deviation", "one view left out", "bone lengths", "ankle to head, m"], lines
    )


def views_table(trial: Trial) -> str:
    """Returns how the cameras are held, which frames are scored, and why others are not."""
    header = ["person", "view", "roll", "down", "scored", "person lost", "reference unsure", "sides exchanged"]
    lines = []
    for view in trial.views:
        angles = (f"{view.roll_deg:.0f}°", f"{view.down_deg:.0f}°")
        frames = map(str, (view.frames, view.lost, view.unsure))
        lines.append([view.person, view.view, *angles, *frames, f"{100 * view.swapped:.0f} %"])
    return markdown_table(header, lines)
