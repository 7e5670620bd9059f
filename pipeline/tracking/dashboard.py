"""The project's page in Weights & Biases as code: a workspace that follows the runs, and a report of the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from pipeline.poses.metrics import METRIC_TITLES
from pipeline.system.errors import UserError, reason
from pipeline.tracking.run import EPOCH_METRICS

TITLE = "Poselift"
RUN_CURVES = {
    "val_mpjpe_mm": "validation MPJPE, mm",
    "val_p_mpjpe_mm": "validation P-MPJPE, mm",
    "train_mpjpe_mm": "train MPJPE, mm",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
PINNED = ("run:displayName", "run:group", "tags:__ALL__")  # columns of the table of runs
TRAINING_COLUMNS = ("summary:val/mpjpe_mm.min", "summary:val/mpjpe_mm_of_weights", "summary:epoch_of_weights")
HALF = 12  # of the 24 columns of a panel's grid
HEIGHT = 8
ABOUT = (
    "2D keypoints of a person over time, lifted to 3D. Errors in mm. Runs of one row are a group, one run per seed: "
    "lines are their mean, bands go from the lowest run to the highest."
)


def workspace(*, entity: str, project: str) -> ws.Workspace:
    """Learning curves by row, test scores and pictures. Raises pydantic's ValidationError if the library refuses it."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[
            ws.Section("Learning curves", panels=curve_panels(), is_open=True),
            ws.Section("Test split", panels=score_panels(), is_open=True),
            ws.Section("Poses", panels=[_pictures()], is_open=True),
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", remove_legends_from_panels=False),
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Config("row")], order=[ws.Ordering(ws.Metric("CreatedTimestamp"))]
        ),
    )


def result_report(results: str, *, entity: str, project: str) -> wr.Report:
    """The table as the repository has it, `results` in Markdown, above the charts of the runs."""
    training = wr.Runset(
        name="training", filters="JobType = 'train'", groupby=["group"], pinned_columns=[*PINNED, *TRAINING_COLUMNS]
    )
    scoring = wr.Runset(
        name="evaluation",
        filters="JobType = 'evaluate_5runs'",
        pinned_columns=[*PINNED, *(f"summary:test/{metric}" for metric in METRIC_TITLES)],
    )
    return wr.Report(
        project=project,
        entity=entity,
        title=f"{TITLE}: results",
        description=ABOUT,
        width="fluid",
        blocks=[
            wr.TableOfContents(),
            wr.MarkdownBlock(results),
            wr.H1("Training"),
            wr.P(ABOUT),
            wr.PanelGrid(runsets=[training], panels=curve_panels()),
            wr.H1("Test split"),
            wr.PanelGrid(runsets=[scoring], panels=score_panels()),
            wr.H1("Poses"),
            wr.PanelGrid(runsets=[training], panels=[_pictures()]),
        ],
    )


def curve_panels() -> list[Any]:
    """A line for each row over the epochs, in its band."""
    return [
        wr.LinePlot(
            title=title,
            x="epoch",
            y=[EPOCH_METRICS[column]],
            title_x="epoch",
            groupby="row",  # of the configuration
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            layout=wr.Layout(x=(place % 2) * HALF, y=place // 2 * HEIGHT, w=HALF, h=HEIGHT),
        )
        for place, (column, title) in enumerate(RUN_CURVES.items())
    ]


def score_panels() -> list[Any]:
    """Bars of the rows' test scores, and their table per action."""
    bars = [
        wr.BarPlot(
            title=f"test {name}",
            metrics=[f"test/{metric}"],
            layout=wr.Layout(x=(place % 2) * HALF, y=place // 2 * HEIGHT, w=HALF, h=HEIGHT),
        )
        for place, (metric, name) in enumerate(METRIC_TITLES.items())
    ]
    table = wr.WeavePanelSummaryTable(
        table_name="test/per_action", layout=wr.Layout(x=0, y=2 * HEIGHT, w=2 * HALF, h=HEIGHT)
    )
    return [*bars, table]


def _pictures() -> Any:
    return wr.MediaBrowser(
        title="predicted and true poses",
        media_keys=["prediction"],
        layout=wr.Layout(x=0, y=0, w=2 * HALF, h=2 * HEIGHT),
    )


def dashboard_spec(results_path: Path, *, entity: str, project: str) -> str:
    """What would be sent to W&B, as JSON. Raises UserError if there are no results."""
    report = result_report(_read(results_path), entity=entity, project=project)
    models = {"workspace": workspace(entity=entity, project=project)._to_model(), "report": report._to_model()}
    return json.dumps({name: json.loads(model.model_dump_json()) for name, model in models.items()}, indent=2)


def save_dashboard(results_path: Path, *, entity: str, project: str) -> Iterator[str]:
    """Make the workspace and the report; gives the address of each.

    Raises UserError if there are no results, or W&B cannot be reached or refuses.
    """
    report = result_report(_read(results_path), entity=entity, project=project)
    try:
        yield workspace(entity=entity, project=project).save().url
        yield report.save(draft=False).url
    except Exception as error:  # of wandb: UsageError without a key, CommError, AuthenticationError, ...
        raise UserError(f"W&B: expected to save the dashboard, found {reason(error)}") from error


def _read(results_path: Path) -> str:
    try:
        return results_path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{results_path}: expected the results, found none; run dvc repro") from error
