"""The commands on checkpoints: list, fetch, import, evaluate, show and export them.

What is missing is said before torch is loaded, which takes seconds.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from pipeline.config.rows import SHIPPED, parse_row, refuse_missing_checkpoint, refuse_missing_data


def checkpoints(as_json: Annotated[bool, typer.Option("--json", help="With whole hashes.")] = False) -> None:
    """The trained runs: row, seed, test MPJPE, size, hashes, whether they are here, and how they were scored."""
    from pipeline.checkpoints.list import checkpoint_entries, checkpoint_lines, entries_as_json

    entries = checkpoint_entries(Path())
    print(entries_as_json(entries) if as_json else "\n".join(checkpoint_lines(entries)))


def fetch(
    repository: Annotated[str, typer.Argument(help="Of the project: an address that git clones, or a clone's folder.")],
    path: Annotated[str, typer.Argument(help="The checkpoint's folder, in the repository and here.")] = str(SHIPPED),
    revision: Annotated[str | None, typer.Option(help="A branch or tag, instead of the newest commit.")] = None,
) -> None:
    """Bring a checkpoint, the shipped one unless another is named, to where there is no clone of the repository."""
    from pipeline.checkpoints.fetch import fetch

    print(fetch(repository, PurePosixPath(path), revision=revision))


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="What torch.save wrote: .bin, .pth.tr, .pt ...")],
    out: Annotated[Path, typer.Argument(help="The checkpoint folder to make.", file_okay=False)],
    dataset: Annotated[str, typer.Option(help="What the weights were trained on: h36m, humaneva, mpi_inf_3dhp.")],
    keypoints: Annotated[str, typer.Option(help="2D keypoints they were trained on: gt, sh_ft_h36m ...")],
    heads: Annotated[int, typer.Option(help="Attention heads; the file does not tell.", min=1)] = 8,
    in_skeleton: Annotated[str, typer.Option(help="Joint layout of the keypoints.")] = "h36m17",
    out_skeleton: Annotated[str, typer.Option(help="Joint layout of the poses.")] = "h36m17",
) -> None:
    """Public weights of PoseFormer or MotionAGFormer -> a checkpoint folder; nothing in the file is executed."""
    from pipeline.checkpoints.import_checkpoint import Description, import_checkpoint

    import_checkpoint(file, out, Description(dataset, keypoints, heads, in_skeleton, out_skeleton))


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with weights.safetensors and card.json.")],
    row: Annotated[str, typer.Argument(metavar="ROW_OR_FOLDER", help="A row, or a folder of prepared data.")],
    prepared: Annotated[Path, typer.Option(help="Where the prepared data of the rows lie.")] = Path("data/prepared"),
    reports: Path = Path("reports"),
    out: Annotated[Path | None, typer.Option(help="The JSON file, instead of one under reports/evaluations.")] = None,
) -> None:
    """One checkpoint, ours or imported, and the test split of a row -> metrics and their protocol."""
    if not Path(row).is_dir():
        refuse_missing_data(prepared / str(parse_row(row)), row)
    refuse_missing_checkpoint(checkpoint)
    from pipeline.checkpoints.evaluate import evaluate

    print(evaluate(checkpoint, row, prepared=prepared, reports=reports, out=out))


def show(
    row: Annotated[str, typer.Argument(help="<dataset>-<keypoints>-f<frames>-<model>")],
    action: Annotated[str | None, typer.Option(help="Of the clip, as the dataset calls it.")] = None,
    subject: Annotated[str | None, typer.Option(help="Of the clip.")] = None,
    camera: Annotated[str | None, typer.Option(help="That saw the clip.")] = None,
    take: Annotated[str | None, typer.Option(help="That the clip is of.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test; looking selects nothing.")] = "validation",
    run: Annotated[int, typer.Option(help="Which of the row's runs predicts.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="What to write: .html, .mp4, .gif or .png.")] = None,
    prepared: Annotated[Path, typer.Option(help="Where the prepared data of the rows lie.")] = Path("data/prepared"),
    checkpoints: Annotated[Path, typer.Option(help="Where the rows' runs lie.")] = Path("data/checkpoints"),
) -> None:
    """A clip of a row: prediction beside truth, with the error over time, as a page to turn, a film or a picture."""
    refuse_missing_data(prepared / row, row)
    refuse_missing_checkpoint(checkpoints / row / f"run{run}")
    from pipeline.checkpoints.show import Selection, show

    selection = Selection(action=action, subject=subject, camera=camera, take=take, split=split)
    print(show(row, selection, run=run, prepared=prepared, checkpoints=checkpoints, out=out))


def export_onnx(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with weights.safetensors and card.json.")],
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
) -> None:
    """A trained model -> an ONNX file for other runtimes."""
    refuse_missing_checkpoint(checkpoint)
    from pipeline.checkpoints.onnx import export_onnx

    print(export_onnx(checkpoint, out))
