"""Stage comparisons_report: what short runs scored -> a page with tables, and a figure.

All numbers are from the files of evaluate_5runs and training_cost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from pipeline.config.rows import parse_row
from pipeline.system.errors import UserError
from pipeline.system.files import new_file, new_folder, write_text
from pipeline.visualization.figures import new_figure


@dataclass(frozen=True)
class Comparison:
    """Rows beside a reference row that was trained with the same seeds; for each row what is other about it."""

    title: str
    text: str
    reference: str
    others: Mapping[str, str]


def _peers(keypoints: str, *models: str) -> dict[str, str]:
    return {f"cmu-{keypoints}-f27-{model}": PEERS[model] for model in models}


PEERS = {
    "mixste": "MixSTE, small (Zhang et al. 2022)",
    "stcformer": "STCFormer, small (Tang et al. 2023)",
    "poseformer": "PoseFormer (Zheng et al. 2021)",
}
REFERENCE = "rayformer, the default"
TOKEN_PER_FRAME = "a token for each frame, not for three"
KEYPOINTS = {"gt": "exact keypoints", "det": "simulated detector"}
COMPARISONS = (
    *(
        Comparison(
            f"Equal CPU time: {words}",
            "All are trained for about the same time of one thread, each with the recipe that params.yaml has for it.",
            f"cmu-{keypoints}-f27-same_time",
            _peers(keypoints, "mixste", "stcformer", "poseformer"),
        )
        for keypoints, words in KEYPOINTS.items()
    ),
    Comparison(
        "Equal CPU time: frames of a token",
        "The reference takes more steps, as each costs less.",
        "cmu-det-f27-same_time",
        {"cmu-det-f27-patch_1": TOKEN_PER_FRAME},
    ),
    *(
        Comparison(
            f"Equal epochs: {words}",
            "All see the same number of windows; the peers need several times the CPU time for it.",
            f"cmu-{keypoints}-f27-same_windows",
            _peers(keypoints, "mixste", "stcformer"),
        )
        for keypoints, words in KEYPOINTS.items()
    ),
    Comparison(
        "Filming anew: exact keypoints",
        "As long as the row of the results table. The test split has cameras and bodies like those that "
        "`full_no_refilming` is trained on, and none of what else `full` is prepared for.",
        "cmu-gt-f27-full",
        {
            "cmu-gt-f27-full_own_motion": "no limbs of others, no other speeds",
            "cmu-gt-f27-full_no_refilming": "windows as they were filmed: also no new cameras and no other sizes",
        },
    ),
    Comparison(
        "One part changed: simulated detector",
        "As many steps as the reference, with one thing other in training, in the model or in scoring.",
        "cmu-det-f27-default",
        {
            "cmu-det-f27-no_balance": "actions as frequent as in the data",
            "cmu-det-f27-adamw": "AdamW for all weights, rate 0.002, in place of Muon for the blocks",
            "cmu-det-f27-no_flip_averaging": "not averaged with the mirror image",
            "cmu-det-f27-patch_1": TOKEN_PER_FRAME,
            "cmu-det-f81-default": "81 frames, not 27",
        },
    ),
)


def comparisons_report(rows: Sequence[str], *, results: Path, cost: Path, out: Path) -> None:
    """Write out/README.md and out/ablation.svg from the metrics of `rows` and the costs that were measured.

    Rows of a comparison that are not given are left out. Raises UserError if a row has no metrics or is in no
    comparison, or the seeds of a comparison differ.
    """
    spoken_of = {row for comparison in COMPARISONS for row in (comparison.reference, *comparison.others)}
    for row in rows:
        if row not in spoken_of:
            raise UserError(f"row {row}: expected one that a comparison has, found none")
    scored = {row: _read(results / "metrics" / f"{row}.json") for row in rows}
    seconds = {row: one["cpu_s_per_run"] for row, one in _read(cost).items()}
    shown = [comparison for comparison in COMPARISONS if comparison.reference in scored]
    with new_folder(out / "figures") as figures, mpl.rc_context({"svg.hashsalt": "poselift", "svg.fonttype": "path"}):
        _figure(shown, scored, figures / "ablation.svg")
    write_text(out / "README.md", _page(shown, scored, seconds))


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected the record of a row, found {type(error).__name__}") from error
    return content


@dataclass(frozen=True)
class Difference:
    """Of a row from its reference, seed by seed: mean and sample standard deviation in mm, and whether it stands out.

    It does if the mean is larger than the deviation of the differences and than those of both rows.
    """

    mean_mm: float
    std_mm: float
    stands_out: bool


def difference(row: Mapping[str, Any], reference: Mapping[str, Any]) -> Difference:
    """The difference of two rows' MPJPE. Raises UserError if they are not of the same seeds, two or more."""
    seeds, expected = (record["protocol"]["seeds"] for record in (row, reference))
    if seeds != expected or len(seeds) < 2:
        raise UserError(f"row {row['row']}: expected the seeds of {reference['row']}, {expected}, found {seeds}")
    ours, theirs = (np.array(record["mpjpe_mm"]["runs"]) for record in (row, reference))
    mean_mm, std_mm = float((ours - theirs).mean()), float((ours - theirs).std(ddof=1))
    spread_mm = max(std_mm, row["mpjpe_mm"]["std"], reference["mpjpe_mm"]["std"])
    return Difference(mean_mm, std_mm, abs(mean_mm) > spread_mm)


