"""Opens and closes wandb's runs in the first way that works, within limits of time, and says once what went wrong."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from pipeline.system.errors import reason

if TYPE_CHECKING:
    import wandb

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
    # The machine's name, its folders and the address of git's remote stay here; the commit is in the run's config.
    "WANDB_X_DISABLE_META": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_HOST": "private",
}
FINISH_GRACE_S = 5.0  # added to wandb's own limit: only a wandb process that no longer answers gets this far
FLUSH_S = 2.0  # how often wandb's file is written: a reader of a running run, and a run that is killed, lose no more
ANSWER_LIMIT_S = 1.0  # how long the server has, at the end of a run, to say anything
SILENT_FINISH_S = 1.5  # how long a run has to end whose server said nothing
SILENT, KEY_REFUSED = "no longer answers", "no longer takes the key"


class RunIdentity(TypedDict):
    """What a run is called, and what it is of, by the names of wandb.init's arguments."""

    id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, object]


def open_run(mode: str, root: Path, best_is_lowest: Sequence[str], identity: RunIdentity) -> wandb.Run | None:
    """Returns a wandb run in the first way that works: as `mode` says, offline, or not at all (None)."""
    try:
        _set_environment(root)
        import wandb
    except ImportError:
        log.info("W&B: wandb is not installed, nothing is tracked")
        return None
    except Exception as error:  # a folder that cannot be written, a bad $WANDB_..., a wandb that is broken
        log.warning("W&B: nothing is tracked: %s", reason(error))
        return None
    start = partial(_start_run, root=root, best_is_lowest=best_is_lowest, identity=identity)
    if mode not in ("offline", "dryrun"):
        try:
            # Asks the server before a run exists: one that fails later would keep its id and leave a folder behind.
            if wandb.login(prompt=False, verify=True):
                return start(mode="shared" if mode == "shared" else "online")
            (log.warning if mode else log.info)("W&B: no API key found, so this run is offline")
        except Exception as error:  # CommError, AuthenticationError, UsageError, TimeoutError, ...
            log.warning("W&B: cannot go online, so this run is offline: %s", reason(error))
            call_within(_finish_limit_s(), wandb.teardown)
    try:
        return start(mode="offline")
    except Exception as error:  # a full disk, a wandb process that does not start
        log.warning("W&B: nothing is tracked, cannot start even offline: %s", reason(error))
        call_within(_finish_limit_s(), wandb.teardown)
        return None


def _set_environment(root: Path) -> None:
    """Gives wandb our defaults, and folders under `root` where it would else use the home folder or the temporary one.

    Raises OSError if `root/wandb` cannot be made or written, and ValueError if $WANDB_FINISH_TIMEOUT is no number.
    """
    home = root / "wandb"
    home.mkdir(parents=True, exist_ok=True)
    if not os.access(home, os.W_OK | os.X_OK):
        raise PermissionError(f"{home} cannot be written")
    paths = {"WANDB_DATA_DIR": str(home), "WANDB_CACHE_DIR": str(home / "cache")}
    for variable, value in {**ENVIRONMENT, **paths}.items():
        os.environ.setdefault(variable, value)
    _finish_limit_s()  # read again at the end, where it is too late to complain


def _start_run(
    *, mode: Literal["online", "offline", "shared"], root: Path, best_is_lowest: Sequence[str], identity: RunIdentity
) -> wandb.Run:
    """Returns a started wandb run whose charts have "epoch" as their x axis."""
    import wandb

    # The project too: a wandb that this process has set up before no longer looks at the variable.
    settings = wandb.Settings(x_transaction_log_flush_interval=FLUSH_S, project=os.environ["WANDB_PROJECT"])
    # "create_new": no global run, which would make a later login be refused.
    wandb_run = wandb.init(mode=mode, dir=str(root), resume="allow", reinit="create_new", settings=settings, **identity)
    wandb_run.define_metric("epoch")
    wandb_run.define_metric("*", step_metric="epoch")
    for metric in best_is_lowest:  # one by one: wandb's patterns end in "*"
        wandb_run.define_metric(metric, step_metric="epoch", summary="min,last")
    return wandb_run


def finish_run(wandb_run: wandb.Run, *, exit_code: int) -> None:
    """Closes the run and wandb's own process, so that the next run here starts from nothing."""
    import wandb

    complaint = None if wandb_run.offline else _complaint_about_server(wandb_run.settings)
    if complaint:  # wandb itself says nothing of what it could not send
        sync_dir = Path(wandb_run.settings.sync_dir)
        folder = sync_dir if os.environ.get("WANDB_DIR") else Path("wandb", sync_dir.name)
        log.warning("W&B: the server %s; the run is on disk: wandb sync %s", complaint, folder)
    limit_s = SILENT_FINISH_S if complaint == SILENT else _finish_limit_s()
    # Torn down also after a run that did not close: this takes back wandb's wait at exit, which has no limit either.
    ends = (partial(wandb_run.finish, exit_code=exit_code), wandb.teardown)
    errors = [error for error in [call_within(limit_s, end) for end in ends] if error is not None]
    if complaint != SILENT:
        for error in errors:
            log.warning("W&B: the run may be incomplete, closing it failed: %s", reason(error))
        if not errors:
            _remove_logs(Path(wandb_run.settings.sync_dir))


def _finish_limit_s() -> float | None:
    timeout_s = float(os.environ["WANDB_FINISH_TIMEOUT"])
    return timeout_s + FINISH_GRACE_S if timeout_s > 0 else None  # 0 is wandb's word for no limit


def _remove_logs(folder: Path) -> None:
    """Removes wandb's own logs of a run that closed well: they name folders of this machine."""
    (folder / "logs" / "debug-core.log").resolve().unlink(missing_ok=True)  # a link into wandb's cache
    shutil.rmtree(folder / "logs", ignore_errors=True)
    for link in folder.parent.glob("debug*.log"):
        if not link.exists():
            link.unlink(missing_ok=True)


def _complaint_about_server(settings: wandb.Settings) -> str | None:
    """Returns SILENT or KEY_REFUSED if the server says nothing soon, or no longer takes the run's key."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{settings.base_url}/graphql", b'{"query": "{ __typename }"}', headers)
    if settings.api_key:
        key = base64.b64encode(f"api:{settings.api_key}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {key}")
    try:
        urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S).close()
    except urllib.error.HTTPError as error:
        return KEY_REFUSED if settings.api_key and error.code in (401, 403) else None
    except (OSError, ValueError):
        return SILENT
    return None


def call_within(limit_s: float | None, call: Callable[[], object]) -> BaseException | None:
    """Calls `call` for at most `limit_s`, None for no limit; returns what went wrong.

    In a thread, because wandb waits without limit for a process of its own that has stopped answering.
    """
    errors: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except (Exception, SystemExit) as error:  # SystemExit: wandb's own process ended badly
            errors.append(error)

    thread = threading.Thread(target=work, name="wait for wandb", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        return TimeoutError(f"no answer in {limit_s} s")
    return errors[0] if errors else None
