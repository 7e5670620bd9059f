"""Stage generalisation_report: what was measured under other conditions -> a figure for each factor and a page.

Reads results/<row>.json and, for actions, subsets and joints, reports/metrics/<row>.json. Writes figures/<factor>.svg
and README.md, all of whose numbers are from those files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from pipeline.system.errors import UserError
from pipeline.system.files import new_file, new_folder, write_text
from pipeline.visualization.figures import new_figure

LINES = ("-", "--")
Results = Mapping[str, Mapping[str, Any]]  # row -> content of its file


@dataclass(frozen=True)
class Words:
    """How a factor is spoken of: the figure's title, its axis, and what was done and why it may matter."""

    title: str
    axis: str
    text: str


FACTORS = {
    "detector": Words(
        "Level of the simulated detector's errors",
        "level k (1 to 1.6 is realistic)",
        "The simulated detector's jitter, outliers and misses are multiplied by k; limbs are swapped at every level. "
        "What k = 0 leaves above exact keypoints is what a model pays for having learnt to distrust them.",
    ),
    "missing": Words(
        "Keypoints that were not seen",
        "missing keypoints, %",
        "Keypoints vanish in gaps of 0.17 s on average, each joint by itself. They come with confidence 0 (where the "
        "model takes one) and a position: interpolated between the frames around the gap, as one would fill it in, or, "
        "the hard case, at the mean of the joints that are seen, which says nothing. A model that does not heed the "
        "confidence takes the second for a limb folded into the body.",
    ),
    "height": Words(
        "Height of the camera",
        "height of the camera above the floor, m",
        "The camera is raised or lowered and still looks at the same point. Seen from above or below, upright bones "
        "shorten, and the pose must be told from the tilt of the camera, which the model is not given.",
    ),
    "distance": Words(
        "Distance of the camera",
        "horizontal distance of the camera, m",
        "Near cameras distort: what is nearer looks larger. From far away that clue is lost, and the simulated "
        "detector's errors stay the same share of the person's height.",
    ),
    "focal": Words(
        "Focal length of the lens",
        "focal length, as a multiple of the trained one",
        "The model takes every lens for the trained one. A longer lens makes the person look nearer than he is, "
        "without the distortion that would go with it.",
    ),
    "roll": Words(
        "Roll of the camera",
        "roll of the camera, degrees",
        "The image is turned about the line of sight. Training has upright cameras only, so that a lean of the camera "
        "looks like a lean of the person.",
    ),
    "rate": Words(
        "Frame rate of the video",
        "frame rate of the video, Hz",
        "A window holds as many frames at every rate, thus another time: at another rate motion looks faster or slower "
        "than in training. Keypoints resampled to the trained rate show the trained speed again.",
    ),
    "body": Words(
        "Size of the body",
        "height of the body, as a multiple",
        "The whole body is scaled. One camera cannot tell a small person near by from a tall one far away, so the "
        "error holds the size that the model believes in: compare N-MPJPE, which ignores size.",
    ),
    "limbs": Words(
        "Lengths of the limbs",
        "length of the limb's bones, as a multiple",
        "Thighs and shins, or upper arms and forearms, are made longer or shorter, the rest stays. The embedded bodies "
        "are two skeletons, scaled; other proportions are new to the model.",
    ),
    "length": Words(
        "Length of the clip",
        "frames of the clip",
        "Clips are cut to so many frames around each scored one. A window longer than the clip repeats its first and "
        "last frame: a person who stands still.",
    ),
}  # fmt: skip


def generalisation_report(rows: Sequence[str], *, results: Path, reports: Path, out: Path) -> None:
    """Write the figures and the page of the rows given.

    Raises UserError if a row has no results or no metrics, or the rows differ in their factors.
    """
    measured = {row: _read(results / f"{row}.json") for row in rows}
    scored = {row: _read(reports / "metrics" / f"{row}.json") for row in rows}
    names = [list(result["factors"]) for result in measured.values()]
    if any(own != list(FACTORS) for own in names):
        raise UserError(f"{results}: expected the factors {', '.join(FACTORS)} in every row, found {names}")
    with new_folder(out / "figures") as figures, mpl.rc_context({"svg.hashsalt": "poselift", "svg.fonttype": "path"}):
        for name in FACTORS:
            _factor_figure(name, measured, figures / f"{name}.svg")
        for group, title in GROUPS.items():
            _group_figure(group, title, scored, figures / f"{group}.svg")
    write_text(out / "README.md", _page(measured, scored))


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected the record of a row, found {type(error).__name__}") from error
    return content


