"""A process killed at each of its changes to files, in turn: right before it, or in the write that follows it."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.evaluate_5runs.stage import evaluate_5runs
from pipeline.prepare_data.stage import prepare_data
from pipeline.report.stage import report
from pipeline.train import stage
from pipeline.train.stage import train
from tests.fixtures.four_stages import PROJECT, SEEDS, write_params
from tests.fixtures.small_repository import write_repository
from tests.fixtures.walker import contents

ROW = "mocap-gt-f9-rayformer"
KINDS = ("before", "in the write after")
TORN_BYTES = 64
ELSEWHERE = ".of_dvc"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# DVC writes the first in place, and stumbles over what it left in the second.
AFTER_A_KILL_OF_DVC = "rm -f .dvc/tmp/rwlock; find .dvc/cache/runs '(' -name '*.tmp' -o -type d -empty ')' -delete"
Work = Callable[[Path], object]


class Stage(NamedTuple):
    """What writes into a folder that is its own."""

    work: Work
    hidden: str = r"$"  # begins the paths of files that are no results
    given: Path | None = None  # a folder with which its own begins
    rewritten: str = r"$"  # begins the paths of results that change while the work goes on
    remedy: str = ""  # what may have to be typed before it can go on


class Death(NamedTuple):
    """How a try went: the file it died at, and what it left."""

    file: str
    kind: str
    died: bool
    half_written: list[str]
    remedy: str
    then_exit_code: int
    same_bytes: bool

    @property
    def survived(self) -> bool:
        """Nothing half-written had a final name, and the work done again ended as if nothing had been."""
        return not self.half_written and self.then_exit_code == 0 and self.same_bytes


def changed_path(event: str, values: tuple[Any, ...]) -> str | None:
    """The file or folder that a call of the system is about to change, as Python's audit events tell it."""
    if event == "open":
        return None if isinstance(values[0], int) or not values[2] & WRITING else path_of(values[0])
    if event in ("os.rename", "os.link", "os.symlink"):
        return path_of(values[1])
    if event in ("os.remove", "os.rmdir", "os.mkdir"):
        return path_of(values[0], values[-1])
    return path_of(values[0]) if event == "os.truncate" else None


def path_of(name: Any, folder: int = -1) -> str:
    """Absolute path of an open file by its number, or of a name in an open folder or the current one."""
    if isinstance(name, int):
        return os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
    start = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()  # noqa: PTH109, PTH115
    return os.path.normpath(os.path.join(start, os.fsdecode(name)))  # noqa: PTH118


def watch(folder: Path, on_change: Callable[[str], None]) -> None:
    """From now on call `on_change` before each change to a file in `folder`, with its path in there."""
    inside = str(folder.resolve()) + os.sep

    def hook(event: str, values: tuple[Any, ...]) -> None:
        path = changed_path(event, values)
        if path is not None and path.startswith(inside):
            on_change(path.removeprefix(inside))

    sys.addaudithook(hook)


def in_a_process(work: Work, folder: Path, on_change: Callable[[str], None] | None = None) -> int:
    """Exit code of `work(folder)` in a forked process: negative for the signal it died of."""

    def child() -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        if on_change is not None:
            watch(folder, on_change)
        work(folder)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def changes(work: Work, folder: Path) -> list[str]:
    """Paths of the files that `work` changes, in order; it runs to its end."""
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
    names: list[str] = []

    def work_and_tell(folder: Path) -> None:
        work(folder)
        send.send(list(names))

    code = in_a_process(work_and_tell, folder, names.append)
    assert code == 0, f"exit code {code}"
    return receive.recv()


def killed(work: Work, folder: Path, at: int, kind: str) -> int:
    """Run `work` and kill it at its change number `at`; its exit code."""
    seen = 0
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # of the child: Python ignores it otherwise

    def die(path: str) -> None:
        nonlocal seen
        if seen == at and kind == KINDS[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        if seen == at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (TORN_BYTES, TORN_BYTES))
        seen += 1

    try:
        return in_a_process(work, folder, die)
    finally:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def attempt(stage: Stage, folder: Path, wanted: dict[str, bytes], *, at: int, file: str, kind: str) -> Death:
    """Kill the stage's work in the new folder `folder` at change number `at`, look, and do the work again."""
    begin(stage, folder)
    before = results(stage, folder)
    code = killed(stage.work, folder, at, kind)
    half_written = [
        name
        for name, content in results(stage, folder).items()
        if not re.search(rf"\.partial|^{stage.rewritten}", name) and content not in (before.get(name), wanted.get(name))
    ]
    again, remedy = in_a_process(stage.work, folder), ""
    if again and stage.remedy:
        remedy = stage.remedy
        subprocess.run(remedy, shell=True, cwd=folder, check=True)
        again = in_a_process(stage.work, folder)
    same = results(stage, folder) == wanted
    shutil.rmtree(folder)
    return Death(file, kind, code < 0, half_written, remedy, again, same)


