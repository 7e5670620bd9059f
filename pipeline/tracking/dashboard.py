"""Makes the project's page in Weights & Biases: a workspace that follows the runs, and a report of the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports.v2.interface import PanelTypes

from pipeline.poses.metrics import METRIC_TITLES
from pipeline.system.errors import UserError, reason
from pipeline.tracking.run import CURVE_TITLES, EPOCH_METRICS

TITLE = "Poselift"
TABLE_COLUMNS = ("run:displayName", "run:group", "tags:__ALL__")  # of the table of runs
TRAINING_COLUMNS = ("summary:val/mpjpe_mm.min", "summary:val/mpjpe_mm_of_weights", "summary:epoch_of_weights")
GRID_COLUMNS, PANEL_HEIGHT = 24, 8  # of W&B's grid of panels
ABOUT = (
    "2D keypoints of a person over time, lifted to 3D. Errors in mm. Runs of one row are a group, one run per seed: "
    "lines are their mean, bands go from the lowest run to the highest."
)


def workspace(*, entity: str, project: str) -> ws.Workspace:
    """Returns learning curves by row, test scores and pictures.

    Raises pydantic's ValidationError if the library refuses them.
    """
    sections = {"Learning curves": curve_panels(), "Test split": score_panels(), "Poses": picture_panels()}
    newest_last = [ws.Ordering(ws.Metric("CreatedTimestamp"))]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[ws.Section(name, panels=panels, is_open=True) for name, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis="epoch", remove_legends_from_panels=False),
        runset_settings=ws.RunsetSettings(groupby=[ws.Config("row")], order=newest_last),
    )


def result_report(results: str, *, entity: str, project: str) -> wr.Report:
    """Returns the table as the repository has it, `results` in Markdown, above the charts of the runs."""
    training = wr.Runset(
        name="training",
        filters="JobType = 'train'",
        groupby=["group"],
        pinned_columns=[*TABLE_COLUMNS, *TRAINING_COLUMNS],
    )
    evaluation = wr.Runset(
        name="evaluation",
        filters="JobType = 'evaluate_5runs'",
        pinned_columns=[*TABLE_COLUMNS, *(f"summary:test/{metric}" for metric in METRIC_TITLES)],
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
            wr.PanelGrid(runsets=[evaluation], panels=score_panels()),
            wr.H1("Poses"),
            wr.PanelGrid(runsets=[training], panels=picture_panels()),
        ],
    )


def curve_panels() -> list[PanelTypes]:
    """Returns charts with a line for each row over the epochs, in its band."""
    return [
        wr.LinePlot(
            title=title,
            x="epoch",
            y=[EPOCH_METRICS[column]],
            title_x="epoch",
            groupby="row",  # of the configuration
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            layout=_half_width(place),
        )
        for place, (column, title) in enumerate(CURVE_TITLES.items())
    ]


def score_panels() -> list[PanelTypes]:
    """Returns bars of the rows' test scores, and their table per action."""
    bars = [
        wr.BarPlot(title=f"test {name}", metrics=[f"test/{metric}"], layout=_half_width(place))
        for place, (metric, name) in enumerate(METRIC_TITLES.items())
    ]
    layout = wr.Layout(x=0, y=len(bars) // 2 * PANEL_HEIGHT, w=GRID_COLUMNS, h=PANEL_HEIGHT)
    return [*bars, wr.WeavePanelSummaryTable(table_name="test/per_action", layout=layout)]


def picture_panels() -> list[PanelTypes]:
    """Returns the pictures of predicted and true poses."""
    layout = wr.Layout(x=0, y=0, w=GRID_COLUMNS, h=2 * PANEL_HEIGHT)
    return [wr.MediaBrowser(title="predicted and true poses", media_keys=["prediction"], layout=layout)]


def dashboard_spec(results_path: Path, *, entity: str, project: str) -> str:
    """Returns what would be sent to W&B, as JSON. Raises UserError if there are no results."""
    report = result_report(_read_results(results_path), entity=entity, project=project)
    models = {"workspace": workspace(entity=entity, project=project)._to_model(), "report": report._to_model()}
    return json.dumps({name: json.loads(model.model_dump_json()) for name, model in models.items()}, indent=2)


def save_dashboard(results_path: Path, *, entity: str, project: str) -> Iterator[str]:
    """Makes the workspace and the report; yields the address of each.

    Raises UserError if there are no results, or W&B cannot be reached or refuses.
    """
    report = result_report(_read_results(results_path), entity=entity, project=project)
    try:
        yield workspace(entity=entity, project=project).save().url
        yield report.save(draft=False).url
    except Exception as error:  # of wandb: UsageError without a key, CommError, AuthenticationError, ...
        raise UserError(f"W&B: expected to save the dashboard, found {reason(error)}") from error


def _half_width(place: int) -> wr.Layout:
    """Returns where the panel of this number stands, two in a line."""
    width = GRID_COLUMNS // 2
    return wr.Layout(x=place % 2 * width, y=place // 2 * PANEL_HEIGHT, w=width, h=PANEL_HEIGHT)


def _read_results(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: expected the results, found none; run dvc repro") from error
