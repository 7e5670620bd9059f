"""Two clones with one git remote and one DVC remote: one trains, the other makes the table.

`python -m tests.trials.two_machines`: an experiment of a tiny row is run in the first, pushed, pulled and applied in
the second, which then loses its reports and must make the same again without training. The remote is a folder that
both see, then a bucket of a server that speaks S3, which needs requirements/s3.txt.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures.small_project import IDENTITY, environment, hashes, stages_run, write_project
from tests.fixtures.storage_server import storage_server

TRAINED = ("prepare_data", "train")  # the stages that the second machine must not run
TINY = {"epochs": 1, "windows_per_epoch": 64, "batch_windows": 32, "validation_step": 16, "frame_step": 9}


@contextmanager
def bucket() -> Iterator[list[str] | None]:
    """Yields the words of `dvc remote add` and `modify` for a bucket of S3; None where its server is not installed."""
    with storage_server() as address:
        keys = ("access_key_id testing", "secret_access_key testing", "region us-east-1", f"endpointurl {address}")
        yield address and ["add --local team s3://bucket", *(f"modify --local team {key}" for key in keys)]


def exchange(repository: Path, folder: Path, remote: Sequence[str] = ()) -> list[str]:
    """Runs an experiment of a repository in one clone and makes its reports in another, both in the new `folder`.

    `remote` are the words of `dvc remote` that make their DVC remote `team`: without them it is a folder beside them.
    Returns the stages that the second clone ran. Raises AssertionError if what it has in the end is not what the first
    has, byte for byte.
    """
    folder.mkdir()
    run(folder, f"git clone --quiet --bare {repository} remote.git")
    trains, reports = folder / "trains", folder / "reports"
    for clone in (trains, reports):
        run(folder, f"git clone --quiet remote.git {clone.name}")
        for words in remote or [f"add --local team {folder / 'shared'}"]:
            run(clone, f"dvc remote {words} --quiet")
    if (repository / "data" / "store").is_dir():
        run(trains, "dvc pull --quiet")
    run(trains, "dvc exp run --name tried -S datasets.mocap.lr=0.003")
    run(trains, "dvc exp push --quiet --remote team --run-cache origin tried")
    assert "tried" in run(reports, "dvc exp list origin")
    run(reports, "dvc exp pull --quiet --remote team --run-cache origin tried", "dvc exp apply --quiet tried")
    run(reports, "dvc checkout --quiet")
    assert hashes(reports) == hashes(trains)
    for path in (reports / "reports").iterdir():
        if path.name not in ("rows.yaml", "published.csv"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    ran = stages_run(run(reports, "dvc repro"))
    assert hashes(reports) == hashes(trains)
    return [stage.partition("@")[0] for stage in ran]


def run(folder: Path, *commands: str) -> str:
    """Returns what the last of some commands of git and dvc in a folder printed; each must succeed."""
    said = ""
    for command in commands:
        variables = environment(folder) | IDENTITY
        done = subprocess.run(command.split(), cwd=folder, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said = done.stdout
    return said


def main() -> None:
    """Tries it with the project's own stages; ends with an exception where something fails."""
    with tempfile.TemporaryDirectory() as name, bucket() as in_bucket:
        project = Path(name) / "project"
        write_project(project, **TINY)
        run(project, "git add --all", "git commit --quiet --message project")
        for kind, remote in (("a folder", ()), ("S3", in_bucket)):
            if remote is None:
                print("S3 was not tried: pip install -r requirements/s3.txt")
                continue
            ran = exchange(project, Path(name) / kind.split()[-1], remote)
            assert not set(ran) & set(TRAINED), ran
            print(f"through {kind}: where nothing was trained, {' and '.join(ran)} made the same table")


if __name__ == "__main__":
    main()