def results(stage: Stage, folder: Path) -> dict[str, bytes]:
    """The files of the stage's folder that are not hidden."""
    return {name: content for name, content in contents(folder).items() if not re.match(stage.hidden, name)}


def places(files: list[str]) -> list[int]:
    """The numbers of the first and the last change of every file, but for those that DVC keeps elsewhere."""
    first = {file: number for number, file in reversed(list(enumerate(files)))}
    last = {file: number for number, file in enumerate(files)}
    return sorted({number for each in (first, last) for file, number in each.items() if not file.startswith(ELSEWHERE)})


def begin(stage: Stage, folder: Path) -> None:
    """Make the stage's folder."""
    if stage.given is None:
        folder.mkdir()
    else:
        shutil.copytree(stage.given, folder, symlinks=True)


def calm(stage: Stage, folder: Path) -> tuple[list[str], dict[str, bytes]]:
    """The changes to files of the stage's work undisturbed in `folder`, and the results."""
    begin(stage, folder)
    files = changes(stage.work, folder)
    wanted = results(stage, folder)
    shutil.rmtree(folder)
    return files, wanted


def four_stages(folder: Path, raw_folder: Path) -> dict[str, Stage]:
    """The stages of a small row, each on the finished results of those before it, which are made in `folder`."""
    small = {"epochs": 2, "windows_per_epoch": 64, "batch_windows": 32}
    params_path = write_params(folder, ROW, **small)
    dvc_yaml = folder / "dvc.yaml"
    dvc_yaml.write_text(yaml.safe_dump({"stages": {"evaluate_5runs": {"matrix": {"row": [ROW]}}}}), encoding="utf-8")
    prepared, checkpoints, reports = folder / "prepared" / ROW, folder / "checkpoints", folder / "reports"

    def report_in(out: Path) -> None:
        report(params_path=params_path, dvc_yaml=dvc_yaml, reports=out, prepared=folder / "prepared")

    def train_in(out: Path) -> None:
        stage.SAVE_EVERY_S = -1.0
        train(prepared, out / "run0", seed=0, work_folder=out / ".work")

    def evaluate_in(out: Path) -> None:
        evaluate_5runs(prepared, checkpoints, seeds=SEEDS, reports=out, work_folder=out / ".work")

    def prepare_in(out: Path) -> None:
        prepare_data(ROW, out / ROW, params_path=params_path, raw_folder=raw_folder)

    def first_stages(folder: Path) -> None:
        prepare_data(ROW, prepared, params_path=params_path, raw_folder=raw_folder)
        for seed in SEEDS:
            train(prepared, checkpoints / f"run{seed}", seed=seed, work_folder=folder / ".work")
        evaluate_in(reports)
        shutil.copy(PROJECT / "reports" / "published.csv", reports)

    if in_a_process(first_stages, folder):
        raise RuntimeError("the stages fail undisturbed")
    return {
        "prepare_data": Stage(prepare_in),
        "train": Stage(train_in, hidden=r"\.work/"),
        "evaluate_5runs": Stage(evaluate_in),
        "report": Stage(report_in, given=reports),
    }


def repeated_with_dvc(folder: Path) -> Stage:
    """`dvc repro` of changed stages that take no time, in a repository that is made in `folder`."""
    from dvc.cli import main as dvc

    template = write_repository(folder / "repository")
    params = (template / "params.yaml").read_text(encoding="utf-8")
    (template / "params.yaml").write_text(params.replace("lr: 2.0", "lr: 3.0"), encoding="utf-8")

    def repro(own: Path) -> None:
        os.chdir(own)
        os.environ |= {"DVC_SITE_CACHE_DIR": str(own / ELSEWHERE), "DVC_NO_ANALYTICS": "1"}
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if code := dvc(["repro"]):
            sys.exit(code)

    hidden = r"\.git/|\.dvc/tmp/|\.of_dvc/|\.dvc/cache/"
    return Stage(repro, hidden, given=template, rewritten=r"dvc\.lock", remedy=AFTER_A_KILL_OF_DVC)
