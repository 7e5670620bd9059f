"""Stage real_video_report: results.json -> README.md, and the table in docs/lift.md between its two markers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from experiments.real_video.detections import PEOPLE
from experiments.real_video.measure import AIMED, EXACT, KNOWN_LENS, LIFTED, MEDIAPIPE, NO_SWAPS, UNSURE_M
from experiments.real_video.records import Errors, Trial, ViewScores
from pipeline.poses.row_metrics import read_json_as
from pipeline.system.errors import UserError
from pipeline.system.files import write_text
from pipeline.visualization.tables import markdown_table

START = "<!-- real video: written by `python -m experiments real_video_report` -->"
END = "<!-- real video: end -->"
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
    write_text(guide, put_table(text, trial, where=str(guide)))
    write_text(page, page_of(trial))


def put_table(text: str, trial: Trial, *, where: str) -> str:
    """Returns the text with the table of errors between the markers. Raises UserError unless both are there once."""
    if text.count(START) != 1 or text.count(END) != 1:
        raise UserError(f"{where}: expected the markers '{START}' and '{END}' once each")
    before, rest = text.split(START)
    return f"{before}{START}\n\n{errors_table(trial)}\n\n{END}{rest.split(END)[1]}"


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
    """Returns the whole page."""
    parts = [
        "# A trial on real video",
        f"Written by `dvc repro experiments/real_video/dvc.yaml` from `results.json`, of `{trial.row}` "
        f"(`{trial.checkpoint}`); do not edit. `python -m experiments real_video CHECKPOINT` prints the same tables of "
        "another checkpoint.",
        HOW,
        "## Errors",
        "In mm, the model / MediaPipe's world landmarks, on the same frames and joints; MPJVE is in mm per frame at "
        "60 Hz, and `root` how far the hip is from where it was, through the lens that is assumed.",
        errors_table(trial),
        "## What the error consists of",
        "MPJPE / P-MPJPE in mm, each line with all of those above it. MediaPipe for comparison.",
        steps_table(trial),
        "What is left of the MPJPE of the first line if one scale, one rotation, or both, of all frames of a view are "
        "taken away, and how much that was: the size of the predicted body as a multiple of the true, and the rotation "
        "from the true poses to the predicted, about the camera's axes.",
        parts_table(trial),
        "## What was tried",
        TRIED,
        "## How well the reference is known",
        reference_text(trial),
        reference_table(trial),
        "How much the cameras roll and look down; frames that are scored, that are not because the detector followed "
        "nobody or somebody else, or because a joint of the reference is not known well enough; and the share of the "
        "scored frames in which the detector took left for right, in arms or legs.",
        views_table(trial),
        LICENCE,
    ]
    return "\n\n".join(parts) + "\n"


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
        errors, parts = view.errors[LIFTED], view.parts[LIFTED]
        lengths = (errors.mpjpe_mm, parts.scaled_mm, parts.turned_mm, parts.aligned_mm, errors.p_mpjpe_mm)
        angles = (parts.pitch_deg, parts.yaw_deg, parts.roll_deg)
        cells = [*(f"{mm:.0f}" for mm in lengths), f"{parts.size:.2f}", *(f"{deg:.0f}°" for deg in angles)]
        lines.append([view.person, view.view, *cells])
    return markdown_table(header, lines)


def reference_text(trial: Trial) -> str:
    """Returns how far the keypoints were from the reference before and after the calibration was refined."""
    before, after = (", ".join(f"{px:.0f}" for px in off) for off in (trial.calibrated_off_px, trial.refined_off_px))
    return (
        f"As calibrated, the median keypoint of the four views is off by {before} px; with the cameras' places refined "
        f"on the keypoints, by {after} px. Medians over frames and the twelve joints of the limbs, in mm: the standard "
        "deviation of a joint, from how its keypoints scatter and how the views that agree stand to each other; how "
        "far it moves if one view is left out; and the deviation of the lengths of upper arms, forearms, thighs and "
        "shins over the frames, which in truth are constant. The height is that of the stretched body, along its "
        "bones. What all views get wrong alike shows in none of these: the reference has MediaPipe's idea of where a "
        "joint is, and the scale of the calibration."
    )


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


HOW = f"""\
The two-person demo of the package pose2sim: 1.7 s at 60 Hz from four calibrated cameras. One person balances on a
leg and bends over it (`mover`), another moves the arms (`helper`). MediaPipe's pose landmarker `full` follows each
person through each video, which it was shown in the first frame, and filters what it finds over time, as it does
for one person. Its keypoints are lifted as `poselift lift` lifts a file of them; its own world landmarks are the
free alternative. One camera cannot tell how tall somebody is, and the helper is small: compare N-MPJPE.