GROUPS = {"per_action": "Actions", "per_subset": "Subsets of the capture", "per_joint": "Joints"}


def _short(row: str) -> str:
    """The row's name without its dataset, which is the same for all."""
    return row.removeprefix("cmu-")


def _factor_figure(name: str, measured: Results, path: Path) -> None:
    """The error over the factor: lines are means over the runs, bands their sample standard deviation."""
    figure = new_figure(7.2, 3.5 + 0.35 * len(measured))
    axes = figure.add_subplot()
    labels = settings_in_order(name, measured)
    for number, (row, result) in enumerate(measured.items()):
        points = result["factors"][name]["settings"]
        for curve, line in zip(_curves(points), cycle(LINES), strict=False):  # lines do not end
            own = sorted((p for p in points if p["curve"] == curve), key=lambda p: labels.index(p["setting"]))
            label = ", ".join(filter(None, (_short(row), curve)))
            _line(axes, own, labels, colour=f"C{number}", line=line, label=label)
    words = FACTORS[name]
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlabel=words.axis, ylabel="MPJPE, mm", ylim=(0, None))
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot([], [], "o", color="0.3", markerfacecolor="white", markersize=9, label="as trained")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(words.title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title("\n".join(_worst_in_words(row, name, measured) for row in measured), loc="left", fontsize=8)
    with new_file(path) as partial:
        figure.savefig(partial, metadata={"Date": None})


def _line(axes: Axes, points: Sequence[Any], labels: list[str], *, colour: str, line: str, label: str) -> None:
    x = np.array([labels.index(point["setting"]) for point in points])
    mean = np.array([point["mpjpe_mm"]["mean"] for point in points])
    std = np.array([point["mpjpe_mm"]["std"] or 0.0 for point in points])
    axes.plot(x, mean, line, color=colour, marker="o", markersize=4, label=label)
    axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    trained = np.array([point["trained"] for point in points])
    axes.plot(x[trained], mean[trained], "o", color=colour, markerfacecolor="white", markersize=9, zorder=3)


def settings_in_order(name: str, measured: Results) -> list[str]:
    """The settings of a factor as they stand along its axis, each once."""
    settings = [point["setting"] for result in measured.values() for point in result["factors"][name]["settings"]]
    return sorted(dict.fromkeys(settings), key=_place_on_axis)


def _place_on_axis(label: str) -> float:
    """Where a setting stands among the others: exact before all numbers, all after them, a range at its middle."""
    if label in ("exact", "all"):
        return -np.inf if label == "exact" else np.inf
    return float(np.mean([float(end) for end in label.split("–")]))


def _curves(points: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(point["curve"] for point in points))


def _trained(points: Sequence[Any]) -> Any:
    return next(point for point in points if point["trained"])


def _worst(points: Sequence[Any]) -> tuple[float, Any]:
    """The largest rise over the trained setting, as a share of its error, and where."""
    basis = _trained(points)["mpjpe_mm"]["mean"]
    worst = max(points, key=lambda point: point["mpjpe_mm"]["mean"])
    return worst["mpjpe_mm"]["mean"] / basis - 1, worst


def _worst_in_words(row: str, name: str, measured: Results) -> str:
    rise, worst = _worst(measured[row]["factors"][name]["settings"])
    return f"{_short(row)}: at worst {100 * rise:+.0f} %, at {_setting(worst)}"


def _setting(point: Any) -> str:
    return " ".join(filter(None, (point["setting"], f"({point['curve']})" if point["curve"] else "")))


def _group_figure(group: str, title: str, scored: Results, path: Path) -> None:
    """Bars of the error of each action, subset or joint on the whole test split, with its deviation over the runs."""
    first = next(iter(scored.values()))[group]
    order = sorted(first, key=lambda key: first[key]["mpjpe_mm"]["mean"])
    figure = new_figure(7.2, 1.4 + 0.1 * len(scored) + 0.32 * len(order))
    axes = figure.add_subplot()
    height = 0.8 / len(scored)
    for number, (row, result) in enumerate(scored.items()):
        values = [result[group][key]["mpjpe_mm"] for key in order]
        places = np.arange(len(order)) + (number - (len(scored) - 1) / 2) * height
        deviation = [value["std"] or 0.0 for value in values]
        means = [value["mean"] for value in values]
        axes.barh(
            places, means, height, xerr=deviation, color=f"C{number}", label=_short(row), error_kw={"elinewidth": 1}
        )
    axes.set_yticks(range(len(order)), order)
    axes.invert_yaxis()
    axes.set(xlabel="MPJPE, mm", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title(f"from {order[0]}, the easiest, to {order[-1]}", loc="left", fontsize=8)
    with new_file(path) as partial:
        figure.savefig(partial, metadata={"Date": None})


def _page(measured: Results, scored: Results) -> str:
    first = next(iter(measured.values()))
    parts = [
        "# How far the models generalise",
        "Written by `dvc repro experiments/generalisation/dvc.yaml` from `results/`; do not edit. Errors are in mm: "
        f"mean ± sample standard deviation over {len(first['protocol']['seeds'])} runs. "
        + first["protocol"]["in_words"],
        "## What falls apart",
        "For each factor the setting at which the error rises most over the trained condition, worst first:",
        _ranking(measured),
        "## Two aims",
        _aims(measured),
        "## Actions, subsets, joints",
        "On the whole test split, from `reports/metrics/`. The two subsets are two bodies and other actions.",
        *(f"![{title}](figures/{group}.svg)" for group, title in GROUPS.items()),
        _groups_table("per_subset", scored),
        *(part for name in FACTORS for part in _section(name, measured)),
    ]
    return "\n\n".join(parts) + "\n"


def _ranking(measured: Results) -> str:
    lines = []
    for row, result in measured.items():
        for name in FACTORS:
            points = result["factors"][name]["settings"]
            rise, worst = _worst(points)
            basis = _trained(points)["mpjpe_mm"]["mean"]
            cells = (_short(row), FACTORS[name].title, _setting(worst), f"{basis:.1f}")
            lines.append((rise, [*cells, f"{worst['mpjpe_mm']['mean']:.1f}", f"{100 * rise:+.0f} %"]))
    ordered = [cells for _, cells in sorted(lines, key=lambda line: -line[0])]
    return _table(["row", "factor", "worst at", "as trained", "there", "rise"], ordered)


def _aims(measured: Results) -> str:
    """The two figures that a model is to keep: each rise below 10 %."""
    lines = []
    for row, result in measured.items():
        of = {
            (name, point["curve"], point["setting"]): point["mpjpe_mm"]["mean"]
            for name in ("detector", "missing")
            for point in result["factors"][name]["settings"]
        }
        pairs = [("detector, k = 1 to k = 1.6", of["detector", "", "1"], of["detector", "", "1.6"])]
        for curve in _curves(result["factors"]["missing"]["settings"]):
            pairs.append((f"10 % missing, {curve}", of["missing", curve, "0"], of["missing", curve, "10"]))
        for what, before, after in pairs:
            rise = after / before - 1
            verdict = "met" if rise < 0.1 else "missed"
            cells = [_short(row), what, f"{before:.1f}", f"{after:.1f}", f"{100 * rise:+.1f} %", verdict]
            lines.append(cells)
    return _table(["row", "from, to", "before", "after", "rise", "below 10 %"], lines)


def _groups_table(group: str, scored: Results) -> str:
    keys = list(next(iter(scored.values()))[group])
    lines = [[_short(row), *(_value(result[group][key]["mpjpe_mm"]) for key in keys)] for row, result in scored.items()]
    return _table(["row", *keys], lines)


def _section(name: str, measured: Results) -> list[str]:
    words = FACTORS[name]
    lines = []
    for row, result in measured.items():
        for point in result["factors"][name]["settings"]:
            setting = point["setting"] + (" (as trained)" if point["trained"] else "")
            errors = [_value(point[metric]) for metric in ("mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm")]
            lines.append([_short(row), point["curve"] or "–", setting, *errors])
    frames = ", ".join(f"{_short(row)} {result['factors'][name]['frames']}" for row, result in measured.items())
    return [
        f"## {words.title}",
        words.text,
        f"![{words.title}](figures/{name}.svg)",
        _table(["row", "shown", words.axis, "MPJPE", "P-MPJPE", "N-MPJPE"], lines),
        f"Frames scored under each setting: {frames}.",
    ]


def _value(value: Mapping[str, Any]) -> str:
    return f"{value['mean']:.1f}" + ("" if value["std"] is None else f" ± {value['std']:.1f}")


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))
