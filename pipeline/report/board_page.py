"""The sections of the board as HTML: training runs, rows of the table, experiments."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from pipeline.report.experiments import Experiment, differences
from pipeline.report.page import Group, card, chart_element, clips_and_protocol, error_cards, table
from pipeline.report.training_runs import Series, TrainingRun
from pipeline.visualization.charts import run_curves, scores_of_runs

STATES = ("running", "stopped", "failed", "finished")
COLUMNS = {
    "val_mpjpe_mm": "validation MPJPE, mm",
    "val_p_mpjpe_mm": "validation P-MPJPE, mm",
    "train_mpjpe_mm": "train MPJPE, mm",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
SHOWN_SERIES = 6  # at first; as many as there are colours


def runs_section(runs: Sequence[TrainingRun], series: Sequence[Series]) -> str:
    """What runs and how far it is; the learning curves of all series; a table of all runs."""
    counts = Counter(run.state for run in runs)
    words = {"running": "running", "stopped": "stopped", "failed": "failed", "finished": "finished"}
    tiles = "".join(
        f'<div class="tile {state}"><b>{counts[state]}</b><span>{words[state]}</span></div>'
        for state in STATES
        if counts[state] or state in ("running", "finished")
    )
    going = "".join(_progress(run) for run in runs if run.state == "running")
    shown = f'<div class="going">{going}</div>' if going else ""
    return f'<h2>Training</h2><div class="tiles">{tiles}</div>{shown}{_curves(series)}{_runs_table(runs)}'


def rows_section(groups: Sequence[Group], complaints: Sequence[str]) -> str:
    """The table's rows, those of one protocol beside each other."""
    notes = "".join(f'<p class="note">{html.escape(line)}</p>' for line in complaints)
    parts = [f"<h2>Results on the test split</h2>{notes}"]
    for number, group in enumerate(groups):
        per_action, per_joint, errors = error_cards(group)
        scores = {record.row: record.metrics.mpjpe_mm.values() for record in group.rows}
        note = "A tick for each run, a dot for their mean. Over all actions, as in the table."
        runs = card("The runs' test MPJPE", note, scores_of_runs(scores, title="MPJPE, mm"))
        parts.append(
            f'<div class="block" data-series="rows-{number}">'
            f"<h3>{html.escape(group.title)}</h3>{_chips([record.row for record in group.rows])}"
            f'<div class="card scroll">{table(group.header, group.cells)}</div>'
            f'<div class="pair">{runs}{errors}{per_action}{per_joint}</div></div>{clips_and_protocol(group)}'
        )
    return "".join(parts) if groups else f"{parts[0]}<p>No row has been evaluated yet.</p>"


def experiments_section(found: Sequence[Experiment], reason: str) -> str:
    """The experiments with what each changed, and two of them beside each other."""
    if not found:
        return f'<h2>Experiments</h2><p class="note">{html.escape(reason)}</p>'
    by_name = {experiment.name: experiment for experiment in found}
    errors = list(dict.fromkeys(name for one in found for name in one.metrics if name.endswith(" mpjpe_mm")))
    lines = [_experiment_cells(one, by_name, errors) for one in found]
    header = ("experiment", "state", "created", "changed", *(name.removesuffix("_mm") for name in errors))
    content = json.dumps([_compared(one) for one in found], separators=(",", ":"), allow_nan=False)
    options = "".join(f"<option>{html.escape(one.name)}</option>" for one in found)
    selects = "".join(f'<label>{side} <select data-side="{side}">{options}</select></label>' for side in ("A", "B"))
    return (
        f'<h2>Experiments</h2><div class="card scroll">{table(header, lines)}</div>'
        f'<div class="card compare"><h3>Two experiments beside each other</h3><div class="choices">{selects}</div>'
        f'<script type="application/json">{content.replace("<", chr(92) + "u003c")}</script>'
        '<div class="scroll" aria-live="polite"></div></div>'
    )


def _compared(one: Experiment) -> dict[str, Any]:
    return {"name": one.name, "params": one.params, "metrics": one.metrics, "baseline": one.baseline}


