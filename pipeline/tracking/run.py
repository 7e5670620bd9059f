"""Sends a run's numbers to Weights & Biases beside the training, which runs the same without it."""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.system.errors import reason
from pipeline.system.files import md5_as_dvc, sha256_of
from pipeline.tracking.service import finish_run, open_run, within_limit

log = logging.getLogger(__name__)
R = TypeVar("R")

EPOCH_METRICS = {  # column of history.csv -> the name of its chart in W&B
    "epoch": "epoch",
    "train_mpjpe_mm": "train/mpjpe_mm",
    "val_mpjpe_mm": "val/mpjpe_mm",
    "val_p_mpjpe_mm": "val/p_mpjpe_mm",
    "lr": "lr",
    "grad_norm": "grad_norm",
}
USE_S = 10.0  # how long the server has to record that a run used something


def name_epoch_metrics(record: Mapping[str, int | float | None]) -> dict[str, int | float]:
    """Returns the numbers of an epoch under the names of their charts; those that are None are left out."""
    known = {EPOCH_METRICS[column]: value for column, value in record.items() if value is not None}
    return known | {"train/loss": known["train/mpjpe_mm"] / 1000}


class Run:
    """One tracked run, or nothing at all without an `opening`: every method is then a no-op.

    A thread of its own opens W&B and sends what is logged, in order: neither a server that is slow nor one that says
    nothing holds the training up. No method raises: what wandb or the disk refuses is logged once per kind of call.
    """

    def __init__(self, opening: Callable[[], Any] | None = None, root: Path = Path()) -> None:
        self._root = root
        self._warned: set[str] = set()
        self._wandb_run: Any = None
        self._opened, self._closed = threading.Event(), threading.Event()
        self._waiting: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.tracks = opening is not None  # whether anything that is sent goes anywhere
        if opening is None:
            self._opened.set()
        else:
            threading.Thread(target=self._work, args=(opening,), name="W&B", daemon=True).start()

    def log(self, values: Mapping[str, int | float]) -> None:
        """One row of the history, with its "epoch": the x axis of every chart."""
        row = dict(values)
        self._send("log", lambda wandb_run: wandb_run.log(row))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Values that describe the whole run, as shown in the table of runs."""
        row = dict(values)
        self._send("summarise", lambda wandb_run: wandb_run.summary.update(row))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table such as the error of each action; one row for each action."""
        data = [list(row) for row in rows]

        def send(wandb_run: Any) -> None:
            import wandb

            wandb_run.log({key: wandb.Table(columns=list(columns), data=data)})

        self._send("table", send)

    def histogram(self, key: str, counts: Sequence[int], edges: Sequence[float]) -> None:
        """Counts between the neighbours of `edges`."""
        bins = (np.asarray(counts), np.asarray(edges))

        def send(wandb_run: Any) -> None:
            import wandb

            wandb_run.log({key: wandb.Histogram(np_histogram=bins)})

        self._send("histogram", send)

    def figure(self, key: str, figure: Any, *, epoch: int | None = None) -> None:
        """A picture of a matplotlib Figure; the figure stays open. `epoch`: by then it had learned what is shown."""

        def draw() -> Any:
            from PIL import Image

            # Drawn here: wandb's own way fails for a figure made without pyplot.
            picture = BytesIO()
            figure.savefig(picture, format="png")
            return Image.open(picture)

        if self.tracks:
            drawn = _done(draw)
            self._send("figure", lambda wandb_run: wandb_run.log({key: _wandb_image(drawn()), **_at(epoch)}))

    def page(self, key: str, html: str, *, epoch: int | None = None) -> None:
        """A page to look at, such as moving skeletons; it needs nothing else. `epoch` as in `figure`."""

        def send(wandb_run: Any) -> None:
            import wandb

            wandb_run.log({key: wandb.Html(html, inject=False), **_at(epoch)})

        self._send("page", send)

    def artifact(self, name: str, type: str, path: Path, metadata: Mapping[str, Any]) -> None:
        """A file or a folder, such as a checkpoint, by its hash as it is now: DVC has the bytes, W&B the reference."""

        if self.tracks:
            looked = _done(lambda: self._looked_at(path))
            known = dict(metadata)
            self._send("artifact", lambda wandb_run: wandb_run.log_artifact(_reference(name, type, known, **looked())))

    def used(self, name: str, type: str, path: Path, metadata: Mapping[str, Any]) -> None:
        """What the run was made from, as `artifact` was given it by another run: an edge of W&B's graph of lineage.

        The graph is the server's, so offline this does nothing; which data and code a run is of stands in its config.
        """

        def send(wandb_run: Any) -> None:
            if wandb_run.offline or "used" in self._warned:
                return
            artifact = _reference(name, type, metadata, **self._looked_at(path))
            error = within_limit(lambda: wandb_run.use_artifact(artifact), USE_S)  # it waits for the server's answer
            if error is not None:
                raise error

        self._send("used", send)

    def alert(self, title: str, text: str) -> None:
        """A message to whoever follows the run, as W&B is told to deliver it."""
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
        """Send what waits and end the run, within limits; a silent server is not waited for."""
        if not self.tracks:
            return
        self._waiting.put(
            lambda: finish_run(self._wandb_run, exit_code=exit_code) if self._wandb_run is not None else None
        )
        self._waiting.put(None)
        self._closed.wait()

    def _looked_at(self, path: Path) -> dict[str, Any]:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        if not files:
            raise FileNotFoundError(path)
        size_bytes = sum(file.stat().st_size for file in files)
        return {"dvc_md5": md5_as_dvc(path), "size_bytes": size_bytes, "path": os.path.relpath(path, self._root)}

    def _work(self, opening: Callable[[], Any]) -> None:
        try:
            self._wandb_run = opening()
            self._opened.set()
            if self.where:
                log.info("W&B: %s", self.where)
            while (task := self._waiting.get()) is not None:
                task()
        except BaseException as error:  # of wandb, which may also mean to end the process
            log.warning("W&B: nothing more is tracked: %s", reason(error))
        finally:
            self._opened.set()
            self._closed.set()

    def _send(self, what: str, send: Callable[[Any], object]) -> None:
        if self.tracks:
            self._waiting.put(lambda: self._attempt(what, send) if self._wandb_run is not None else None)

    def _attempt(self, what: str, send: Callable[[Any], object]) -> None:
        try:
            send(self._wandb_run)
        except Exception as error:  # whatever it is, a chart is worth less than the training
            if what not in self._warned:
                log.warning("W&B: %s failed, training goes on: %s", what, reason(error))
            self._warned.add(what)


