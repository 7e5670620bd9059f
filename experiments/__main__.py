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

COMPARISONS, GENERALISATION = Path("experiments/comparisons"), Path("experiments/generalisation")
PARAMS, RAW = Path("params.yaml"), Path("data/raw")


@app.command("compare")
def compare(row: Annotated[str, typer.Argument(help="A row of experiments/comparisons/rows.yaml.")]) -> None:
    """Prepares a row of the comparisons, trains its runs and scores them."""
    from experiments.comparisons.compare import Paths, compare

    paths = Paths(COMPARISONS / "rows.yaml", PARAMS, RAW, work=Path(".work"))
    compare(row, paths, out=COMPARISONS / "results" / f"{row}.json")


@app.command("training_cost")
def training_cost() -> None:
    """Measures the CPU seconds of a run of each row of the comparisons."""
    from experiments.comparisons.compare import Paths
    from experiments.comparisons.cost import training_cost

    paths = Paths(COMPARISONS / "rows.yaml", PARAMS, RAW, work=Path(".work"))
    training_cost(paths, out=COMPARISONS / "cost.json")


@app.command("comparisons_report")
def comparisons_report() -> None:
    """Writes the page of the comparisons and its figure."""
    from experiments.comparisons.report import comparisons_report

    comparisons_report(COMPARISONS)


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

    generalisation_report(rows, results=GENERALISATION / "results", reports=Path("reports"), out=GENERALISATION)


@app.command("bench")
def bench(
    out: Annotated[Path, typer.Option(help="Folder for <machine>.json and <machine>.md.")] = Path("reports/benchmarks"),
    params: Annotated[Path, typer.Option("--params", help="The parameters file.")] = PARAMS,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, tf32 or bf16")] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the models.")] = False,
    turns: Annotated[int, typer.Option(help="How often what is compared is measured.", min=1)] = 3,
    only: Annotated[str | None, typer.Option(help="models, lift_speed or lift_accuracy, not all three")] = None,
) -> None:
    """Measures what training, evaluation and lifting cost on this machine, and how well lifting does."""
    from experiments.speed.bench import bench
    from pipeline.config.params import Params, load_params, validated

    options = {"device": device, "precision": precision, "compile": "default" if compiled else "none"}
    chosen = validated(Params, load_params(params).model_dump() | options, where="options")
    for path in bench(out, chosen, turns=turns, only=only):
        print(path)


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
