"""Sends a run's numbers to Weights & Biases; the only importer of wandb, and the pipeline runs the same without it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

log = logging.getLogger(__name__)

# wandb's own settings, each left alone where the user has set it. Error reporting off: its last report is sent at
# exit and holds a process up for 10 s more when the server accepts connections and then says nothing.
ENVIRONMENT = {
    "WANDB_PROJECT": "poselift",
    "WANDB_INIT_TIMEOUT": "10",
    "WANDB_HTTP_TIMEOUT": "10",
    "WANDB_FINISH_TIMEOUT": "60",
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_ERROR_REPORTING": "false",
}
# wandb globs end in "*", so the errors whose best epoch is shown are listed one by one.
BEST_IS_LOWEST = ("val/mpjpe_mm", "val/p_mpjpe_mm", "val/n_mpjpe_mm")
# Added to wandb's own limit: only a wandb process that no longer answers gets this far.
FINISH_GRACE_S = 5.0
# How often wandb's file is brought up to date: who follows a run on disk, and a run that is killed, lose no more.
FLUSH_S = 2.0


class Run:
    """One tracked run, or nothing at all when `wandb_run` is None: every method is then a no-op.

    No method raises: what wandb or the disk refuses is logged once per kind of call, and the training goes on.
    """

    def __init__(self, wandb_run: Any = None, root: Path = Path()) -> None:
        self._wandb_run = wandb_run
        self._root = root
        self._warned: set[str] = set()

    def log(self, values: Mapping[str, int | float]) -> None:
        """One row of the history, with its "epoch": the x axis of every chart."""
        self._send("log", lambda wandb_run: wandb_run.log(dict(values)))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Values that describe the whole run, as shown in the table of runs."""
        self._send("summarise", lambda wandb_run: wandb_run.summary.update(dict(values)))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table such as the error of each action; one row for each action."""

        def send(wandb_run: Any) -> None:
            import wandb

            wandb_run.log({key: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

        self._send("table", send)

    def figure(self, key: str, figure: Any) -> None:
        """A picture of a matplotlib Figure; the figure stays open."""

        def send(wandb_run: Any) -> None:
            import wandb
            from PIL import Image

            # Drawn here: wandb's own way fails for a figure made without pyplot.
            picture = BytesIO()
            figure.savefig(picture, format="png")
            wandb_run.log({key: wandb.Image(Image.open(picture))})

        self._send("figure", send)

    def artifact(self, name: str, type: str, path: Path, metadata: Mapping[str, Any]) -> None:
        """A file or a folder, such as a checkpoint, kept with the run as a copy made now."""

        def send(wandb_run: Any) -> None:
            import wandb

            artifact = wandb.Artifact(name, type, metadata=dict(metadata))
            add = artifact.add_dir if path.is_dir() else artifact.add_file
            add(str(path), skip_cache=True)
            wandb_run.log_artifact(artifact)

        self._send("artifact", send)

    @property
    def where(self) -> str | None:
        """A line that tells a person where to see the run; None when nothing is tracked."""
        if self._wandb_run is None:
            return None
        if not self._wandb_run.offline:
            return str(self._wandb_run.url)
        folder = os.path.relpath(self._wandb_run.sync_dir, self._root)
        return f"offline run at {folder}; upload with: wandb sync {folder}"

    def _send(self, what: str, send: Callable[[Any], object]) -> None:
        if self._wandb_run is None:
            return
        try:
            send(self._wandb_run)
        except Exception as error:  # whatever it is, a chart is worth less than the training
            if what not in self._warned:
                log.warning("W&B: %s failed, training goes on: %s", what, _one_line(error))
            self._warned.add(what)


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

    Runs of one `row` are grouped. `run_id` names the run for good: starting it again continues it online, and adds a
    second folder offline. Files go to `wandb/` in `folder`, or in $DVC_ROOT so that a run in a temporary copy of the
    repository leaves them in the real one.

    $WANDB_MODE decides where it goes; unset, online if wandb finds an API key and offline if not. Never asks. What
    goes wrong is one warning: online falls back to offline, offline to a run that tracks nothing.
    """
    root = Path(os.environ.get("DVC_ROOT", folder)).resolve()
    mode = os.environ.get("WANDB_MODE", "")
    identity = {"id": run_id, "name": name, "group": row, "job_type": job_type, "notes": notes, "tags": list(tags)}
    wandb_run = None
    if mode != "disabled":
        wandb_run = _open(mode, root, **identity, config={**config, **_dvc_config()})
    run = Run(wandb_run, root)
    if run.where:
        log.info("W&B: %s", run.where)
    exit_code = 1
    try:
        yield run
        exit_code = 0
    finally:
        if wandb_run is not None:
            _finish(wandb_run, exit_code=exit_code)


