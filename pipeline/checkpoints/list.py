"""Tool checkpoints: lists the trained runs that DVC recorded or that lie in data/checkpoints, and their scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tabulate import tabulate

from pipeline.config.rows import WEIGHTS
from pipeline.poses.row_metrics import Protocol, describe_value, read_row_metrics, shared_protocol
from pipeline.system.errors import BAD_VALUE, UserError, reason
from pipeline.system.files import md5_as_dvc, read_yaml, sha256_of

FOLDER, METRICS = "data/checkpoints", "reports/metrics"
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
    mpjpe_mm: float | None = None
    protocol: Protocol | None = None


class Recorded(NamedTuple):
    """What dvc.lock says of a file or folder."""

    md5: str
    size: int


@dataclass(frozen=True)
class Lock:
    """What dvc.lock records: checkpoints and metrics by their paths, and by row the folder that was scored."""

    outputs: dict[str, Recorded]
    scored_folders: dict[str, Recorded]


def checkpoint_entries(root: Path) -> list[Entry]:
    """Returns all runs that dvc.lock or data/checkpoints knows of, by row and seed.

    Raises UserError if a file is damaged.
    """
    lock = _read_lock(root / "dvc.lock")
    here = {path.relative_to(root).as_posix() for path in (root / FOLDER).glob("*/run*") if path.is_dir()}
    recorded = {path for path in lock.outputs if path.startswith(f"{FOLDER}/")}
    runs = sorted((_read_run(root, path, lock) for path in recorded | here), key=lambda run: (run.row, run.seed))
    entries = []
    for row, runs_of_row in groupby(runs, key=lambda run: run.row):
        entries += _add_scores(root, row, list(runs_of_row), lock)
    return entries


def checkpoint_lines(entries: Sequence[Entry]) -> Iterator[str]:
    """Yields the entries as a table in text, then every protocol once."""
    protocols = list(dict.fromkeys(_protocol_in_words(entry) for entry in entries if entry.protocol))
    header = ("row", "seed", "MPJPE, mm", "size, MB", "sha256", "DVC's md5", "state", "protocol")
    cells = [_cells(entry, protocols) for entry in entries]
    table = tabulate(cells, header, tablefmt="plain", disable_numparse=True)
    yield from (line.rstrip() for line in table.splitlines())
    for number, protocol in enumerate(protocols, 1):
        yield f"\nProtocol {number}:"
        yield from protocol


def entries_as_json(entries: Sequence[Entry]) -> str:
    """Returns the entries with whole hashes, as indented JSON."""
    plain = [asdict(replace(entry, protocol=None)) for entry in entries]
    for values, entry in zip(plain, entries, strict=True):
        values["protocol"] = entry.protocol and entry.protocol.model_dump(exclude_unset=True)
    return json.dumps(plain, indent=2, allow_nan=False)


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
    """Returns what a row's name does not say about how it was scored, a line each."""
    shared = {} if entry.protocol is None else shared_protocol(entry.protocol)
    return tuple(f"  {key.replace('_', ' ')}: {describe_value(value)}" for key, value in shared.items())


def _read_lock(path: Path) -> Lock:
    lock = Lock({}, {})
    if not path.is_file():
        return lock
    try:
        for stage in read_yaml(path)["stages"].values():
            outs = [out for out in stage.get("outs", ()) if out["path"].startswith((f"{FOLDER}/", f"{METRICS}/"))]
            lock.outputs.update({out["path"]: _recorded(out) for out in outs})
            deps = {PurePosixPath(dep["path"]): dep for dep in stage.get("deps", ())}
            folders = {path.name: _recorded(dep) for path, dep in deps.items() if str(path.parent) == FOLDER}
            lock.scored_folders.update(folders)
    except BAD_VALUE as error:
        raise UserError(f"{path}: expected the stages as DVC records them, found {reason(error)}") from error
    return lock


def _recorded(found: Mapping[str, Any]) -> Recorded:
    return Recorded(str(found["md5"]), int(found["size"]))


def _read_run(root: Path, path: str, lock: Lock) -> Entry:
    """Returns a run without its score."""
    folder, row, recorded = root / path, PurePosixPath(path).parent.name, lock.outputs.get(path)
    seed = folder.name.removeprefix("run")
    if not seed.isdigit():
        raise UserError(f"{folder}: expected a folder called run<seed>")
    md5 = "" if recorded is None else recorded.md5.removesuffix(".dir")
    if not folder.is_dir():
        return Entry(row, int(seed), MISSING, 0 if recorded is None else recorded.size, md5, None)
    found, size_bytes = md5_as_dvc(folder), sum(file.stat().st_size for file in folder.rglob("*"))
    state = UNKNOWN if recorded is None else HERE if found == md5 else CHANGED
    weights = folder / WEIGHTS
    return Entry(row, int(seed), state, size_bytes, found, sha256_of(weights) if weights.is_file() else None)


def _add_scores(root: Path, row: str, runs: list[Entry], lock: Lock) -> list[Entry]:
    """Returns the runs with test score and protocol where dvc.lock ties the row's metrics to these checkpoints."""
    name = f"{METRICS}/{row}.json"
    path = root / name
    if name not in lock.outputs or not path.is_file() or md5_as_dvc(path) != lock.outputs[name].md5:
        return runs
    if row not in lock.scored_folders or not _are_as_scored(root / FOLDER / row, runs, lock.scored_folders[row]):
        return runs
    result = read_row_metrics(path)
    scores_mm = dict(zip(result.protocol.seeds, result.mpjpe_mm.runs, strict=True))
    return [
        replace(run, mpjpe_mm=scores_mm[run.seed], protocol=result.protocol) if run.seed in scores_mm else run
        for run in runs
    ]


def _are_as_scored(folder: Path, runs: Sequence[Entry], scored: Recorded) -> bool:
    """Returns whether a row's checkpoints are those that were scored. Of missing ones only the sizes are known."""
    if any(run.state == MISSING for run in runs):
        all_recorded = all(run.state in (HERE, MISSING) for run in runs)
        return bool(all_recorded and sum(run.size_bytes for run in runs) == scored.size)
    return bool(md5_as_dvc(folder) == scored.md5.removesuffix(".dir"))
