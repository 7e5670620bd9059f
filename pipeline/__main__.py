"""The command line: one command per stage. Bad data or parameters end in one line and exit code 2."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.checkpoints import commands
from pipeline.lift.command import detector_model, lift, live
from pipeline.system.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command("lift")(lift)
app.command("live")(live)
app.command("detector-model")(detector_model)
app.command("checkpoints")(commands.checkpoints)
app.command("fetch")(commands.fetch)
app.command("import-checkpoint")(commands.import_checkpoint)
app.command("evaluate")(commands.evaluate)
app.command("show")(commands.show)
app.command("export-onnx")(commands.export_onnx)


def _print_version(asked: bool) -> bool:
    if asked:
        print(version("poselift"))
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Lift 2D human keypoints to 3D poses: a reproducible experiment pipeline."""


# Why the system refuses to write where it was told to: for the reader of one line, not an error of the program.
UNWRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
)

Folder = Annotated[Path, typer.Argument(file_okay=False)]
Params = Annotated[Path, typer.Option("--params", help="The parameters file.")]
Work = Annotated[Path | None, typer.Option(envvar="POSELIFT_WORK", help="Where unfinished runs keep their state.")]


@app.command("prepare_data")
def prepare_data(
    row: Annotated[str, typer.Argument(help="<dataset>-<keypoints>-f<frames>-<model>")],
    out: Folder,
    params: Params = Path("params.yaml"),
    raw: Annotated[Path, typer.Option(help="Folder of the raw datasets.")] = Path("data/raw"),
) -> None:
    """Raw files -> prepared clips of a row."""
    from pipeline.config.params import read_params
    from pipeline.config.rows import parse_row

    parse_row(row)
    read_params(params)  # like the row's name here, before torch is loaded, which takes seconds
    from pipeline.prepare_data.stage import prepare_data

    prepare_data(row, out, params_path=params, raw_folder=raw)


@app.command("train")
def train(
    prepared: Folder,
    out: Folder,
    seed: Annotated[int | None, typer.Option(help="Train this run alone, into OUT.", min=0)] = None,
    beside: Annotated[
        bool,
        typer.Option("--beside", help="With --seed: train the runs of the other seeds too, for their stages."),
    ] = False,
    params: Params = Path("params.yaml"),
    work: Work = None,
) -> None:
    """Prepared clips -> a trained run for each of the seeds in the parameters, into OUT/run<seed>, side by side."""
    from pipeline.config.params import read_params
    from pipeline.train.runs import train_beside, train_row, train_run

    work_folder = work or _work_folder()
    if seed is None:
        train_row(prepared, out, seeds=read_params(params).seeds, work_folder=work_folder)
    elif beside:
        train_beside(prepared, out, seed=seed, seeds=read_params(params).seeds, work_folder=work_folder)
    else:
        train_run(prepared, out, seed=seed, work_folder=work_folder)


@app.command("debug")
def debug(
    question: Annotated[Literal["overfit", "nan", "profile"], typer.Argument(help="What to find out.")],
    prepared: Folder,
    seed: Annotated[int, typer.Option(help="Of the run.", min=0)] = 0,
    work: Work = None,
) -> None:
    """Can a run learn one batch by heart, where is its first NaN, what takes its time? Writes nothing."""
    from pipeline.train.debug import debug

    for line in debug(question, prepared, seed=seed, work_folder=work or _work_folder()):
        print(line, flush=True)


@app.command("evaluate_5runs")
def evaluate_5runs(
    prepared: Folder,
    checkpoints: Folder,
    params: Params = Path("params.yaml"),
    reports: Path = Path("reports"),
) -> None:
    """Trained runs and the test split -> metrics."""
    from pipeline.config.params import EvaluationConfig, read_params
    from pipeline.config.rows import refuse_missing_checkpoint
    from pipeline.config.values import validated
    from pipeline.system.files import read_yaml

    seeds, config = read_params(params).seeds, prepared / "evaluation.json"
    row = validated(EvaluationConfig, read_yaml(config), where=str(config)).row
    for seed in seeds:
        refuse_missing_checkpoint(checkpoints / f"run{seed}")
    from pipeline.evaluate_5runs.stage import evaluate_5runs
    from pipeline.tracking.pictures import track_evaluation_pictures

    evaluate_5runs(prepared, checkpoints, seeds=seeds, reports=reports, work_folder=_work_folder())
    track_evaluation_pictures(row, reports=reports, folder=_work_folder().parent)


@app.command("report")
def report(
    params: Params = Path("params.yaml"),
    dvc_yaml: Path = Path("dvc.yaml"),
    reports: Path = Path("reports"),
    prepared: Path = Path("data/prepared"),
) -> None:
    """Metrics of the listed rows -> the results table, its figure, and a page of all."""
    from pipeline.report.stage import report

    report(params_path=params, dvc_yaml=dvc_yaml, reports=reports, prepared=prepared)


