"""Which trained runs are there: what DVC recorded, what lies in data/checkpoints, and how they scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.poses.checkpoint import WEIGHTS
from pipeline.report.stage import ROW_NAMES_IT, plain
from pipeline.system.errors import BAD_VALUE, UserError, reason
from pipeline.system.files import md5_as_dvc, read_json, read_yaml, sha256_of

FOLDER = "data/checkpoints"
HERE, CHANGED, MISSING, UNKNOWN = "here", "changed since", "dvc pull", "not of DVC"
SHORT_HASH = 12


@dataclass(frozen=True)
class Entry:
    """One run. `md5` is DVC's hash of its folder; `size_bytes` is of the folder, `sha256` of the weights.

    `state`: HERE as recorded in dvc.lock, CHANGED since it was recorded, MISSING but recorded, UNKNOWN to DVC.
    `mpjpe_mm` is the test score where dvc.lock ties it to these very weights, else None; so is the protocol.
    """

    row: str
    seed: int
    state: str
    size_bytes: int
    md5: str
    sha256: str | None
    mpjpe_mm: float | None
    protocol: dict[str, Any] | None


def checkpoint_entries(root: Path) -> list[Entry]:
    """All runs that dvc.lock or data/checkpoints knows of, by row and seed. Raises UserError if a file is damaged."""
    lock = root / "dvc.lock"
    outs, scored = _recorded(read_yaml(lock), where=lock) if lock.is_file() else ({}, {})
    here = {path.relative_to(root).as_posix() for path in (root / FOLDER).glob("*/run*") if path.is_dir()}
    paths = {path for path in outs if path.startswith(f"{FOLDER}/")} | here
    runs = [_run(root, path, outs.get(path)) for path in paths]
    scores = {row: _scores(root, row, runs, outs, scored.get(row)) for row in {run.row for run in runs}}
    return sorted(
        (replace(run, mpjpe_mm=scores[run.row].get(run.seed), protocol=_protocol(root, run, scores)) for run in runs),
        key=lambda run: (run.row, run.seed),
    )


def checkpoint_lines(entries: Sequence[Entry]) -> Iterator[str]:
    """The entries as a table in text, then every protocol once."""
    protocols = list(dict.fromkeys(_protocol_in_words(entry) for entry in entries if entry.protocol))
    header = ("row", "seed", "MPJPE, mm", "size, MB", "sha256", "DVC's md5", "state", "protocol")
    table = [header, *(_cells(entry, protocols) for entry in entries)]
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    for line in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    for number, protocol in enumerate(protocols, 1):
        yield f"\nProtocol {number}:"
        yield from protocol


def entries_as_json(entries: Sequence[Entry]) -> str:
    """The entries with whole hashes, as indented JSON."""
    return json.dumps([asdict(entry) for entry in entries], indent=2, allow_nan=False)


def _cells(entry: Entry, protocols: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return (
        entry.row,
        str(entry.seed),
        "–" if entry.mpjpe_mm is None else f"{entry.mpjpe_mm:.2f}",
        f"{entry.size_bytes / 1e6:.2f}",
        "–" if entry.sha256 is None else entry.sha256[:SHORT_HASH],
        entry.md5[:SHORT_HASH],
        entry.state,
        "–" if entry.protocol is None else str(protocols.index(_protocol_in_words(entry)) + 1),
    )


def _protocol_in_words(entry: Entry) -> tuple[str, ...]:
    """What a row's name does not say of how it was scored."""
    own = entry.protocol or {}
    return tuple(f"  {key.replace('_', ' ')}: {plain(own[key])}" for key in own if key not in ROW_NAMES_IT)


def _recorded(content: Any, *, where: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every output that DVC recorded, by its path; and by row the checkpoints that were scored."""
    outs: dict[str, Any] = {}
    scored: dict[str, Any] = {}
    try:
        for stage in content["stages"].values():
            outs |= {out["path"]: out for out in stage.get("outs", ())}
            deps = {PurePosixPath(dep["path"]): dep for dep in stage.get("deps", ())}
            scored |= {path.name: dep for path, dep in deps.items() if str(path.parent) == FOLDER}
    except BAD_VALUE as error:
        raise UserError(f"{where}: expected the stages as DVC records them, found {error!r}") from error
    return outs, scored


def _run(root: Path, path: str, recorded: dict[str, Any] | None) -> Entry:
    """A run without its score."""
    folder, known = root / path, PurePosixPath(path)
    seed = known.name.removeprefix("run")
    if not seed.isdigit():
        raise UserError(f"{folder}: expected a folder called run<seed>")
    md5 = "" if recorded is None else recorded["md5"].removesuffix(".dir")
    if not folder.is_dir():
        size_bytes = 0 if recorded is None else int(recorded["size"])
        return Entry(known.parent.name, int(seed), MISSING, size_bytes, md5, None, None, None)
    found, size_bytes = md5_as_dvc(folder), sum(file.stat().st_size for file in folder.rglob("*"))
    state = UNKNOWN if recorded is None else HERE if found == md5 else CHANGED
    weights = folder / WEIGHTS
    sha256 = sha256_of(weights) if weights.is_file() else None
    return Entry(known.parent.name, int(seed), state, size_bytes, found, sha256, None, None)


def _scores(
    root: Path, row: str, runs: Sequence[Entry], outs: dict[str, Any], scored: dict[str, Any] | None
) -> dict[int, float]:
    """The test MPJPE by seed where DVC recorded the row's metrics as they are, and of the checkpoints as they are."""
    name = f"reports/metrics/{row}.json"
    own = [run for run in runs if run.row == row]
    if scored is None or name not in outs or not (root / name).is_file():
        return {}
    if md5_as_dvc(root / name) != outs[name]["md5"]:
        return {}
    if any(run.state == MISSING for run in own):  # their sizes are all that can be compared
        same = sum(run.size_bytes for run in own) == scored["size"] and all(run.state in (HERE, MISSING) for run in own)
    else:
        same = md5_as_dvc(root / FOLDER / row) == scored["md5"].removesuffix(".dir")
    result = _metrics(root, row)
    return dict(zip(result["protocol"]["seeds"], result["mpjpe_mm"]["runs"], strict=True)) if same else {}


def _protocol(root: Path, run: Entry, scores: dict[str, dict[int, float]]) -> dict[str, Any] | None:
    return _metrics(root, run.row)["protocol"] if run.seed in scores[run.row] else None


def _metrics(root: Path, row: str) -> dict[str, Any]:
    path = root / "reports" / "metrics" / f"{row}.json"
    content: dict[str, Any] = read_json(path, "the metrics of a row")
    try:
        content["protocol"]["seeds"], content["mpjpe_mm"]["runs"]
    except BAD_VALUE as error:
        raise UserError(f"{path}: expected the metrics of a row, found {reason(error)}") from error
    return content
