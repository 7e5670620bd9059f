"""Reads what DVC knows of experiments: the workspace, the last commit and what was run from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

WATCHED = ("params.yaml", "dvc.lock", ".git/HEAD", ".git/packed-refs", "reports/headline/*.json")
WATCHED_TREES = (".git/refs/heads", ".git/refs/exps", ".dvc/tmp/exps/run")
UNFINISHED = ("running", "queued", "failed")


class _File(TypedDict, total=False):
    """What `dvc exp show --json` says of a file of parameters or metrics."""

    data: dict[str, object] | None


class _Values(TypedDict):
    timestamp: str | None
    params: dict[str, _File] | None
    metrics: dict[str, _File] | None


class _Revision(TypedDict):
    rev: str
    name: str | None
    data: _Values | None


class _Executor(TypedDict, total=False):
    state: str | None


class _Started(TypedDict):
    """An experiment, its newest revision first, and who runs it."""

    name: str | None
    revs: list[_Revision]
    executor: _Executor | None


class _Commit(_Revision):
    """The workspace or a commit, and what was started from it."""

    experiments: list[_Started] | None


@dataclass(frozen=True)
class Experiment:
    """A state of parameters and its results. `baseline` is the name of the commit that an experiment started from.

    Parameters are by their full names; metrics by row and metric, "mocap-gt-f27-rayformer mpjpe_mm".
    """

    name: str
    created: str
    state: str
    baseline: str | None
    params: Mapping[str, object]
    metrics: Mapping[str, object]


def read_experiments(root: Path) -> tuple[list[Experiment], str]:
    """Returns workspace, last commit and its experiments, the newest first; and a line that says why there are none."""
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    answer = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        reason = " ".join(answer.stderr.split()).removeprefix("ERROR: ")
        return [], f"DVC shows no experiments: {reason}"
    return list(_read_entries(json.loads(answer.stdout))), ""


def state_of_experiments(root: Path) -> list[tuple[str, int]]:
    """Returns a value that changes whenever DVC may know of another experiment, or other numbers of one."""
    paths = [path for pattern in WATCHED for path in sorted(root.glob(pattern))]
    paths += [path for tree in WATCHED_TREES for path in sorted((root / tree).rglob("*")) if path.is_file()]
    return list_modified(paths)


def list_modified(paths: Iterable[Path]) -> list[tuple[str, int]]:
    """Returns when each file was last written, in ns, without those that were deleted since they were listed."""
    modified = []
    for path in paths:
        try:
            modified.append((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return modified


def find_differences(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """Returns the values that differ, by name; None where there is none."""
    names = dict.fromkeys([*before, *after])
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Returns nested values by the names of their keys, joined by dots."""
    result: dict[str, object] = {}
    for key, value in values.items():
        result |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


def _read_entries(entries: list[_Commit]) -> Iterator[Experiment]:
    """Yields the experiments in what `dvc exp show --json` says, without those that have no data (a broken commit)."""
    for entry in entries:
        baseline = entry["name"] or ("workspace" if entry["rev"] == "workspace" else entry["rev"][:7])
        if entry["data"]:
            yield _experiment(baseline, entry["data"], state="", baseline=None)
        for started in entry["experiments"] or []:
            newest = started["revs"][0] if started["revs"] else None
            if newest and newest["data"]:
                name = started["name"] or newest["name"] or newest["rev"][:7]
                state = (started["executor"] or {}).get("state") or ""
                yield _experiment(name, newest["data"], state=state, baseline=baseline)


def _experiment(name: str, data: _Values, *, state: str, baseline: str | None) -> Experiment:
    params: dict[str, object] = {}
    for file, content in (data["params"] or {}).items():
        params |= flatten(content.get("data") or {}, "" if file == "params.yaml" else f"{file}:")
    # Before its end an experiment has the numbers of the commit that it started from.
    reported = {} if state.lower() in UNFINISHED else data["metrics"] or {}
    metrics = {
        f"{Path(file).stem} {metric}": value
        for file, content in reported.items()
        for metric, value in (content.get("data") or {}).items()
    }
    return Experiment(name, str(data["timestamp"] or ""), state, baseline, params, metrics)