@app.command("readme")
def readme(path: Path = Path("README.md"), results: Path = Path("reports/results.md")) -> None:
    """Put the results table into the README."""
    from pipeline.report.stage import readme_with_results
    from pipeline.system.files import write_text

    for file in (path, results):
        if not file.is_file():
            raise UserError(f"{file}: expected a text file, found none")
    write_text(path, readme_with_results(path.read_text(encoding="utf-8"), results.read_text(encoding="utf-8")))


@app.command("board")
def board(
    out: Annotated[Path | None, typer.Option(help="Write one .html file instead of starting a page.")] = None,
    port: Annotated[
        int, typer.Option(envvar="POSELIFT_PORT", help="Of the page on 127.0.0.1; 0: a free one.", min=0, max=65535)
    ] = 8080,
) -> None:
    """What runs, what came out and what was changed for it, as a page that follows; no account, no network."""
    from pipeline.report.board import board_server, write_board

    root = Path(os.environ.get("DVC_ROOT", "."))
    if out is not None:
        print(write_board(root, out))
        return
    with board_server(root, port) as server:
        print(f"the board is at http://127.0.0.1:{server.server_port}, until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("closed")


@app.command("dashboard")
def dashboard(
    entity: Annotated[str | None, typer.Option(envvar="WANDB_ENTITY", help="The user or team in W&B.")] = None,
    project: Annotated[str, typer.Option(envvar="WANDB_PROJECT", help="The project in W&B.")] = "poselift",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent; needs no account.")] = False,
    results: Path = Path("reports/results.md"),
) -> None:
    """Make the project's workspace and a report of the result in Weights & Biases."""
    from pipeline.tracking.dashboard import dashboard_spec, save_dashboard

    if dry_run:
        print(dashboard_spec(results, entity=entity or "ENTITY", project=project))
        return
    if entity is None:
        raise UserError("--entity: expected the user or team in W&B, or $WANDB_ENTITY, found none")
    for address in save_dashboard(results, entity=entity, project=project):
        print(address)


@app.command("doctor")
def doctor(
    dataset: Annotated[str, typer.Argument(help="h36m, humaneva or mpi_inf_3dhp")],
    raw: Annotated[Path, typer.Option(help="Folder of the raw datasets.")] = Path("data/raw"),
) -> None:
    """What of a dataset is in data/raw, what is missing, and where its owner distributes it."""
    from pipeline.prepare_data.doctor import examine

    lines, whole = examine(dataset, raw)
    print("\n".join(lines))
    raise typer.Exit(0 if whole else 1)


@app.command("export")
def export(
    dataset: Annotated[str, typer.Argument(help="h36m, humaneva or mpi_inf_3dhp")],
    out: Folder,
    keypoints: Annotated[list[str], typer.Option(help="2D keypoints to write too; may be repeated.")] = ["gt"],  # noqa: B006
    raw: Annotated[Path, typer.Option(help="Folder of the raw datasets.")] = Path("data/raw"),
) -> None:
    """Raw files -> the archives that other people's code reads, such as data_3d_h36m.npz and data_2d_h36m_gt.npz."""
    from pipeline.prepare_data.licensed import human36m_files, humaneva_files, mpi_inf_3dhp_files

    writers = {
        "h36m": human36m_files.write_archives,
        "humaneva": humaneva_files.write_archives,
        "mpi_inf_3dhp": mpi_inf_3dhp_files.write_archives,
    }
    if dataset not in writers:
        raise UserError(f"dataset: expected one that can be exported, {', '.join(writers)}, found '{dataset}'")
    if out.exists():  # it would be replaced, with all that lies in it: raw files, say
        raise UserError(f"{out}: expected a new folder, found one that exists")
    writers[dataset](raw / dataset, out, keypoints=keypoints)


def _work_folder() -> Path:
    """In the repository that DVC was called in, also when it runs an experiment in a temporary copy of it."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".work"


def main() -> None:
    """Entry point of `poselift` and `python -m pipeline`."""
    for stream in (sys.stdout, sys.stderr):  # letters that the locale lacks are written as their codes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app()
    except UserError as error:
        print(f"poselift: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        print(f"poselift: {error.strerror}: {error.filename or 'while writing'}", file=sys.stderr)
        raise SystemExit(1) from None
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        asked = re.search(r"(tried|unable) to allocate \S+ \w+", str(error), flags=re.IGNORECASE)
        said = f" ({asked[0]})" if asked else ""
        hint = "micro_batches in params.yaml takes the batches of a training in parts"
        print(f"poselift: out of memory{said}; {hint}", file=sys.stderr)
        raise SystemExit(1) from None


def _out_of_memory(error: Exception) -> bool:
    """Whether memory was refused: torch has an error of its own for a GPU, and words for the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error)


if __name__ == "__main__":
    main()
