"""The command line of the experiments: one command per stage of experiments/*/dvc.yaml, and the benchmark."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.config.rows import parse_row
from pipeline.system.errors import UserError

if TYPE_CHECKING:
    from experiments.comparisons.compare import Paths

app = typer.Typer(
    help="What shows how good, how fast and how general the models are.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

COMPARISONS, GENERALISATION = Path("experiments/comparisons"), Path("experiments/generalisation")
COMPUTE, REAL_VIDEO = Path("experiments/compute"), Path("experiments/real_video")
PARAMS, RAW, BENCHMARKS = Path("params.yaml"), Path("data/raw"), Path("reports/benchmarks")


def _paths(rows: Path) -> Paths:
    """Returns where the rows of a file come from, and where they are worked on."""
    from experiments.comparisons.compare import Paths

    return Paths(rows, PARAMS, RAW, work=Path(".work"))


@app.command("compare")
def compare(row: Annotated[str, typer.Argument(help="A row of experiments/comparisons/rows.yaml.")]) -> None:
    """Prepares a row of the comparisons, trains its runs and scores them."""
    from experiments.comparisons.compare import compare

    compare(row, _paths(COMPARISONS / "rows.yaml"), out=COMPARISONS / "results" / f"{row}.json")


@app.command("training_cost")
def training_cost() -> None:
    """Measures the CPU seconds of a run of each row of the comparisons."""
    from experiments.comparisons.cost import training_cost

    training_cost(_paths(COMPARISONS / "rows.yaml"), out=COMPARISONS / "cost.json")


@app.command("comparisons_report")
def comparisons_report() -> None:
    """Writes the page of the comparisons and its figure."""
    from experiments.comparisons.report import comparisons_report

    comparisons_report(COMPARISONS)


@app.command("step_cost")
def step_cost() -> None:
    """Measures what a training step of each network of experiments/compute costs."""
    from experiments.compute.measure import step_cost

    step_cost(_paths(COMPUTE / "curves.yaml"), out=COMPUTE / "cost.json")


@app.command("choose_rate")
def choose_rate(row: Annotated[str, typer.Argument(help="Such as mocap-det-f27-rayformer.")]) -> None:
    """Trains a row with each of the rates and writes which does best on validation takes."""
    from experiments.compute.measure import choose_rate
    from experiments.compute.settings import read_step_costs

    (cost,) = read_step_costs(COMPUTE / "cost.json", [parse_row(row).model]).values()
    paths = _paths(COMPUTE / "curves.yaml")
    choose_rate(row, cost, paths, out=COMPUTE / "rates" / f"{row}.json")


@app.command("curve")
def curve(
    row: Annotated[str, typer.Argument(help="Such as mocap-det-f27-rayformer.")],
    minutes: Annotated[int, typer.Argument(help="A budget of experiments/compute/curves.yaml.")],
) -> None:
    """Trains a row's runs for so many CPU minutes and scores them."""
    from experiments.compute.measure import curve
    from experiments.compute.settings import read_rate, read_step_costs

    (cost,) = read_step_costs(COMPUTE / "cost.json", [parse_row(row).model]).values()
    factor = read_rate(COMPUTE / "rates" / f"{row}.json").factor
    paths = _paths(COMPUTE / "curves.yaml")
    curve(row, minutes, cost, paths, factor=factor, out=COMPUTE / "results" / f"{row}-{minutes}.json")


@app.command("curves_report")
def curves_report() -> None:
    """Writes the page of error against compute and its figure."""
    from experiments.compute.report import curves_report

    curves_report(COMPUTE)


@app.command("generalise")
def generalise(
    row: Annotated[str, typer.Argument(help="A row of motion capture, such as mocap-det-f27-rayformer.")],
) -> None:
    """Scores a row's runs on test takes filmed under conditions that training did not have."""
    from experiments.generalisation.measure import generalise
    from pipeline.config.params import load_params

    params = load_params(PARAMS)
    generalise(
        row,
        seeds=params.seeds,
        raw=[RAW / folder for folder in params.datasets.mocap.folders],
        prepared=Path("data/prepared"),
        checkpoints=Path("data/checkpoints"),
        out=GENERALISATION / "results",
    )


