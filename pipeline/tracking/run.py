"""Sends a run's numbers to Weights & Biases beside the training, which runs the same without it."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipeline.system.errors import reason
from pipeline.system.files import md5_as_dvc, sha256_of
from pipeline.tracking.origin import code_config, dvc_config, trial_of_sweep
from pipeline.tracking.service import RunIdentity, call_within, finish_run, open_run
from pipeline.tracking.wandb_files import wandb_root

if TYPE_CHECKING:
    import wandb
    from matplotlib.figure import Figure
    from PIL import Image

log = logging.getLogger(__name__)

EPOCH_METRICS = {  # column of history.csv -> the name of its chart in W&B
    "epoch": "epoch",
    "train_loss_m": "train/loss",
    "train_mpjpe_mm": "train/mpjpe_mm",
    "val_mpjpe_mm": "val/mpjpe_mm",
    "val_p_mpjpe_mm": "val/p_mpjpe_mm",
    "lr": "lr",
    "grad_norm": "grad_norm",
}
CURVE_TITLES = {  # column of history.csv -> the title of its curve, in the order in which curves are shown
    "val_mpjpe_mm": "validation MPJPE, mm",
    "val_p_mpjpe_mm": "validation P-MPJPE, mm",
    "train_mpjpe_mm": "train MPJPE, mm",
    "train_loss_m": "loss, m",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
BEST_IS_LOWEST = ("val/mpjpe_mm", "val/p_mpjpe_mm")  # charts whose lowest value stands in the summary
USE_LIMIT_S = 10.0  # how long the server has to record that a run used something
T = TypeVar("T")


def name_epoch_metrics(record: Mapping[str, int | float | None]) -> dict[str, int | float]:
    """Returns the numbers of an epoch under the names of their charts; those that are None are left out."""
    return {EPOCH_METRICS[column]: value for column, value in record.items() if value is not None}


class Run:
    """A tracked run; without `open_wandb` it tracks nothing, and every method does nothing.

    A thread opens W&B and sends what is logged, in order, so that neither a slow nor a silent server holds the training
    up. No method raises: what wandb or the disk refuses is logged once per kind of call.
    """

    def __init__(self, open_wandb: Callable[[], wandb.Run | None] | None = None, root: Path = Path()) -> None:
        self.tracks = open_wandb is not None  # whether anything that is sent goes anywhere
        self._root = root
        self._warned: set[str] = set()
        self._wandb_run: wandb.Run | None = None
        self._opened = threading.Event()
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        if open_wandb is None:
            self._opened.set()
        else:
            self._thread = threading.Thread(target=self._work, args=(open_wandb,), name="W&B", daemon=True)
            self._thread.start()

    def log(self, values: Mapping[str, int | float]) -> None:
        """Sends a row of the history, with its "epoch": the x axis of every chart."""
        row = dict(values)
        self._send("log", lambda wandb_run: wandb_run.log(row))

    def summarise(self, values: Mapping[str, object]) -> None:
        """Sends values that describe the whole run, as shown in the table of runs."""
        row = dict(values)
        self._send("summarise", lambda wandb_run: wandb_run.summary.update(row))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Sends a table such as the error of each action; one row for each action."""
        data = [list(row) for row in rows]
        self._send_media("table", key, lambda wandb: wandb.Table(columns=list(columns), data=data))

    def histogram(self, key: str, counts: Sequence[int], edges: Sequence[float]) -> None:
        """Sends counts between the neighbours of `edges`."""
        bins = (np.asarray(counts), np.asarray(edges))
        self._send_media("histogram", key, lambda wandb: wandb.Histogram(np_histogram=bins))

    def figure(self, key: str, figure: Figure, *, epoch: int | None = None) -> None:
        """Sends a picture of a matplotlib Figure as it is now. `epoch` is the one after which it was made."""
        if self.tracks:
            picture = _compute_now(lambda: _draw(figure))
            self._send_media("figure", key, lambda wandb: wandb.Image(picture.result()), epoch=epoch)

    def page(self, key: str, html: str, *, epoch: int | None = None) -> None:
        """Sends a page to look at, such as moving skeletons; it needs nothing else. `epoch` as in `figure`."""
        self._send_media("page", key, lambda wandb: wandb.Html(html, inject=False), epoch=epoch)

    def artifact(
        self, name: str, type: str, path: Path, metadata: Mapping[str, object], *, place: Path | None = None
    ) -> None:
        """Sends the hash that a file or folder has now, such as a checkpoint's: DVC has the bytes, W&B a reference.

        `place` is where it belongs, if it is not there yet.
        """
        if self.tracks:
            reference = _compute_now(lambda: self._reference(path, metadata, place or path))
            self._send("artifact", lambda wandb_run: wandb_run.log_artifact(_artifact(name, type, reference.result())))

    def used(self, name: str, type: str, path: Path, metadata: Mapping[str, object]) -> None:
        """Sends what the run was made from, as another run gave it to `artifact`: an edge of W&B's graph of lineage.

        The graph is the server's, so offline this does nothing; which data and code a run is of stands in its config.
        """

        def send(wandb_run: wandb.Run) -> None:
            if wandb_run.offline or "used" in self._warned:
                return
            artifact = _artifact(name, type, self._reference(path, metadata, path))
            error = call_within(USE_LIMIT_S, lambda: wandb_run.use_artifact(artifact))  # it waits for an answer
            if error is not None:
                raise error

        self._send("used", send)

    def alert(self, title: str, text: str) -> None:
        """Sends a message to whoever follows the run, as W&B is told to deliver it."""
        self._send("alert", lambda wandb_run: wandb_run.alert(title=title, text=text, level="ERROR"))

    @property
    def where(self) -> str | None:
        """A line that tells a person where to see the run; None when nothing is tracked. Waits until that is known."""
        self._opened.wait()
        if self._wandb_run is None:
            return None
        if not self._wandb_run.offline:
            return str(self._wandb_run.url)
        folder = os.path.relpath(self._wandb_run.sync_dir, self._root)
        return f"offline run at {folder}; upload with: wandb sync {folder}"

    def close(self, *, exit_code: int) -> None:
        """Sends what waits and ends the run, within limits; a silent server is not waited for."""
        if self.tracks:
            self._tasks.put(lambda: finish_run(self._wandb_run, exit_code=exit_code) if self._wandb_run else None)
            self._tasks.put(None)
            self._thread.join()

    def _work(self, open_wandb: Callable[[], wandb.Run | None]) -> None:
        try:
            self._wandb_run = open_wandb()
            self._opened.set()
            if self.where:
                log.info("W&B: %s", self.where)
            while (task := self._tasks.get()) is not None:
                task()
        except BaseException as error:  # of wandb, which may also mean to end the process
            log.warning("W&B: nothing more is tracked: %s", reason(error))
        finally:
            self._opened.set()

    def _send(self, what: str, send: Callable[[wandb.Run], object]) -> None:
        if self.tracks:
            self._tasks.put(lambda: self._attempt(what, send))

    def _send_media(
        self, what: str, key: str, make: Callable[[ModuleType], object], *, epoch: int | None = None
    ) -> None:
        """Sends what `make` makes with the module wandb, as a row of the history."""

        def send(wandb_run: wandb.Run) -> None:
            import wandb

            wandb_run.log({key: make(wandb)} | ({} if epoch is None else {"epoch": epoch}))

        self._send(what, send)

    def _attempt(self, what: str, send: Callable[[wandb.Run], object]) -> None:
        if self._wandb_run is None:
            return
        try:
            send(self._wandb_run)
        except Exception as error:  # whatever it is, a chart is worth less than the training
            if what not in self._warned:
                log.warning("W&B: %s failed, training goes on: %s", what, reason(error))
            self._warned.add(what)

    def _reference(self, path: Path, metadata: Mapping[str, object], place: Path) -> dict[str, object]:
        """Returns the metadata with the hash and size of `path`, and `place`. Raises FileNotFoundError for no file."""
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        if not files:
            raise FileNotFoundError(path)
        size_bytes, relative = sum(file.stat().st_size for file in files), os.path.relpath(place, self._root)
        return {**metadata, "dvc_md5": md5_as_dvc(path), "size_bytes": size_bytes, "path": relative}


