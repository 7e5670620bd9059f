"""Trains the runs of a row side by side: a process for each, as many at once as there are cores, or GPUs, for them.

Each process sends its log, its progress and what went wrong to the one that started it, which shows them and tells the
processes to stop. No process outlives the one that started it, nor a stage the DVC that started the stage.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from pipeline.config.params import TrainingConfig
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError, reason
from pipeline.system.resume import Stop, stop_on_signals
from pipeline.tracking.progress import Record, RunProgress, ShowProgress, progress_bar, progress_display
from pipeline.train.job import Job, deliver, plan_job, plan_row, read_training_config

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
GRACE_S = 60.0  # to take a last step, save the state and leave
SENT_AS_THEY_ARE = (UserError, OSError, MemoryError, RuntimeError)  # torch's lack of memory is a RuntimeError
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def train_run(prepared: Path, out: Path, *, seed: int, work_folder: Path) -> None:
    """Trains one run into the folder `out` in this process; see stage.train."""
    _train_here(plan_job(prepared, out, seed=seed, work_folder=work_folder))


def train_row(prepared: Path, folder: Path, *, seeds: Sequence[int], work_folder: Path) -> None:
    """Trains the runs of a row side by side into run<seed> of `folder`, but those that are there already.

    When one fails, or on SIGTERM or SIGINT, all save their states and stop; what is raised is as in stage.train.
    """
    jobs = plan_row(prepared, folder, seeds=seeds, work_folder=work_folder)
    missing = [job for job in jobs if not job.is_delivered()]
    _train_all([job for job in missing if not job.is_finished()])
    for job in missing:
        deliver(job)


def train_beside(prepared: Path, out: Path, *, seed: int, seeds: Sequence[int], work_folder: Path) -> None:
    """Trains the run of one stage of DVC into `out`, and beside it those of the other seeds, for their own stages.

    They belong in run<seed> beside `out`, and are kept in `work_folder` until their stages ask for them. One that lies
    in its place already is not trained again. Stops as `train_row` does.
    """
    own = plan_job(prepared, out, seed=seed, work_folder=work_folder)
    if own.is_finished():
        log.info("run %d was trained beside another one", seed)
    else:
        others = plan_row(prepared, out.parent, seeds=[s for s in seeds if s != seed], work_folder=work_folder)
        _train_all([own, *(job for job in others if not job.is_finished() and not job.is_delivered())])
    deliver(own)


def _train_all(jobs: Sequence[Job]) -> None:
    """Trains runs to their end, and leaves them to be delivered."""
    if len(jobs) == 1:
        _train_here(jobs[0], hold_back=True)
    elif jobs:
        _train_side_by_side(jobs, read_training_config(jobs[0].prepared))


def _train_here(job: Job, *, hold_back: bool = False) -> None:
    stop = Stop()
    _stop_without_dvc(stop)
    from pipeline.train.stage import train_job

    train_job(job, stop=stop, progress=progress_bar, hold_back=hold_back)


class _Child(NamedTuple):
    """A process that trains a run. `place` numbers those that train at the same time, and their GPUs."""

    job: Job
    place: int
    process: BaseProcess
    connection: Connection


class _Failure(NamedTuple):
    """What a child raised, and its traceback."""

    error: Exception
    traceback: str


class _ChildTraceback(Exception):
    """Shows where in the child an error of the program was raised."""


def _train_side_by_side(jobs: Sequence[Job], config: TrainingConfig) -> None:
    """Starts a child for each run, the next when one ends, and shows what they send; raises what the first raised."""
    stop, waiting, children = Stop(), list(jobs), list[_Child]()
    failure: BaseException | None = None
    resource_tracker.ensure_running()  # it would let the signals through that the start of a child holds up
    _stop_without_dvc(stop)
    with progress_display() as show, stop_on_signals(stop):
        try:
            children.append(_start(waiting.pop(0), place=0))
            free = list(range(1, _count_places(config)))  # loads torch, while the first child does
            while children or (waiting and failure is None):
                if failure is None and stop.number is not None:
                    failure = SystemExit(stop.exit_code)
                    _tell(children, stop.number)
                while waiting and free and failure is None:
                    children.append(_start(waiting.pop(0), place=free.pop(0)))
                wait([end for child in children for end in (child.connection, child.process.sentinel)], LOOK_EVERY_S)
                for child in list(children):
                    code = child.process.exitcode
                    error = _show_messages(child.connection, show)
                    if code is not None:
                        children.remove(child)
                        free.append(child.place)
                        error = error or _failure_of(child.job, code)
                    if error is not None and failure is None:
                        failure = error
                        _tell(children, signal.SIGTERM)
        finally:
            for child in children:
                child.process.kill()
                child.process.join()
    if failure is not None:
        raise failure


def _count_places(config: TrainingConfig) -> int:
    """Returns how many runs train at the same time: one on each GPU, or as many as the cores have threads for."""
    if torch_device(config.device).type == "cuda":
        import torch

        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // config.threads)


def _start(job: Job, *, place: int) -> _Child:
    """Starts a child. It gets signals only when it is ready for them."""
    context = multiprocessing.get_context("spawn")
    connection, end_of_child = context.Pipe()
    process = context.Process(target=_train_in_child, args=(job, place, end_of_child))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    end_of_child.close()
    return _Child(job, place, process, connection)


def _tell(children: Sequence[_Child], number: int) -> None:
    """Tells the children to save their states and leave."""
    for child in children:
        with suppress(OSError):  # it has just ended
            child.connection.send(number)


def _show_messages(connection: Connection, show: Callable[[RunProgress], None]) -> BaseException | None:
    """Logs and shows what a child has sent, and returns what it raised."""
    with suppress(EOFError, OSError):  # the child has ended, in mid-message if it was killed
        while connection.poll():
            message = connection.recv()
            if isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            elif isinstance(message, RunProgress):
                show(message)
            else:
                message.error.__cause__ = _ChildTraceback(message.traceback)
                return message.error
    return None


def _failure_of(job: Job, code: int) -> BaseException | None:
    """Returns what to raise for the exit code of a child that raised nothing."""
    if code < 0:
        log.error("run %d was killed by %s; the others are stopped", job.seed, signal.Signals(-code).name)
    return SystemExit(128 - code if code < 0 else code) if code else None


def _train_in_child(job: Job, place: int, connection: Connection) -> None:
    """Trains a run, held back, in a process of its own whose GPU, if it uses one, is number `place`."""
    stop, mailbox = Stop(), _Mailbox(connection)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says what to do
    signal.signal(signal.SIGTERM, lambda number, _: _set(stop, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_listen, args=(connection, stop), daemon=True).start()
    handler = logging.handlers.QueueHandler(mailbox)  # type: ignore[arg-type]  # of a queue it needs put_nowait alone
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler], force=True)

    @contextmanager
    def send_progress(name: str, epochs: int) -> Iterator[ShowProgress]:
        def show(epochs_done: float, record: Record | None, frames_per_s: float) -> None:
            mailbox.put_nowait(RunProgress(name, epochs, epochs_done, record, frames_per_s))

        yield show

    try:
        from pipeline.train.stage import train_job

        _choose_gpu(job, place)
        train_job(job, stop=stop, progress=send_progress, hold_back=True)
    except Exception as error:
        mailbox.put_nowait(_Failure(_as_sent(error), traceback.format_exc()))
        sys.exit(1)


def _choose_gpu(job: Job, place: int) -> None:
    if torch_device(read_training_config(job.prepared).device).type == "cuda":
        import torch

        torch.cuda.set_device(place)


def _as_sent(error: Exception) -> Exception:
    """Returns an error of data, disk or memory, and the text of one of the program, whose kind may not be sendable."""
    return error if isinstance(error, SENT_AS_THEY_ARE) else RuntimeError(reason(error))


class _Mailbox:
    """Sends messages to the parent from any thread, as logging's QueueHandler wants it. If it is gone they are lost."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def put_nowait(self, message: object) -> None:
        """Sends a message."""
        with self._lock, suppress(OSError):
            self._connection.send(message)


def _listen(connection: Connection, stop: Stop) -> None:
    """Waits until the parent says to stop, or is gone, and has this process end then."""
    try:
        number = connection.recv()
    except (EOFError, OSError):
        number = signal.SIGTERM
    _end_soon(stop, number)


def _stop_without_dvc(stop: Stop) -> None:
    """Has this process end when the DVC that started it is gone. Others, such as after `nohup`, go on by themselves."""
    if "DVC_STAGE" not in os.environ:
        return
    parent = os.getppid()
    of_dvc = os.getsid(parent) == os.getsid(0)  # else DVC was gone before this process was here

    def watch() -> None:
        while of_dvc and os.getppid() == parent:
            time.sleep(LOOK_EVERY_S)
        _end_soon(stop, signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _end_soon(stop: Stop, number: int) -> None:
    """Sets `stop`, and ends the process if that does not; a state half-written then is not taken for one."""
    _set(stop, number)
    time.sleep(GRACE_S)
    os._exit(128 + number)


def _set(stop: Stop, number: int) -> None:
    stop.number = stop.number or number
