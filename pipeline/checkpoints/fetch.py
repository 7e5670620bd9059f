"""Tool fetch: brings a checkpoint out of a repository of the project to a folder that is not one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path, PurePosixPath

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException

from pipeline.config.rows import CARD, WEIGHTS
from pipeline.system.errors import UserError, reason
from pipeline.system.files import md5_as_dvc, new_folder


def fetch(repository: str, path: PurePosixPath, *, revision: str | None = None) -> Path:
    """Fetches the checkpoint that lies at `path` in a repository to the same path below the working folder.

    `repository` is whatever git clones: an address, or the folder of a clone. Its newest commit counts, or that of the
    branch or tag `revision`. The files come from the remote of DVC that the repository names, which may be a folder
    inside it. Raises UserError if the folder is there already, git cannot clone the repository, it has no checkpoint at
    `path`, or the files are not those whose hash it recorded.
    """
    out = Path(path)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{path}: expected a path within the repository")
    if out.exists():
        raise UserError(f"{out}: expected no such folder yet, found one; move it away to fetch another")
    with tempfile.TemporaryDirectory() as folder:
        clone, fetched = Path(folder) / "clone", Path(folder) / "fetched"
        _clone(repository, clone, revision)
        _copy_checked(clone, path, fetched, repository)
        with new_folder(out) as partial:
            shutil.copytree(fetched, partial, dirs_exist_ok=True)
    return out


def _clone(repository: str, clone: Path, revision: str | None) -> None:
    """Clones the newest commit alone, whole: DVC finds a remote inside a repository only where its files are."""
    branch = [] if revision is None else ["--branch", revision]
    command = ["git", "clone", "--quiet", "--depth", "1", *branch, "--", repository, str(clone)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"{repository}: expected a repository that git can clone, found {done.stderr.strip()}")


def _copy_checked(clone: Path, path: PurePosixPath, folder: Path, repository: str) -> None:
    try:
        files = DVCFileSystem(str(clone))
        recorded = files.info(str(path)).get("md5")
        files.get(str(path), str(folder), recursive=True)
    except (DvcException, OSError) as error:
        raise UserError(f"{repository}: expected a checkpoint at {path}, found {reason(error)}") from error
    if not all((folder / name).is_file() for name in (WEIGHTS, CARD)):
        raise UserError(f"{repository}: expected {WEIGHTS} and {CARD} at {path}, found neither or one")
    if f"{md5_as_dvc(folder)}.dir" != recorded:
        raise UserError(f"{repository}: expected the files of {path} to have the hash {recorded}, found another")
