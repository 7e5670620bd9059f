"""The project's one page: training, results, experiments, what others published. It needs no network.

`results_page` is the finished page that the stage writes; the board fills the same sections with what is on disk now.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ConfigDict

from pipeline.config.values import Values
from pipeline.poses.row_metrics import ExampleClips, JointError, Metrics, RowDistributions, RowMetrics
from pipeline.report.experiments import Experiment, find_differences
from pipeline.report.training_runs import TrainingRun
from pipeline.tracking.run import CURVE_TITLES
from pipeline.visualization.charts import Curves, Means, Spec, distribution, group_errors, run_curves, scores_of_runs
from pipeline.visualization.scene import clip_scenes
from pipeline.visualization.viewer import viewer_asset, viewer_element, viewer_parts

TEMPLATES = Environment(
    loader=PackageLoader("pipeline.report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
VEGA_START, VEGA_END = "<!-- vega: start.", "<!-- vega: end -->"
CURVES_AT_FIRST = 6  # learning curves that are drawn until the reader chooses others; more hide each other
COMMANDS = """git clone <this repository> poselift && cd poselift
make results                 # environment, data, training, evaluation, this page
dvc pull && dvc repro        # the trained checkpoints as they are; nothing is left to run
dvc exp run -S frames=81     # another row
dvc plots show               # learning curves and errors per action, without a network"""

Sections = dict[str, str]  # HTML by the section's name


class Counts(Values):
    """How much of the data a split has."""

    model_config = ConfigDict(extra="ignore")

    takes: int
    clips: int
    frames: int


class DroppedFrames(Values):
    """How many frames were left out of the prepared data."""

    model_config = ConfigDict(extra="ignore")

    total: int


class Manifest(Values):
    """What the page shows of the manifest that prepare_data writes."""

    model_config = ConfigDict(extra="ignore")

    splits: dict[str, Counts]
    dropped_frames: DroppedFrames
    sha256: dict[str, str]


@dataclass(frozen=True)
class RowRecord:
    """What the page shows of one row: the contents of its files."""

    metrics: RowMetrics
    curves: tuple[dict[str, float | None], ...]
    distributions: RowDistributions
    scenes: ExampleClips
    manifest: Manifest

    @property
    def row(self) -> str:
        """The row's name."""
        return self.metrics.row


@dataclass(frozen=True)
class Group:
    """Rows of one protocol, which may share tables and charts."""

    title: str
    rows: tuple[RowRecord, ...]
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    protocol: dict[str, str]


@dataclass(frozen=True)
class Published:
    """Figures of others of one protocol: a remark on what they are, and their table."""

    remark: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]


class Chart(NamedTuple):
    """A chart's title, how to read it, and its Vega-Lite specification."""

    title: str
    note: str
    spec: Spec


def results_page(groups: Sequence[Group], published: Sequence[Published]) -> str:
    """Returns the finished page. The same input gives the same text."""
    curves = {record.row: record.curves for group in groups for record in group.rows}
    sections = {
        "training": training_section([], curves),
        "results": results_section(groups),
        "published": _section("published", blocks=published),
        "commands": _section("commands", lines=COMMANDS),
    }
    return whole_page(sections, live=False)


def whole_page(sections: Sections, *, live: bool) -> str:
    """Returns the page of these sections. A `live` one asks its server every two seconds for what has changed."""
    page = TEMPLATES.get_template("page.html")
    marks = {name: mark_of(content) for name, content in sections.items()}
    content = {name: Markup(text) for name, text in sections.items()}
    return page.render(sections=content, marks=marks, live=live, viewer=viewer_parts(), vega=Markup(_vega_libraries()))


def mark_of(section: str) -> str:
    """Returns a short hash, by which the page and its server tell whether a section has changed."""
    return hashlib.sha256(section.encode()).hexdigest()[:12]


def training_section(runs: Sequence[TrainingRun], curves: Curves) -> str:
    """Returns what runs and how far it is, the learning curves, and a table of the runs where any are given."""
    columns = {
        column: title
        for column, title in CURVE_TITLES.items()
        if any(record.get(column) is not None for records in curves.values() for record in records)
    }
    labels = [label for label, records in curves.items() if records]
    spec = run_curves({label: curves[label] for label in labels}, columns=list(columns)) if labels else None
    counts = Counter(run.state for run in runs)
    pressed = labels[:CURVES_AT_FIRST]
    return _section("training", runs=runs, counts=counts, spec=spec, labels=labels, pressed=pressed, columns=columns)