def _experiment_cells(one: Experiment, by_name: Mapping[str, Experiment], errors: Sequence[str]) -> tuple[str, ...]:
    changed = {} if one.baseline is None else differences(by_name[one.baseline].params, one.params)
    words = ", ".join(f"{name} {_word(value)}" for name, (_, value) in changed.items()) or "–"
    numbers = [one.metrics.get(name) for name in errors]
    state = one.state or ("commit" if one.created else "workspace")
    cells = ["–" if number is None else f"{number:.2f}" for number in numbers]
    return (one.name, state, one.created.replace("T", " ") or "now", words, *cells)


def _word(value: Any) -> str:
    return "–" if value is None else json.dumps(value) if isinstance(value, (list, bool)) else str(value)


def _progress(run: TrainingRun) -> str:
    done, planned = len(run.curve), run.epochs_planned or 0
    errors = [f"{run.curve[-1][name]:.1f} mm {word}" for name, word in _SHOWN.items() if done and run.curve[-1][name]]
    steps_s = [after - before for before, after in zip(run.logged_s[:-1], run.logged_s[1:], strict=True)]
    pace_s = median(step for step in steps_s if step > 0.05) if any(step > 0.05 for step in steps_s) else None
    left = "" if pace_s is None else f' data-left="{pace_s * (planned - done):.0f}" data-since="{run.logged_s[-1]:.0f}"'
    share = 100 * done / planned if planned else 0
    return (
        f'<div class="card run"><h3>{html.escape(run.row)}<span>run {run.seed}</span></h3>'
        f'<div class="bar" role="progressbar" aria-label="epochs" aria-valuenow="{done}" aria-valuemax="{planned}">'
        f'<i style="width:{share:.1f}%"></i></div><p>epoch {done} of {planned}<span class="eta"{left}></span></p>'
        f"<p>{' · '.join(errors) or 'in its first epoch'}</p></div>"
    )


_SHOWN = {"val_mpjpe_mm": "validation", "train_mpjpe_mm": "train"}


def _curves(series: Sequence[Series]) -> str:
    records = {one.label: one.records for one in series if one.records}
    if not records:
        return '<div class="card"><h3>Learning curves</h3><p>No epoch has ended yet.</p></div>'
    known = [name for name in COLUMNS if any(record[name] is not None for own in records.values() for record in own)]
    options = "".join(f'<option value="{name}">{COLUMNS[name]}</option>' for name in known)
    running = [one.label for one in series if any(run.state == "running" for run in one.runs)]
    first = [*running, *(label for label in records if label not in running)][:SHOWN_SERIES]
    chart = chart_element(run_curves(records, columns=known), label="learning curves")
    return (
        '<div class="block" data-series="runs"><div class="card"><h3>Learning curves</h3>'
        f'<div class="choices"><label>of the <select data-column>{options}</select></label></div>'
        f"{_chips(list(records), shown=first)}{chart}"
        "<p>Thin lines: runs; thick lines: their mean; bands: from the lowest run to the highest.</p></div></div>"
    )


def _chips(labels: Sequence[str], shown: Sequence[str] | None = None) -> str:
    """Buttons that show and hide rows or series in the charts beside them."""
    if len(labels) < 2:
        return ""
    pressed = labels if shown is None else shown
    buttons = (
        f'<button type="button" data-label="{html.escape(label)}" aria-pressed="{str(label in pressed).lower()}">'
        f"<i></i>{html.escape(label)}</button>"
        for label in labels
    )
    return f'<div class="chips">{"".join(buttons)}</div>'


def _runs_table(runs: Sequence[TrainingRun]) -> str:
    header = ("row", "run", "state", "epochs", "validation MPJPE, mm", "experiment", "commit", "read from")
    cells = [
        (
            run.row,
            str(run.seed),
            run.state,
            f"{len(run.curve)}" + (f" of {run.epochs_planned}" if run.epochs_planned else ""),
            f"{run.curve[-1]['val_mpjpe_mm']:.2f}" if run.curve and run.curve[-1]["val_mpjpe_mm"] is not None else "–",
            run.experiment or "–",
            run.commit[:7] or "–",
            run.source.name,
        )
        for run in runs
    ]
    return (
        f'<div class="card"><details><summary>All {len(runs)} runs</summary>'
        f'<div class="scroll">{table(header, cells)}</div></details></div>'
    )