def _dvc_config() -> dict[str, dict[str, str]]:
    """Which DVC experiment and stage the process belongs to, as far as DVC says."""
    variables = {"experiment": "DVC_EXP_NAME", "revision": "DVC_EXP_BASELINE_REV", "stage": "DVC_STAGE"}
    return {"dvc": {key: os.environ[variable] for key, variable in variables.items() if variable in os.environ}}


def _open(mode: str, root: Path, **arguments: Any) -> Any:
    """A wandb run in the first way that works: as `mode` says, offline, or not at all (None)."""
    try:
        _set_environment(root)
        import wandb
    except ImportError:
        log.info("W&B: wandb is not installed, nothing is tracked")
        return None
    except Exception as error:  # a folder that cannot be written, a bad $WANDB_..., a wandb that is broken
        log.warning("W&B: nothing is tracked: %s", _one_line(error))
        return None
    if mode not in ("offline", "dryrun"):
        try:
            # Asks the server before a run exists: one that fails later would keep its id and leave a folder behind.
            if wandb.login(prompt=False, verify=True):
                return _init(root, "shared" if mode == "shared" else "online", **arguments)
            (log.warning if mode else log.info)("W&B: no API key found, so this run is offline")
        except Exception as error:  # CommError, AuthenticationError, UsageError, TimeoutError, ...
            log.warning("W&B: cannot go online, so this run is offline: %s", _one_line(error))
            _finish(None, exit_code=1)
    try:
        return _init(root, "offline", **arguments)
    except Exception as error:  # a full disk, a wandb process that does not start
        log.warning("W&B: nothing is tracked, cannot start even offline: %s", _one_line(error))
        _finish(None, exit_code=1)
        return None


def _set_environment(root: Path) -> None:
    """Give wandb our defaults, and folders under `root` where it would else use the home folder or the temporary one.

    Raises OSError if `root/wandb` cannot be made or written, and ValueError if $WANDB_FINISH_TIMEOUT is no number.
    """
    home = root / "wandb"
    home.mkdir(parents=True, exist_ok=True)
    if not os.access(home, os.W_OK | os.X_OK):
        raise PermissionError(f"{home} cannot be written")
    paths = {"WANDB_DATA_DIR": str(home), "WANDB_CACHE_DIR": str(home / "cache")}
    for variable, value in {**ENVIRONMENT, **paths}.items():
        os.environ.setdefault(variable, value)
    float(os.environ["WANDB_FINISH_TIMEOUT"])  # read again at the end, where it is too late to complain


def _init(root: Path, mode: Literal["online", "offline", "shared"], **arguments: Any) -> Any:
    """A started wandb run whose charts have "epoch" as their x axis."""
    import wandb

    settings = wandb.Settings(x_disable_stats=True, x_transaction_log_flush_interval=FLUSH_S)
    # "create_new": no global run, which would make a later login be refused.
    wandb_run = wandb.init(
        mode=mode, dir=str(root), resume="allow", reinit="create_new", settings=settings, **arguments
    )
    wandb_run.define_metric("epoch")
    wandb_run.define_metric("*", step_metric="epoch")
    for metric in BEST_IS_LOWEST:
        wandb_run.define_metric(metric, step_metric="epoch", summary="min,last")
    return wandb_run


def _finish(wandb_run: Any, *, exit_code: int) -> None:
    """Close the run, if there is one, and wandb's own process, so that the next run here starts from nothing."""
    import wandb

    if wandb_run is not None:
        _within_limit(lambda: wandb_run.finish(exit_code=exit_code))
    # Also after a run that did not close: this takes back wandb's wait at exit, which has no limit either.
    _within_limit(wandb.teardown)


def _within_limit(close: Callable[[], object]) -> None:
    """Call `close` for at most $WANDB_FINISH_TIMEOUT and a grace; what goes wrong is a warning.

    In a thread, because wandb waits without limit for a process of its own that has stopped answering.
    """
    errors: list[BaseException] = []

    def work() -> None:
        try:
            close()
        except (Exception, SystemExit) as error:  # SystemExit: wandb's own process ended badly
            errors.append(error)

    timeout_s = float(os.environ["WANDB_FINISH_TIMEOUT"])
    limit_s = timeout_s + FINISH_GRACE_S if timeout_s > 0 else None  # 0 is wandb's word for no limit
    thread = threading.Thread(target=work, name="close wandb", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        errors.append(TimeoutError(f"no answer in {limit_s} s"))
    if errors:
        log.warning("W&B: the run may be incomplete, closing it failed: %s", _one_line(errors[0]))


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