def _page(shown: Sequence[Comparison], scored: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    first = next(iter(scored.values()))["protocol"]
    parts = [
        "# What each part buys, and the peers",
        "Written by the stage comparisons_report of `dvc.yaml`; do not edit. MPJPE on the test split in mm: mean ± "
        "sample standard deviation over the runs, a seed each. The runs are short, so the errors are above those of "
        "the results table, and what pays off only in long training does not show. Scored: "
        f"{first['scored_frames']}. Differences are taken seed by seed; one stands out if its mean is larger than its "
        "own deviation and than those of both rows. CPU seconds are those of the training steps of one run on one "
        "thread, measured in turns (`cost.json`); a dash where they were not.",
        "![Differences from the reference](figures/ablation.svg)",
    ]
    for comparison in shown:
        lines = [[f"{REFERENCE}", *_cells(comparison.reference, scored, seconds), "", ""]]
        for row, words in comparison.others.items():
            if row in scored:
                own = difference(scored[row], scored[comparison.reference])
                verdict = "yes" if own.stands_out else "no"
                cells = _cells(row, scored, seconds)
                lines.append([words, *cells, f"{own.mean_mm:+.1f} ± {own.std_mm:.1f}", verdict])
        head = ["what", "row", "CPU s", "runs", "MPJPE", "difference", "stands out"]
        parts += [f"## {comparison.title}", comparison.text, _table(head, lines)]
    missing = [f"`{row}`" for c in COMPARISONS for row in (c.reference, *c.others) if row not in scored]
    if missing:
        parts += ["## Not measured", f"Rows of dvc.yaml that this page does not have: {', '.join(missing)}."]
    return "\n\n".join(parts) + "\n"


def _cells(row: str, scored: Mapping[str, Any], seconds: Mapping[str, float]) -> list[str]:
    errors = scored[row]["mpjpe_mm"]
    return [row, f"{seconds[row]:.0f}" if row in seconds else "–", str(len(errors["runs"])), _value(errors)]


def _figure(shown: Sequence[Comparison], scored: Mapping[str, Any], path: Path) -> None:
    """A bar for each row's difference from its reference, its deviation, and each seed's as a dot."""
    pairs = [(c, row) for c in shown for row in c.others if row in scored]
    figure = new_figure(7.2, 1.2 + 0.3 * len(pairs))
    axes = figure.add_subplot()
    for place, (comparison, row) in enumerate(pairs):
        ours, theirs = (np.array(scored[name]["mpjpe_mm"]["runs"]) for name in (row, comparison.reference))
        own = difference(scored[row], scored[comparison.reference])
        colour = "tab:red" if own.mean_mm > 0 else "tab:green"
        axes.barh(place, own.mean_mm, 0.7, color=colour if own.stands_out else "0.75")
        axes.plot(ours - theirs, [place] * len(ours), "o", color="0.2", markersize=3)
    labels = [f"{row} against {parse_row(comparison.reference).model}" for comparison, row in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.axvline(0, color="0.2", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=5)
    axes.set_xticks([-5, 0, 5, 20, 100], ["-5", "0", "5", "20", "100"], minor=False)
    axes.set_xlabel("difference of the MPJPE, mm; dots: seeds, grey: within the spread", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    with new_file(path) as partial:
        figure.savefig(partial, metadata={"Date": None})


def _value(value: Mapping[str, Any]) -> str:
    if value["mean"] is None:
        return "–"
    return f"{value['mean']:.1f}" + ("" if value["std"] is None else f" ± {value['std']:.1f}")


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))
