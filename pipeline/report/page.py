"""The result as one HTML page that needs nothing else: tables, charts, playable clips, protocol, data, commands."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from pydantic import ConfigDict

from pipeline.config.params import Values
from pipeline.poses.row_metrics import ExampleClips, JointError, Metrics, RowDistributions, RowMetrics
from pipeline.visualization.charts import distribution, group_errors, learning_curves
from pipeline.visualization.scene import clip_scenes
from pipeline.visualization.viewer import viewer_asset, viewer_element, viewer_parts

LIBRARIES_START, LIBRARIES_END = "<!-- vega: start.", "<!-- vega: end -->"
COMMANDS = """git clone <this repository> poselift && cd poselift
make results                 # environment, data, training, evaluation, this page
dvc pull && dvc repro        # the trained checkpoints as they are; nothing is left to run
dvc exp run -S frames=81     # another row
dvc plots show               # learning curves and errors per action, without a network"""


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
    """Figures of others: a remark on what they are, and their table."""

    remark: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]


def results_page(groups: Sequence[Group], published: Published) -> str:
    """The page. The same input gives the same text."""
    parts = viewer_parts()
    content = [_head(groups)]
    content += [_group(group, number) for number, group in enumerate(groups)]
    content += [_published(published), _data(groups), _commands()]
    page = Template(asset("results.html"))
    return page.substitute(
        content="\n".join(content),
        css=asset("results.css"),
        charts_js=asset("charts.js"),
        vega=vega_libraries(),
        viewer_css=parts.css,
        viewer_js=parts.js,
    )


def vega_libraries() -> str:
    """The <script> elements of vega, vega-lite and vega-embed with their licences, from the template of `dvc plots`."""
    _, _, rest = viewer_asset("dvc_plots.html").partition(LIBRARIES_START)
    libraries, _, _ = rest.partition(LIBRARIES_END)
    return libraries.partition("-->")[2].strip()


def chart_element(spec: Mapping[str, Any], *, label: str) -> str:
    """HTML that the page's script turns into a chart."""
    data = html.escape(json.dumps(spec, separators=(",", ":"), allow_nan=False))
    return f'<div class="chart" role="img" aria-label="{html.escape(label)}" data-spec="{data}"></div>'


def _head(groups: Sequence[Group]) -> str:
    links = [f'<a href="#rows-{number}">{html.escape(group.title)}</a>' for number, group in enumerate(groups)]
    links += [
        f'<a href="#{name}">{words}</a>'
        for name, words in (("published", "published by others"), ("data", "data"), ("again", "run it again"))
    ]
    return (
        "<header><h1>Poselift results</h1><p>2D keypoints of a person over time, lifted to 3D. Errors in mm; "
        "mean ± sample standard deviation over the runs, one run per seed.</p>"
        f"<nav>{''.join(links)}</nav></header>"
    )


def _group(group: Group, number: int) -> str:
    per_action, per_joint, errors = error_cards(group)
    cards = "".join((per_action, per_joint, _curves_card(group), errors))
    return (
        f'<section id="rows-{number}"><h2>{html.escape(group.title)}</h2>'
        f'<div class="card scroll">{table(group.header, group.cells)}</div><div class="pair">{cards}</div>'
        f"{clips_and_protocol(group)}</section>"
    )


def error_cards(group: Group) -> tuple[str, str, str]:
    """Cards of the errors per action, per joint, and of how they are distributed, for all rows of the group."""
    rows = {record.row: record for record in group.rows}
    per_action = {row: _means(record.metrics.per_action) for row, record in rows.items()}
    per_joint = {row: _means(record.metrics.per_joint) for row, record in rows.items()}
    note = "Test split. Dots: mean over the runs; bars: one standard deviation to either side."
    return (
        card("MPJPE per action", note, group_errors(per_action, title="MPJPE, mm")),
        card("MPJPE per joint", "Test split, averaged like the table.", group_errors(per_joint, title="error, mm")),
        _distribution_card(rows),
    )


