"""What `dvc push --run-cache` pushed comes back in a fresh clone: from a shared folder, S3, and a web server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.checkpoints.list import HERE, checkpoint_entries
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
    """Returns a copy to push from."""
    return shutil.copytree(made, tmp_path / "repository", symlinks=True)


def restore(root: Path, clone: Path, *commands: str) -> list[str]:
    """Returns the states of the checkpoints in a clone after these commands in it."""
    run(root, f"git clone --quiet {root} {clone}")
    run(clone, *commands)
    return [entry.state for entry in checkpoint_entries(clone)]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.stories
def test_a_pushed_folder_gives_a_fresh_clone_all_of_it_also_behind_http(root, tmp_path):
    shared = tmp_path / "shared"
    run(root, f"dvc remote add --quiet --local team {shared}", "dvc push --quiet --run-cache --remote team")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(shared))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        for name, address in (("folder", shared), ("web", f"http://127.0.0.1:{server.server_port}")):
            add, pull = f"dvc remote add --quiet --local {name} {address}", f"dvc pull --quiet --remote {name}"
            assert restore(root, tmp_path / f"clone-{name}", add, pull) == [HERE, HERE]
            status = [sys.executable, "-m", "dvc", "status", "--json"]
            assert json.loads(subprocess.check_output(status, cwd=tmp_path / f"clone-{name}")) == {}
        server.shutdown()
        thread.join()


@pytest.mark.stories
def test_the_pushed_run_cache_gives_back_runs_that_no_commit_names(root, tmp_path):
    """The training of another parameter, done before it was pushed, is not repeated by who sets it too."""
    run(root, f"dvc remote add --quiet --local team {tmp_path / 'shared'}")
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("2.0", "3.0"))
    run(root, "dvc repro --quiet", "dvc push --quiet --remote team")
    (root / "params.yaml").write_text(params)
    run(root, "dvc repro --quiet", "dvc push --quiet --run-cache --remote team")
    clone = tmp_path / "clone"
    remote = f"dvc remote add --quiet --local --default team {tmp_path / 'shared'}"
    restore(root, clone, remote, "dvc pull --quiet --run-cache")
    (clone / "params.yaml").write_text(params.replace("2.0", "3.0"))
    (clone / "stages.py").chmod(0)  # as it must not be run, only hashed
    run(clone, "dvc repro --quiet --pull train")
    assert "at 3.0" in (clone / "data" / "checkpoints" / ROW / "run1" / "weights.safetensors").read_text()


@pytest.mark.stories
def test_a_run_that_another_process_is_writing_into_the_run_cache_is_left_to_it(root):
    """As workers of a queue meet it that share a stage. `make setup` patches DVC, which takes it for a damaged one."""
    written = [key / ".being-written.tmp" for key in (root / ".dvc" / "cache" / "runs").glob("*/*")]
    for path in written:
        path.touch()
    (root / "dvc.lock").unlink()
    shutil.rmtree(root / "data" / "checkpoints")
    (root / "stages.py").chmod(0)  # as it must not be run, only hashed
    run(root, "dvc repro --quiet train")
    assert len(written) == 2
    assert all(path.exists() for path in written)


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
            "dvc push --quiet --run-cache --remote cloud",
        )
        assert restore(root, tmp_path / "clone", "dvc pull --quiet --remote cloud") == [HERE, HERE]
    finally:
        bucket.stop()
