"""Pushes data, checkpoints and DVC's run cache to a remote, and checks in a fresh clone that they all come back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.checkpoints.list import HERE, checkpoint_entries
from pipeline.system.errors import UserError

RUN_CACHE = ".dvc/cache/runs"
# Stands before all other programs in the clone: a stage that DVC would run there ends at once.
NO_PYTHON = "#!/bin/sh\nexit 97\n"


def publish(root: Path, remote: str | None) -> Iterator[str]:
    """Push to the remote (None: the default one), then restore a clone from it; gives a line for each thing done.

    Raises UserError if there is something to commit or to run first, the push fails, or the clone lacks something.
    """
    changed = _git(root, "status", "--porcelain", "--untracked-files=no").strip()
    if changed:
        raise UserError(f"expected all changes committed, found {changed.splitlines()[0].strip()}")
    if stale := json.loads(_dvc(root, "status", "--json")):
        raise UserError(f"expected everything up to date, found changes of {', '.join(stale)}; run dvc repro")
    name, address = _remote(root, remote)
    runs = _run_cache(root)
    yield f"pushing to {name} ({address})"
    yield _push(root, name)
    if inside := _git(root, "status", "--porcelain").strip() if Path(address).is_relative_to(root) else "":
        count = len(inside.splitlines())
        raise UserError(
            f"{name} lies in the repository: expected it committed, found {count} changes; commit, then repeat"
        )
    with tempfile.TemporaryDirectory(prefix="poselift-publish-") as folder:
        clone = Path(folder) / "clone"
        _git(root, "clone", "--quiet", str(root), str(clone))
        _use_remote(root, clone, name, address)
        yield _last_line(_dvc(clone, "pull", "--run-cache", "--remote", name))
        yield from _check(root, clone, runs)


def _push(root: Path, remote: str) -> str:
    return _last_line(_dvc(root, "push", "--run-cache", "--remote", remote))


def _check(root: Path, clone: Path, runs: set[str]) -> Iterator[str]:
    """Whether the clone has the checkpoints, nothing to run, and the run cache."""
    wanted, found = (
        {(entry.row, entry.seed): entry.md5 for entry in checkpoint_entries(folder) if entry.state == HERE}
        for folder in (root, clone)
    )
    for run, md5 in wanted.items():
        if found.get(run) != md5:
            raise UserError(f"a fresh clone lacks the checkpoint {run[0]} run{run[1]} of hash {md5}")
    yield f"a fresh clone has {len(found)} checkpoints"
    with tempfile.TemporaryDirectory() as programs:
        stub = Path(programs) / "python"
        stub.write_text(NO_PYTHON, encoding="utf-8")
        stub.chmod(0o755)
        _dvc(clone, "repro", path=programs)
    yield "dvc repro runs nothing there"
    if missing := runs - _run_cache(clone):
        raise UserError(f"a fresh clone lacks {len(missing)} of {len(runs)} entries of the run cache")
    yield f"its run cache has all {len(runs)} entries" if runs else "there is no run cache here: nothing was run"


def _remote(root: Path, remote: str | None) -> tuple[str, str]:
    """Name and address of a remote as DVC resolves them. Raises UserError if there is none of the name."""
    settings = dict(line.split("=", 1) for line in _dvc(root, "config", "--list").splitlines() if "=" in line)
    urls = {
        key.split(".")[1]: url for key, url in settings.items() if key.startswith("remote.") and key.endswith(".url")
    }
    remotes = {name: url if "://" in url else str((root / ".dvc" / url).resolve()) for name, url in urls.items()}
    default = settings.get("core.remote", "")
    name = remote or default
    if name not in remotes:
        known = ", ".join(remotes) or "none; see docs/data_and_checkpoints.md"
        raise UserError(f"--remote: expected one of {known}, found '{name}'")
    return name, remotes[name]


def _use_remote(root: Path, clone: Path, name: str, address: str) -> None:
    """Let the clone reach the remote as the repository does: with its uncommitted settings, and the same folder."""
    local = root / ".dvc" / "config.local"
    if local.is_file():
        shutil.copy(local, clone / ".dvc" / "config.local")
    if Path(address).is_absolute() and not Path(address).is_relative_to(root):
        _dvc(clone, "remote", "add", "--local", "--force", name, address)


def _run_cache(root: Path) -> set[str]:
    """Every stage run that DVC remembers, by its hashes."""
    folder = root / RUN_CACHE
    return {path.relative_to(folder).as_posix() for path in folder.glob("*/*/*") if path.is_file()}


def _git(root: Path, *arguments: str) -> str:
    return _run(["git", *arguments], root, os.environ)


def _dvc(root: Path, *arguments: str, path: str = "") -> str:
    """What `dvc <arguments>` prints; the folder `path` comes before all others that programs are looked for in."""
    programs = os.pathsep.join(filter(None, [path, os.environ.get("PATH", "")]))
    command = [sys.executable, "-m", "dvc", *arguments]
    return _run(command, root, {**os.environ, "PATH": programs, "DVC_NO_ANALYTICS": "1"})


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = " ".join(command[1:]).removeprefix("-m ")
        complaint = next((line for line in done.stderr.splitlines() if "ERROR" in line), done.stderr.strip())
        raise UserError(f"`{words}` failed in {folder.name}: {complaint.removeprefix('ERROR: ')}")
    return done.stdout


def _last_line(printed: str) -> str:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing to say"