def clips_and_protocol(group: Group) -> str:
    """The chosen clips of every row to play, and the protocol that the rows share."""
    protocol = "".join(
        f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in group.protocol.items()
    )
    clips = "".join(_clips(record) for record in group.rows)
    return f'{clips}<h3>Protocol</h3><div class="card"><dl>{protocol}</dl></div>'


def _curves_card(group: Group) -> str:
    curves = {record.row: record.curves for record in group.rows}
    validated = any(record["val_mpjpe_mm"] is not None for records in curves.values() for record in records)
    column, split = ("val_mpjpe_mm", "validation") if validated else ("train_mpjpe_mm", "train")
    note = f"On the {split} split. Lines: mean of the runs; bands: from the lowest run to the highest."
    return card("Learning curves", note, learning_curves(curves, column=column, title="MPJPE, mm"))


def _means(groups: Mapping[str, Metrics] | Mapping[str, JointError]) -> dict[str, Any]:
    return {name: values.mpjpe_mm.model_dump() for name, values in groups.items()}


def card(title: str, note: str, spec: Mapping[str, Any]) -> str:
    """A chart under its title and a note on how to read it."""
    return f'<div class="card"><h3>{title}</h3><p>{html.escape(note)}</p>{chart_element(spec, label=title)}</div>'


def _distribution_card(rows: Mapping[str, RowRecord]) -> str:
    """Runs are pooled, frames count alike: this is not the table's average over actions, and the note says so."""
    counts, beyond = {}, {}
    for row, record in rows.items():
        runs = [run.frame_mpjpe_mm for run in record.distributions.runs.values()]
        counts[row] = [sum(bin_counts) for bin_counts in zip(*(run.counts for run in runs), strict=True)]
        beyond[row] = sum(run.beyond for run in runs)
    edges_mm = next(iter(rows.values())).distributions.edges_mm
    left = ", ".join(f"{row} {100 * beyond[row] / (sum(counts[row]) + beyond[row]):.2f} %" for row in rows)
    bins = f"in bins of {edges_mm[1] - edges_mm[0]:g} mm. At {edges_mm[-1]:g} mm or more: {left}."
    note = f"All scored frames of all runs alike, {bins}"
    return card("Error distribution", note, distribution(counts, edges_mm=edges_mm, beyond=beyond))


def _clips(record: RowRecord) -> str:
    viewers = "".join(viewer_element(scene) for scene in clip_scenes(record.row, record.scenes))
    return (
        f"<h3>Clips of {html.escape(record.row)}</h3>"
        f'<p class="note">{html.escape(record.scenes.chosen)}</p><div class="clips">{viewers}</div>'
    )


def _published(published: Published) -> str:
    return (
        f'<section id="published"><h2>Published by others</h2><p class="note">{html.escape(published.remark)}</p>'
        f'<div class="card scroll">{table(published.header, published.cells)}</div></section>'
    )


def _data(groups: Sequence[Group]) -> str:
    return f'<section id="data"><h2>Data</h2>{"".join(_manifest(r) for group in groups for r in group.rows)}</section>'


def _manifest(record: RowRecord) -> str:
    manifest = record.manifest
    counts = [
        (split, *(f"{number:,}" for number in (own.takes, own.clips, own.frames)))
        for split, own in manifest.splits.items()
    ]
    hashes = "".join(
        f"<tr><td>{html.escape(name)}</td><td><code>{html.escape(digest)}</code></td></tr>"
        for name, digest in manifest.sha256.items()
    )
    return (
        f'<div class="card"><h3>{html.escape(record.row)}</h3>'
        f'<div class="scroll">{table(("split", "takes", "clips", "frames"), counts)}</div>'
        f"<p>Dropped frames: {manifest.dropped_frames.total:,}.</p>"
        '<details><summary>SHA-256 of the prepared files</summary><div class="scroll">'
        f"<table><tbody>{hashes}</tbody></table></div></details></div>"
    )


def _commands() -> str:
    return (
        f'<section id="again"><h2>Run it again</h2><div class="card"><pre>{html.escape(COMMANDS)}</pre></div></section>'
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; the cells are text."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def asset(name: str) -> str:
    """The text of a file in pipeline/report/templates."""
    return (files("pipeline.report") / "templates" / name).read_text(encoding="utf-8")
