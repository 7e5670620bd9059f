"""Every command in the documentation can be typed, and but for a list of exceptions is run, page by page."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml
from dvc.cli import parse_args
from filelock import FileLock
from wandb.cli.cli import cli as wandb_cli

import experiments.__main__
from pipeline.__main__ import app
from tests.end_to_end.documented_commands import (
    NOT_RUN,
    PAGES,
    REPOSITORY,
    STAND_INS,
    blocks_of,
    commands_of,
    mentions_of,
    story_of,
)
from tests.end_to_end.documented_repository import clone_for_story, variables, write_repository
from tests.end_to_end.test_push import Quiet
from tests.end_to_end.warm_programs import warm_programs
from tests.fixtures.storage_server import storage_server

OURS = typer.main.get_command(app)
EXPERIMENTS = typer.main.get_command(experiments.__main__.app)
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
PLACES = ("origin", "team", "web", "storage")
STORIES = [page for page, text in TEXTS.items() if story_of(text, **dict.fromkeys(PLACES)).strip()]
S3 = "cloud"  # the remote of lines that need dvc-s3
CASES = [
    pytest.param(command, id=f"{page.name}: {' '.join(command)}"[:90])
    for page, text in TEXTS.items()
    for block in blocks_of(text)
    for command in commands_of(block)
]


def test_the_pages_have_commands():
    assert len(CASES) > 60


@pytest.mark.parametrize("command", CASES)
def test_a_command_can_be_typed(command):
    if command[:3] == ["python", "-m", "pipeline"]:
        command = ["poselift", *command[3:]]
    program, *words = command
    if words[:2] == ["-m", "experiments"]:
        EXPERIMENTS.commands[words[2]].make_context(words[2], words[3:])
    elif program == "poselift":
        OURS.commands[words[0]].make_context(words[0], words[1:])  # raises for an unknown option or a missing argument
    elif program == "dvc":
        parse_args(words)  # raises likewise
        assert_parameters_are_there([words[at + 1] for at, word in enumerate(words) if word in ("-S", "--set-param")])
    elif program == "make":
        assert f"\n{words[0]}:" in (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    elif program == "wandb":
        assert words[0] in wandb_cli.commands
    elif program == "pip":
        assert_can_be_installed(words)
    else:
        script = Path(words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0])
        assert words[:2] == ["-m", "pytest"] or (REPOSITORY / script).is_file()


def test_what_a_sentence_mentions_is_there():
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    ways = {"poselift": OURS.commands, "wandb": wandb_cli.commands, "make": targets}
    for page, text in TEXTS.items():
        for mention in mentions_of(text):
            program, what, *_ = mention.split()
            assert what in ways.get(program, [what]), f"{page.name}: {mention}"


def assert_parameters_are_there(settings: list[str]) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    for setting in settings:
        if setting.startswith("+"):
            continue
        value = params
        for key in setting.partition("=")[0].split("."):
            assert key in value, setting
            value = value[key]


def assert_can_be_installed(words: list[str]) -> None:
    if words[0] == "wheel" or words[1].endswith(".whl"):
        return
    assert words[0] == "install"
    if words[1] == "-r":
        assert (REPOSITORY / words[2]).is_file()
        return
    extra = re.fullmatch(r"\.\[(\w+)\]", words[1])
    assert extra
    assert f"\n{extra[1]} = [" in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


def test_every_file_that_a_page_names_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_what_is_not_run_or_stood_in_for_is_in_the_documentation():
    lines = [line for text in TEXTS.values() for block in blocks_of(text) for line in block.splitlines()]
    assert [begin for begin in NOT_RUN if not any(line.startswith(begin) for line in lines)] == []
    assert [what for what in STAND_INS if not any(what in line for line in lines)] == []


def test_what_is_left_to_ci_is_run_there():
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    left = [command for command, reason in NOT_RUN.items() if reason.endswith("; .ci/run does")]
    assert len(left) == 4
    assert all(f"\n{command}\n" in script for command in left)


PROLOGUE = """
set -euo pipefail
PS4='$SECONDS s: '; set -x
source .venv/bin/activate
with_environment() { cp -R ../.venv .; }
name_of_an_experiment() {
  if [ ! -s ../experiment ]; then
    [ -n "$(command dvc exp list --name-only)" ] || command dvc exp run -S datasets.mocap.window_stride=7 > /dev/null
    command dvc exp list --name-only | head -n 1 > ../experiment
  fi
  cat ../experiment
}
in_another_clone() {
  git clone --quiet "$(git remote get-url origin)" ../other
  cp .dvc/config .dvc/config.local ../other/.dvc/ && cd ../other
}
looked_at() {
  : > board.log  # what an earlier board said would be taken for this one's word
  setsid "$@" > board.log 2>&1 & local board=$!
  until grep --quiet "the board is at" board.log; do kill -0 $board; sleep 0.1; done
  python -c 'import sys, urllib.request as web; assert b"<html" in web.urlopen(sys.argv[1]).read()' \\
    "$(grep --only-matching 'http[^,]*' board.log)"
  kill -INT -- -$board; wait $board || true
}
dvc() {
  command dvc "$@"
  if [ "$1 ${2-}" = "queue start" ]; then
    while [[ $(command dvc queue status) =~ Queued|Running ]]; do sleep 1; done
    [[ ! $(command dvc queue status) =~ Failed ]]
  fi
}
"""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A repository to clone, made once for all processes of pytest, and the programs to run in its clones."""
    own = tmp_path_factory.mktemp("documented")
    shared = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = shared / "documented-origin"
    with warm_programs(own / "bin"):
        with FileLock(shared / "documented-origin.lock"):
            if not folder.is_dir():
                write_repository(own / "origin", own / "bin")
                (own / "origin").rename(folder)
        yield SimpleNamespace(folder=folder, programs=own / "bin")


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Address at which the folder is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.stories
@pytest.mark.parametrize("page", STORIES, ids=lambda page: page.stem)
def test_a_page_works_from_top_to_bottom(page, origin, tmp_path):
    with ExitStack() as stack:
        storage = stack.enter_context(storage_server()) if S3 in TEXTS[page] else None
        story = story_of(
            TEXTS[page],
            without=None if storage else S3,
            origin=origin.folder,
            team=tmp_path / "team",
            web=stack.enter_context(web_server(tmp_path / "team")),
            storage=storage,
        )
        clone_for_story(origin.folder, tmp_path / "clone", origin.programs, story)
        said = tmp_path / "said"  # not a pipe, which a worker of DVC's queue that missed its end would hold open
        with said.open("w", encoding="utf-8") as file:
            done = subprocess.run(
                ["bash", "-c", PROLOGUE + story],
                cwd=tmp_path / "clone",
                env=variables(tmp_path, origin.programs),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
    assert done.returncode == 0, f"{story}\n{said.read_text(encoding='utf-8')}"
