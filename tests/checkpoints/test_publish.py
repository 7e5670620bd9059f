"""What is published comes back in a fresh clone: from a shared folder, from S3, and over HTTP to read."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.checkpoints.list import HERE, checkpoint_entries
from pipeline.checkpoints.publish import publish
from pipeline.system.errors import UserError
from tests.fixtures.small_repository import ROW, run, write_repository


@pytest.fixture(scope="module", autouse=True)
def dvc_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the user's configuration of DVC nor its cache of remotes."""
    folder = tmp_path_factory.mktemp("dvc")
    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in os.environ if name.startswith(("DVC_", "AWS_"))]:
            patched.delenv(name)
        for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
            patched.setenv(f"DVC_{name}_DIR", str(folder / name))
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patched.setenv(f"AWS_{name}", "testing")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy to publish."""
    return shutil.copytree(made, tmp_path / "repository", symlinks=True)


def restored(root: Path, clone: Path, *commands: str) -> list[str]:
    """States of the checkpoints in a clone after these commands in it."""
    run(root, f"git clone --quiet {root} {clone}")
    run(clone, *commands)
    return [entry.state for entry in checkpoint_entries(clone)]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.stories
def test_a_shared_folder_gives_a_fresh_clone_all_of_it_also_behind_http(root, tmp_path):
    shared = tmp_path / "shared"
    run(root, f"dvc remote add --quiet --local team {shared}")
    lines = list(publish(root, "team"))
    assert lines[0] == f"pushing to team ({shared})"
    assert lines[-3:] == [
        "a fresh clone has 2 checkpoints",
        "dvc repro runs nothing there",
        "its run cache has all 2 entries",
    ]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(shared))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        for name, address in (("folder", shared), ("web", f"http://127.0.0.1:{server.server_port}")):
            add, pull = f"dvc remote add --quiet --local {name} {address}", f"dvc pull --quiet --remote {name}"
            assert restored(root, tmp_path / f"clone-{name}", add, pull) == [HERE, HERE]
        server.shutdown()
        thread.join()


@pytest.mark.stories
def test_the_run_cache_gives_back_runs_that_no_commit_names(root, tmp_path):
    """The training of another parameter, done before it was published, is not repeated by who sets it too."""
    run(root, f"dvc remote add --quiet --local team {tmp_path / 'shared'}")
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("2.0", "3.0"))
    run(root, "dvc repro --quiet", "dvc push --quiet --remote team")
    (root / "params.yaml").write_text(params)
    run(root, "dvc repro --quiet")
    assert list(publish(root, "team"))[-1] == "its run cache has all 4 entries"
    clone = tmp_path / "clone"
    remote = f"dvc remote add --quiet --local --default team {tmp_path / 'shared'}"
    restored(root, clone, remote, "dvc pull --quiet --run-cache")
    (clone / "params.yaml").write_text(params.replace("2.0", "3.0"))
    (clone / "stages.py").chmod(0)  # as it must not be run, only hashed
    run(clone, "dvc repro --quiet --pull train")
    assert "at 3.0" in (clone / "data" / "checkpoints" / ROW / "run1" / "weights.safetensors").read_text()


@pytest.mark.stories
def test_an_s3_server_gives_a_fresh_clone_all_of_it(root, tmp_path):
    server = pytest.importorskip("moto.server", reason="expected moto; pip install -r requirements/s3.txt")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("dvc_s3")
    bucket = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    bucket.start()
    try:
        host, port = bucket.get_host_and_port()
        address = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="poselift")
        run(
            root,
            "dvc remote add --quiet cloud s3://poselift/data",
            f"dvc remote modify --quiet cloud endpointurl {address}",
            "git commit --quiet --all -m remote",
        )
        assert "its run cache has all 2 entries" in list(publish(root, "cloud"))
        assert restored(root, tmp_path / "clone", "dvc pull --quiet --remote cloud") == [HERE, HERE]
    finally:
        bucket.stop()


def test_the_store_inside_the_repository_is_to_be_committed_and_is_then_whole(root):
    with pytest.raises(UserError, match="store lies in the repository: expected it committed, found 1 changes"):
        list(publish(root, None))
    run(root, "git add --all", "git commit --quiet -m store")
    assert "a fresh clone has 2 checkpoints" in list(publish(root, None))


def test_what_is_lost_on_the_way_is_found_missing(root, tmp_path, monkeypatch):
    run(root, f"dvc remote add --quiet --local team {tmp_path / 'shared'}")
    list(publish(root, "team"))
    for path in (tmp_path / "shared").rglob("*"):
        if path.is_file() and b"weights of" in path.read_bytes():
            path.unlink()
    shutil.rmtree(os.environ["DVC_SITE_CACHE_DIR"])  # which remembers that they were there
    monkeypatch.setattr("pipeline.checkpoints.publish._push", lambda *_: "")
    with pytest.raises(UserError, match=r"`dvc pull .*` failed in clone"):
        list(publish(root, "team"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("params.yaml", "expected all changes committed, found M params.yaml"),
        (
            "data/raw/takes.csv",
            "expected everything up to date, found changes of train@0, train@1, data/raw/takes.csv.dvc",
        ),
    ],
)
def test_what_is_not_committed_or_not_up_to_date_is_not_published(change, complaint, root):
    (root / change).chmod(0o644)
    (root / change).write_text(
        "take\nanother\n" if change.endswith("csv") else "seeds: [0]\ndatasets: {cmu: {lr: 1}}\n"
    )
    with pytest.raises(UserError, match=complaint):
        list(publish(root, None))


def test_an_unknown_remote_is_refused_with_those_there_are(root):
    with pytest.raises(UserError, match="--remote: expected one of store, found 'nowhere'"):
        list(publish(root, "nowhere"))