The reference is triangulated from the keypoints of all four views, of that pass and of another over single
pictures, after the calibration has been refined on them. Keypoints that disagree with the other views count
little, exchanged sides are put right, and paths are low-passed at 6 Hz. The videos are synchronous: a shift of any
by a frame makes keypoints fit worse. The joints are Human3.6M's 17, in the reference and in MediaPipe's poses as
the same sums of landmarks ([layouts.py](../../pipeline/lift/layouts.py)); the model predicts those of its motion
capture, which are not quite the same points of the body. Poses are relative to the middle of the hips. Neither
method places the person: both are placed by the fit to the keypoints that `poselift lift` does. Scored are frames
in which all joints of the limbs are known to {1000 * UNSURE_M:.0f} mm and the detector followed the person.

These are two people for 1.7 s: they tell large differences from none, and no more. No model was trained on them,
but while the lifter was developed these errors were looked at, so they are no untouched test."""
TRIED = """\
MPJPE / P-MPJPE in mm, mean of both people over the views, of a model from before the lens and the sides were changed:

- 101.5 / 55.8 to 93.5 / 51.9: exchanged sides found in arms and legs apart, before gaps are filled in, also by hips and
  shoulders that face to opposite sides. Putting right what the reference says was exchanged gives as much.
- 93.5 / 51.9 to 91.2 / 50.5: a lens of 60 degrees in place of 47.2. 55 to 70 degrees are alike; the cameras have 59.6.
- Nothing, and left out: windows that overlap more (91.2 / 50.5 with a stride of 3), one size of the body over all
  frames (91.7 / 50.5). Filtering poses over 0.07 s gives 90.3 / 50.1, over 0.13 s 91.0 / 51.5; The
  third pass of the lifter changes nothing here, the second takes 94.2 / 51.4 to 91.2 / 50.6.
- Keypoints beyond the edge of the image: none of the limbs here are there.

MPJPE in mm of the model that was shipped then, first of 276 clips of validation people filmed by phones' lenses that
roll and look down (60.2), then here (92.6). Nothing of it was kept:

- An adult's height for people whose height is not stated. The height that the model gives somebody says little of the
  true one (correlation 0.17), so 1.65 m, the mean of the world's adults, counts for three quarters: 59.4; of
  validation people scaled to be of that height on average 56.9 in place of 59.5. Here 93.2: 86.8 in place of 89.6 of
  the mover, but 99.5 in place of 95.7 of the helper, who is 1.35 m tall in the reference.
- The mean over three views, the outer ones rolled by 8 degrees: 60.0, 92.8. Turned aside by 6 degrees: 59.9. Tilted
  by 6 degrees: 60.3, 95.7. Each takes three times as long.
- A view that looks at the hips, not at all joints: 61.6 in place of 59.3 (138 clips), 114.3. One that looks 0.9 m
  over the feet, as training's cameras do: 60.3 in place of 59.3, 89.9, as bodies come out smaller.
- Other weights for MediaPipe's visibility, its powers and multiples: 92.1 to 94.0 here.

MPJPE / P-MPJPE / N-MPJPE in mm here of models that were trained otherwise:

- Bodies 0.97 times as large, as adults of both sexes are: 92.6 / 50.6 / 69 to 90 / 51 / 70, and on the test split
  51.6 to 51.8 MPJPE. Kept: it is the model above.
- Besides, cameras that look up to 0.25 m past the person, so that his place in the image says nothing of his height:
  93 / 51 / 70. In runs of 12 epochs with bodies as captured, 0.5 m: 107 / 50 / 67 in place of 99 / 52 / 71, as bodies
  come out larger. Not kept.
- With the simulated detector or on exact keypoints, the five runs each of the table's rows: 103 ± 3 / 52 ± 1 / 73 ± 2
  and 98 ± 2 / 56 ± 2 / 75 ± 2. Its noise gives 3 mm of the pose and costs 5 in the size."""
LICENCE = """\
`detections.npz` holds what was detected and the calibration; `python -m experiments detect_real_video` makes it again,
with the optional packages of `.[video]`, from the package pose2sim (BSD 3-Clause License, copyright 2022 perfanalytics)
and MediaPipe's networks (Apache License 2.0)."""
