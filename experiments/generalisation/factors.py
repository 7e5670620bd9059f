"""The factors by which filming differs from training: for each its settings and, beside them, its words on the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from experiments.generalisation.conditions import Condition, MissingShown, View
from pipeline.mocap.cameras import DISTANCE_M, HEIGHT_M


@dataclass(frozen=True)
class Setting:
    """One point of a factor: its label and the condition. `curve` names its line where there are two of them."""

    label: str
    condition: Condition
    curve: str = ""


@dataclass(frozen=True)
class Factor:
    """What is varied: the figure's title, its axis, what was done and why it may matter, and the settings.

    `settings` takes the condition of training and returns the settings, all else being as in training.
    """

    title: str
    axis: str
    text: str
    settings: Callable[[Condition], list[Setting]]


def _vary_view(
    trained_range: tuple[float, float] | None = None, **values: tuple[float, ...]
) -> Callable[[Condition], list[Setting]]:
    """Returns settings of properties of the view, a curve for each property if there are several.

    `trained_range` is that of training where training has no single value; it comes first.
    """

    def settings(trained: Condition) -> list[Setting]:
        first = [] if trained_range is None else [Setting("{:g}–{:g}".format(*trained_range), trained)]
        return first + [
            Setting(f"{value:g}", replace(trained, view=View(**{name: value})), name if len(values) > 1 else "")
            for name, those in values.items()
            for value in those
        ]

    return settings


def _vary_detector(trained: Condition) -> list[Setting]:
    levels = {0.0, 0.5, 1.0, 1.3, 1.6, 2.0} | (set() if trained.level is None else {trained.level})
    exact = [Setting("exact", trained)] if trained.level is None else []
    return exact + [Setting(f"{level:g}", replace(trained, level=level)) for level in sorted(levels)]


def _vary_missing(trained: Condition) -> list[Setting]:
    curves: dict[MissingShown, str] = {
        "interpolated": "filled in over time",
        "middle": "at the middle of the other joints",
    }
    return [
        Setting(f"{100 * share:g}", replace(trained, missing=share, missing_shown=shown) if share else trained, curve)
        for shown, curve in curves.items()
        for share in (0.0, 0.05, 0.1, 0.2)
    ]


def _vary_rate(trained: Condition) -> list[Setting]:
    rates_hz = sorted({15.0, 25.0, 30.0, 50.0, 60.0, trained.rate_hz})
    resampled = f"resampled to {trained.shown_hz:g} Hz"
    return [
        *(Setting(f"{hz:g}", replace(trained, rate_hz=hz, shown_hz=hz), "as it is") for hz in rates_hz),
        *(Setting(f"{hz:g}", replace(trained, rate_hz=hz), resampled) for hz in rates_hz),
    ]


def _vary_length(trained: Condition) -> list[Setting]:
    return [Setting(str(frames or "all"), replace(trained, frames=frames)) for frames in (1, 3, 9, 27, None)]


FACTORS = {
    "detector": Factor(
        "Level of the simulated detector's errors",
        "level k (1 to 1.6 is realistic)",
        "The simulated detector's jitter, outliers and misses are multiplied by k; limbs are swapped at every level. "
        "What k = 0 leaves above exact keypoints is what a model pays for having learnt to distrust them.",
        _vary_detector,
    ),
    "missing": Factor(
        "Keypoints that were not seen",
        "missing keypoints, %",
        "Keypoints vanish in gaps of 0.17 s on average, each joint by itself. They come with confidence 0 (where the "
        "model takes one) and a position: interpolated between the frames around the gap, as one would fill it in, or, "
        "the hard case, at the mean of the joints that are seen, which says nothing. A model that does not heed the "
        "confidence takes the second for a limb folded into the body.",
        _vary_missing,
    ),
    "height": Factor(
        "Height of the camera",
        "height of the camera above the floor, m",
        "The camera is raised or lowered and still looks at the same point. Seen from above or below, upright bones "
        "shorten, and the pose must be told from the tilt of the camera, which the model is not given.",
        _vary_view(HEIGHT_M, height_m=(0.5, 1.0, 2.5, 4.0)),
    ),
    "distance": Factor(
        "Distance of the camera",
        "horizontal distance of the camera, m",
        "Near cameras distort: what is nearer looks larger. From far away that clue is lost, and the simulated "
        "detector's errors stay the same share of the person's height.",
        _vary_view(DISTANCE_M, distance_m=(3.0, 4.0, 8.0, 12.0)),
    ),
    "focal": Factor(
        "Focal length of the lens",
        "focal length, as a multiple of the trained one",
        "The model takes every lens for the trained one. A longer lens makes the person look nearer than he is, "
        "without the distortion that would go with it.",
        _vary_view(focal=(0.6, 0.8, 1.0, 1.25, 1.5)),
    ),
    "roll": Factor(
        "Roll of the camera",
        "roll of the camera, degrees",
        "The image is turned about the line of sight. Training has upright cameras only, so that a lean of the camera "
        "looks like a lean of the person.",
        _vary_view(roll_deg=(0.0, 5.0, 10.0, 20.0)),
    ),
    "rate": Factor(
        "Frame rate of the video",
        "frame rate of the video, Hz",
        "A window holds as many frames at every rate, thus another time: at another rate motion looks faster or slower "
        "than in training. Keypoints resampled to the trained rate show the trained speed again. Takes are captured at "
        "30 Hz: what is between their frames is interpolated.",
        _vary_rate,
    ),
    "body": Factor(
        "Size of the body",
        "height of the body, as a multiple",
        "The whole body is scaled. One camera cannot tell a small person near by from a tall one far away, so the "
        "error holds the size that the model believes in: compare N-MPJPE, which ignores size.",
        _vary_view(body=(0.6, 0.8, 0.9, 1.0, 1.1, 1.2)),
    ),
    "limbs": Factor(
        "Lengths of the limbs",
        "length of the limb's bones, as a multiple",
        "Thighs and shins, or upper arms and forearms, are made longer or shorter, the rest stays. In training such "
        "lengths vary together, as they do among adults, by 6 % in either direction for two people of three.",
        _vary_view(legs=(0.8, 0.9, 1.0, 1.1, 1.2), arms=(0.8, 0.9, 1.0, 1.1, 1.2)),
    ),
    "length": Factor(
        "Length of the clip",
        "frames of the clip",
        "Clips are cut to so many frames around each scored one. A window longer than the clip repeats its first and "
        "last frame: a person who stands still.",
        _vary_length,
    ),
}
