"""Tool doctor: says which raw files of a dataset are there and which are missing, and where their owner has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.prepare_data.licensed import human36m, humaneva, mpi_inf_3dhp
from pipeline.prepare_data.licensed.raw_files import Need, RawDataset, RawFiles
from pipeline.system.errors import UserError

DATASETS: dict[str, RawDataset] = {
    "h36m": human36m.RAW_DATASET,
    "humaneva": humaneva.RAW_DATASET,
    "mpi_inf_3dhp": mpi_inf_3dhp.RAW_DATASET,
}


def examine(name: str, raw_folder: Path) -> tuple[list[str], bool]:
    """Returns the findings, a line each, and whether every row of the dataset can be prepared as published.

    Raises UserError for an unknown dataset.
    """
    if name not in DATASETS:
        raise UserError(f"dataset: expected one of {', '.join(DATASETS)}, found '{name}'")
    dataset = DATASETS[name]
    folder = raw_folder / dataset.folder
    lines = [f"{dataset.title} in {folder}" + ("" if folder.is_dir() else ", which is not there"), ""]
    missing = []
    for need in dataset.needs:
        found = {files.pattern: dataset.find(folder, files.pattern) for files in need.files}
        lines.extend(_describe_need(need, found))
        if not _is_met(need, found) and not need.optional:
            missing.append(need.what)
    lines.append("")
    if missing:
        return [*lines, f"Missing: {', '.join(missing)}. See {dataset.page}."], False
    try:
        differences = dataset.check(folder)
    except UserError as error:
        return [*lines, f"Damaged or of another dataset: {error}"], False
    if differences:
        return [*lines, "Not as the dataset is known to be:", *(f"  {line}" for line in differences)], False
    return [*lines, "Takes and frames are as the dataset is known to be."], True


def _is_met(need: Need, found: dict[str, list[Path]]) -> bool:
    present = [bool(found[files.pattern]) for files in need.files]
    return any(present) if need.any_one else all(present)


def _describe_need(need: Need, found: dict[str, list[Path]]) -> Iterator[str]:
    state = "there" if _is_met(need, found) else "missing, not needed" if need.optional else "MISSING"
    choice = ", one of" if need.any_one and len(need.files) > 1 else ""
    yield f"{need.what} (for {need.needed_for}{choice}): {state}"
    for files in need.files:
        if paths := found[files.pattern]:
            yield f"  found    {files.pattern}: {_describe_amount(files, paths)}"
        elif not (need.any_one and _is_met(need, found)):
            yield f"  missing  {files.pattern}: {files.content}"
            yield f"           from {files.origin}"
            yield f"           terms: {files.terms}"


def _describe_amount(files: RawFiles, paths: list[Path]) -> str:
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    count = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    known = "" if files.expected in (None, len(paths)) else f" of {files.expected}"
    return f"{count}{known}, {megabytes:.1f} MB"