@app.command("generalisation_report")
def generalisation_report(
    rows: Annotated[list[str], typer.Argument(help="The rows to show beside each other.")],
) -> None:
    """Writes the page of what was measured under other conditions, and its figures."""
    from experiments.generalisation.report import generalisation_report

    generalisation_report(rows, results=GENERALISATION / "results", out=GENERALISATION)


@app.command("detect_real_video")
def detect_real_video() -> None:
    """Downloads a video of four cameras and detects the keypoints of its people."""
    from experiments.real_video.detect import detect

    detect(REAL_VIDEO / "detections.npz")


@app.command("real_video_reference")
def real_video_reference() -> None:
    """Triangulates where the people of the video were."""
    from experiments.real_video.reference import make_reference

    make_reference(REAL_VIDEO / "detections.npz", REAL_VIDEO / "reference.npz")


@app.command("real_video")
def real_video(
    checkpoint: Annotated[Path | None, typer.Argument(help="A checkpoint's folder, not the shipped one.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write results.json, not only print.")] = False,
) -> None:
    """Prints how far off the lifted people of the video are, beside MediaPipe's own 3D."""
    from experiments.real_video.measure import measure
    from experiments.real_video.report import errors_table, parts_table, steps_table
    from pipeline.lift.lifter import SHIPPED
    from pipeline.system.files import write_json

    trial = measure(checkpoint or SHIPPED, REAL_VIDEO / "detections.npz", REAL_VIDEO / "reference.npz")
    print(errors_table(trial), steps_table(trial), parts_table(trial), sep="\n\n")
    if write:
        write_json(REAL_VIDEO / "results.json", trial.model_dump(mode="json"))


@app.command("real_video_report")
def real_video_report() -> None:
    """Writes the page of the trial on real video, and its table into docs/lift.md."""
    from experiments.real_video.report import real_video_report

    real_video_report(REAL_VIDEO / "results.json", page=REAL_VIDEO / "README.md", guide=Path("docs/lift.md"))


@app.command("bench")
def bench(
    out: Annotated[Path, typer.Option(help="Folder for <machine>.json and <machine>.md.")] = BENCHMARKS,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, tf32 or bf16")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the models.")] = False,
    only: Annotated[
        str | None, typer.Option(help="lift_accuracy, lift_speed, models, scaling, epochs or video")
    ] = None,
) -> None:
    """Measures what training, evaluation and lifting cost on this machine, and how well lifting does."""
    from experiments.speed.bench import bench
    from pipeline.config.params import Params, load_params
    from pipeline.config.values import validated

    options = {"device": device, "precision": precision, "compile": "default" if compiled else "none"}
    chosen = validated(Params, load_params(PARAMS).model_dump() | options, where="options")
    for path in bench(out, chosen, only=only):
        print(path)


@app.command("growth")
def growth() -> None:
    """Measures how the stages and DVC grow with 1, 10 and 100 times the data, and with 2, 10 and 50 rows."""
    from experiments.speed.growth import growth

    growth(BENCHMARKS)


@app.command("sweep")
def sweep(
    file: Annotated[
        Path, typer.Argument(help="What may vary, such as experiments/sweeps/search.yaml.", dir_okay=False)
    ],
    row: Annotated[str, typer.Argument(help="The row whose runs are trained.")] = "mocap-gt-f27-rayformer",
    trials: Annotated[int, typer.Option(help="How many; the same ones come first.", min=1)] = 20,
    seed: Annotated[list[int], typer.Option(help="Of a trial's runs; may be repeated.", min=0)] = [0],  # noqa: B006
) -> None:
    """Searches parameters with Optuna's samplers and DVC's experiments, by the validation takes; needs no account."""
    try:
        from experiments.sweeps.search import run_trial, search
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise UserError("optuna: expected the package, found none: pip install '.[sweep]'") from error
    print(search(file, partial(run_trial, row=row, seeds=seed), trials=trials))


def main() -> None:
    """Entry point of `python -m experiments`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app()
    except UserError as error:
        print(f"experiments: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