def _done(work: Callable[[], R]) -> Callable[[], R]:
    """The outcome of `work`, done now: a function that gives what it gave, or raises what it raised."""
    try:
        result = work()
    except Exception as error:
        failure = error

        def fail() -> R:
            raise failure

        return fail
    return lambda: result


def _at(epoch: int | None) -> dict[str, int]:
    return {} if epoch is None else {"epoch": epoch}


def _wandb_image(picture: Any) -> Any:
    import wandb

    return wandb.Image(picture)


def _reference(name: str, type: str, metadata: Mapping[str, Any], **looked: Any) -> Any:
    """W&B's artifact without bytes: one reference by DVC's hash, the same for who logs it and who uses it."""
    import wandb

    artifact = wandb.Artifact(name, type, metadata={**metadata, **looked})
    file = Path(looked["path"]).name
    artifact.add_reference(f"dvc://{looked['dvc_md5']}/{file}", name=file, checksum=False)
    return artifact


@contextmanager
def start_run(
    *,
    row: str,
    name: str,
    job_type: str,
    run_id: str,
    config: Mapping[str, Any],
    folder: Path,
    notes: str | None = None,
    tags: Sequence[str] = (),
) -> Iterator[Run]:
    """A run for the length of the `with` block, marked as failed when the block raises (which it still does).

    Runs of one `row` are grouped, and tagged with the parts of its name and the experiment's. `run_id` names the run
    for good: starting it again continues it online, and adds a second folder offline. Files go to `wandb/` in
    `folder`, or in $DVC_ROOT so that a run in a temporary copy of the repository leaves them in the real one.

    $WANDB_MODE decides where it goes; unset, online if wandb finds an API key and offline if not. Never asks. What
    goes wrong is one warning: online falls back to offline, offline to a run that tracks nothing.
    """
    root = Path(os.environ.get("DVC_ROOT", folder)).resolve()
    mode = os.environ.get("WANDB_MODE", "")
    experiment = os.environ.get("DVC_EXP_NAME")
    all_tags = list(dict.fromkeys([*tags, *row.split("-"), *filter(None, [experiment])]))
    run_id = _trial_of_a_sweep(job_type) or run_id
    identity = {"id": run_id, "name": name, "group": row, "job_type": job_type, "notes": notes, "tags": all_tags}
    all_config = {**config, **_code_config(folder), **_dvc_config(), **_data_config(row)}
    opening = None if mode == "disabled" else partial(open_run, mode, root, **identity, config=all_config)
    run = Run(opening, root)
    if (manifest := _manifest(row)).is_file():
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


def _trial_of_a_sweep(job_type: str) -> str | None:
    """In a sweep the id of its trial, which is the evaluation's run: the sweep is over its scores.

    For a process of another stage the sweep is forgotten, so that its runs are ones of their own.
    """
    if job_type != "evaluate_5runs":
        for variable in ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID"):
            os.environ.pop(variable, None)
        return None
    return os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None


def _code_config(folder: Path) -> dict[str, Any]:
    """The commit that the folder is at, if it is in a repository of git."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return {}
    return {"code": {"commit": answer.stdout.strip()}} if answer.returncode == 0 else {}


def _data_config(row: str) -> dict[str, Any]:
    """The hash of the manifest of the row's prepared data, which has the hashes of all its files."""
    manifest = _manifest(row)
    return {"data": {"manifest_sha256": sha256_of(manifest)}} if manifest.is_file() else {}


def _manifest(row: str) -> Path:
    # Of the folder that the stage runs in: an experiment's temporary copy of the repository has data of its own.
    return Path("data") / "prepared" / row / "manifest.json"


def _dvc_config() -> dict[str, dict[str, str]]:
    """Which DVC experiment and stage the process belongs to, as far as DVC says."""
    variables = {"experiment": "DVC_EXP_NAME", "revision": "DVC_EXP_BASELINE_REV", "stage": "DVC_STAGE"}
    return {"dvc": {key: os.environ[variable] for key, variable in variables.items() if variable in os.environ}}
