"""The command line of the experiments: one command per stage of experiments/*/dvc.yaml, and the benchmark."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.system.errors import UserError

app = typer.Typer(
    help="What shows how good, how fast and how general the models are.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(file_okay=False)]
Params = Annotated[Path, typer.Option("--params", help="The parameters file.")]
Rows = Annotated[list[str], typer.Argument(help="Rows, as in the group's dvc.yaml.")]


@app.command("generalise")
def generalise(
    row: Annotated[str, typer.Argument(help="A row of the embedded motion capture, such as cmu-det-f27-rayformer.")],
    params: Params = Path("params.yaml"),
    raw: Annotated[Path, typer.Option(help="Folder of the raw datasets.")] = Path("data/raw"),
    checkpoints: Annotated[Path, typer.Option(help="Where the runs of the rows lie.")] = Path("data/checkpoints"),
    out: Annotated[Path, typer.Option(help="Folder for the record.")] = Path("experiments/generalisation/results"),
) -> None:
    """A row's runs on test takes filmed under conditions that training did not have -> their errors."""
    from experiments.generalisation.measure import generalise

    generalise(row, raw=raw, checkpoints=checkpoints, params_path=params, out=out)


@app.command("generalisation_report")
def generalisation_report(
    rows: Annotated[list[str], typer.Argument(help="The rows to show beside each other.")],
    reports: Path = Path("reports"),
    out: Annotated[Path, typer.Option(help="Folder of the page; results/ lies in it.")] = Path(
        "experiments/generalisation"
    ),
) -> None:
    """What was measured under other conditions -> figures and a page."""
    from experiments.generalisation.report import generalisation_report

    generalisation_report(rows, results=out / "results", reports=reports, out=out)


@app.command("bench")
def bench(
    out: Annotated[Path, typer.Option(help="Folder for <machine>.json and <machine>.md.")] = Path("reports/benchmarks"),
    params: Params = Path("params.yaml"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, tf32 or bf16")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the models.")] = False,
    turns: Annotated[int, typer.Option(help="In which what is compared is measured.", min=1)] = 3,
) -> None:
    """What training and evaluation cost on this machine, beside the published loop and the machine's own limits."""
    from experiments.speed.bench import bench

    print(bench(out, params_path=params, device_name=device, precision=precision, compiled=compiled, turns=turns))


@app.command("training_cost")
def training_cost(prepared: Folder, out: Path, rows: Rows) -> None:
    """Prepared rows -> CPU seconds of a run of each, measured in turns."""
    from experiments.comparisons.cost import training_cost

    training_cost(rows, prepared=prepared, out=out)


@app.command("comparisons_report")
def comparisons_report(rows: Rows, folder: Path = Path("experiments/comparisons")) -> None:
    """Metrics of short runs -> tables of comparisons, and a figure."""
    from experiments.comparisons.report import comparisons_report

    comparisons_report(rows, results=folder / "results", cost=folder / "cost.json", out=folder)


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