def results_section(groups: Sequence[Group], complaints: Sequence[str] = ()) -> str:
    """Returns the rows' tables, charts, clips, protocol and data; those of one protocol beside each other."""
    blocks = [(group, _charts(group), {record.row: _clips(record) for record in group.rows}) for group in groups]
    return _section("results", blocks=blocks, complaints=complaints)


def experiments_section(experiments: Sequence[Experiment], reason: str) -> str:
    """Returns the experiments with what each changed, and two of them to compare; or the `reason` for none."""
    by_name = {experiment.name: experiment for experiment in experiments}
    errors = list(dict.fromkeys(name for e in experiments for name in e.metrics if name.endswith(" mpjpe_mm")))
    header = ("experiment", "state", "created", "changed", *(name.removesuffix("_mm") for name in errors))
    cells = [_experiment_cells(experiment, by_name, errors) for experiment in experiments]
    compared = [asdict(experiment) for experiment in experiments]
    return _section("experiments", header=header, cells=cells, compared=compared, reason=reason)


def _section(name: str, **values: object) -> str:
    """Returns what the macro `name` of sections.html makes of the values."""
    return str(getattr(TEMPLATES.get_template("sections.html").module, name)(**values))


def _vega_libraries() -> str:
    """Returns <script> elements of vega, vega-lite and vega-embed with their licences: those of `dvc plots show`."""
    _, _, rest = viewer_asset("dvc_plots.html").partition(VEGA_START)
    libraries, _, _ = rest.partition(VEGA_END)
    return libraries.partition("-->")[2].strip()


def _charts(group: Group) -> list[Chart]:
    rows = {record.row: record.metrics for record in group.rows}
    scores = {row: metrics.mpjpe_mm.values() for row, metrics in rows.items()}
    actions = {row: _means(metrics.per_action) for row, metrics in rows.items()}
    joints = {row: _means(metrics.per_joint) for row, metrics in rows.items()}
    note = "Dots: mean over the runs; bars: one standard deviation to either side."
    return [
        Chart(
            "The runs' test MPJPE",
            "A tick for each run, a dot for their mean. Over all actions, as in the table.",
            scores_of_runs(scores, title="MPJPE, mm"),
        ),
        _distribution_chart(group.rows),
        Chart("MPJPE per action", note, group_errors(actions, title="MPJPE, mm")),
        Chart("MPJPE per joint", f"Averaged like the table. {note}", group_errors(joints, title="error, mm")),
    ]


def _means(groups: Mapping[str, Metrics] | Mapping[str, JointError]) -> dict[str, Means]:
    return {name: values.mpjpe_mm.model_dump() for name, values in groups.items()}


def _distribution_chart(records: Sequence[RowRecord]) -> Chart:
    """Runs are pooled, frames count alike: this is not the table's average over actions, and the note says so."""
    counts, beyond = {}, {}
    for record in records:
        runs = [run.frame_mpjpe_mm for run in record.distributions.runs.values()]
        counts[record.row] = [sum(bin_counts) for bin_counts in zip(*(run.counts for run in runs), strict=True)]
        beyond[record.row] = sum(run.beyond for run in runs)
    edges_mm = records[0].distributions.edges_mm
    left = ", ".join(f"{row} {100 * beyond[row] / (sum(counts[row]) + beyond[row]):.2f} %" for row in counts)
    bins = f"in bins of {edges_mm[1] - edges_mm[0]:g} mm. At {edges_mm[-1]:g} mm or more: {left}."
    spec = distribution(counts, edges_mm=edges_mm, beyond=beyond)
    return Chart("Error distribution", f"All scored frames of all runs alike, {bins}", spec)


def _clips(record: RowRecord) -> list[Markup]:
    return [viewer_element(scene) for scene in clip_scenes(record.row, record.scenes)]


def _experiment_cells(
    experiment: Experiment, by_name: Mapping[str, Experiment], errors: Sequence[str]
) -> tuple[str, ...]:
    baseline = by_name.get(experiment.baseline or "")  # none for a commit, and where DVC cannot read the commit
    changed = {} if baseline is None else find_differences(baseline.params, experiment.params)
    words = ", ".join(f"{name} {_word(value)}" for name, (_, value) in changed.items()) or "–"
    numbers = (experiment.metrics.get(name) for name in errors)
    state = experiment.state or ("workspace" if not experiment.created else "done" if experiment.baseline else "commit")
    cells = ("–" if number is None else f"{number:.2f}" for number in numbers)
    return (experiment.name, state, experiment.created.replace("T", " ") or "now", words, *cells)


def _word(value: object) -> str:
    return "–" if value is None else json.dumps(value) if isinstance(value, list | bool) else str(value)