def _compute_now(work: Callable[[], T]) -> Future[T]:
    """Returns the outcome of `work`, whose result() is its value or raises what it raised."""
    outcome: Future[T] = Future()
    try:
        outcome.set_result(work())
    except Exception as error:
        outcome.set_exception(error)
    return outcome


def _draw(figure: Figure) -> Image.Image:
    """Returns a figure as a picture. wandb's own way fails for a figure made without pyplot."""
    from PIL import Image

    png = BytesIO()
    figure.savefig(png, format="png")
    return Image.open(png)


def _artifact(name: str, type: str, metadata: dict[str, object]) -> wandb.Artifact:
    """Returns W&B's artifact without bytes: a reference by DVC's hash, the same for who logs it and who uses it."""
    import wandb

    artifact = wandb.Artifact(name, type, metadata=metadata)
    file = Path(str(metadata["path"])).name
    artifact.add_reference(f"dvc://{metadata['dvc_md5']}/{file}", name=file, checksum=False)
    return artifact


@contextmanager
def start_run(
    *,
    row: str,
    name: str,
    job_type: str,
    run_id: str,
    config: Mapping[str, object],
    folder: Path,
) -> Iterator[Run]:
    """Yields a run for the length of the `with` block; a block that raises (and still does) marks it as failed.

    Runs of one `row` are grouped, and tagged with the parts of its name and the experiment's. `run_id` names the run
    for good: starting it again continues it online, and adds a second folder offline. Files go to `wandb/` in
    `folder`, or in $DVC_ROOT so that a run in a temporary copy of the repository leaves them in the real one; or in
    $WANDB_DIR.

    $WANDB_MODE decides where it goes; unset, online if wandb finds an API key and offline if not. Never asks. What
    goes wrong is one warning: online falls back to offline, offline to a run that tracks nothing.
    """
    root = Path(os.environ.get("DVC_ROOT", folder)).resolve()
    experiment = os.environ.get("DVC_EXP_NAME")
    tags = list(dict.fromkeys([*row.split("-"), *filter(None, [experiment])]))
    run_id = trial_of_sweep(job_type, config.get("seed")) or run_id
    # From the folder that the stage runs in: an experiment's temporary copy of the repository has a commit and data of
    # its own, and files of wandb may go where there is no repository.
    manifest = Path("data") / "prepared" / row / "manifest.json"
    data = {"data": {"manifest_sha256": sha256_of(manifest)}} if manifest.is_file() else {}
    identity: RunIdentity = {
        "id": run_id,
        "name": name,
        "group": row,
        "job_type": job_type,
        "tags": tags,
        "config": {**config, **code_config(Path()), **dvc_config(), **data},
    }
    mode = os.environ.get("WANDB_MODE", "")
    opened = partial(open_run, mode, wandb_root(root), BEST_IS_LOWEST, identity)
    run = Run(None if mode == "disabled" else opened, root)
    if data:
        run.used(f"{row}-data", "dataset", manifest, {})
    exit_code = 1
    try:
        yield run
        exit_code = 0
    except Exception as error:
        run.alert(f"{name} failed", reason(error))
        raise
    finally:
        run.close(exit_code=exit_code)
