"""Opens and closes wandb's runs in the first way that works, within limits of time, and says once what went wrong."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pipeline.system.errors import reason

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
# wandb globs end in "*", so the errors whose best epoch is shown are listed one by one.
BEST_IS_LOWEST = ("val/mpjpe_mm", "val/p_mpjpe_mm", "val/n_mpjpe_mm")
# Added to wandb's own limit: only a wandb process that no longer answers gets this far.
FINISH_GRACE_S = 5.0
# How often wandb's file is brought up to date: who follows a run on disk, and a run that is killed, lose no more.
FLUSH_S = 2.0
# At the end of a run: how long the server has to say anything, and what is left to a run whose server did not.
PROBE_S = 1.0
SILENT_FINISH_S = 1.5


def open_run(mode: str, root: Path, **arguments: Any) -> Any:
    """A wandb run in the first way that works: as `mode` says, offline, or not at all (None)."""
    try:
        _set_environment(root)
        import wandb
    except ImportError:
        log.info("W&B: wandb is not installed, nothing is tracked")
        return None
    except Exception as error:  # a folder that cannot be written, a bad $WANDB_..., a wandb that is broken
        log.warning("W&B: nothing is tracked: %s", reason(error))
        return None
    if mode not in ("offline", "dryrun"):
        try:
            # Asks the server before a run exists: one that fails later would keep its id and leave a folder behind.
            if wandb.login(prompt=False, verify=True):
                return _init(root, "shared" if mode == "shared" else "online", **arguments)
            (log.warning if mode else log.info)("W&B: no API key found, so this run is offline")
        except Exception as error:  # CommError, AuthenticationError, UsageError, TimeoutError, ...
            log.warning("W&B: cannot go online, so this run is offline: %s", reason(error))
            _give_up()
    try:
        return _init(root, "offline", **arguments)
    except Exception as error:  # a full disk, a wandb process that does not start
        log.warning("W&B: nothing is tracked, cannot start even offline: %s", reason(error))
        _give_up()
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

    # The project too: a wandb that this process has set up before no longer looks at the variable.
    settings = wandb.Settings(x_transaction_log_flush_interval=FLUSH_S, project=os.environ["WANDB_PROJECT"])
    # "create_new": no global run, which would make a later login be refused.
    wandb_run = wandb.init(
        mode=mode, dir=str(root), resume="allow", reinit="create_new", settings=settings, **arguments
    )
    wandb_run.define_metric("epoch")
    wandb_run.define_metric("*", step_metric="epoch")
    for metric in BEST_IS_LOWEST:
        wandb_run.define_metric(metric, step_metric="epoch", summary="min,last")
    return wandb_run


def finish_run(wandb_run: Any, *, exit_code: int) -> None:
    """Close the run and wandb's own process, so that the next run here starts from nothing."""
    import wandb

    limit_s = _finish_limit_s()
    answer = "offline" if wandb_run.offline else _answer(wandb_run.settings)
    silent = answer == "silent"
    if answer in ("silent", "refused"):
        # Of what it could not send with a key that was good when the run began, wandb itself says nothing.
        what = "no longer answers" if silent else "no longer takes the key"
        folder = Path(wandb_run.settings.sync_dir).name
        log.warning("W&B: the server %s; the run is on disk: wandb sync wandb/%s", what, folder)
    if silent:
        limit_s = SILENT_FINISH_S
    error = within_limit(lambda: wandb_run.finish(exit_code=exit_code), limit_s)
    _warn_unless(silent, error)
    # Also after a run that did not close: this takes back wandb's wait at exit, which has no limit either.
    torn = within_limit(wandb.teardown, limit_s)
    _warn_unless(silent, torn)
    if not silent and error is None and torn is None:
        _remove_logs(Path(wandb_run.settings.sync_dir))


def _give_up() -> None:
    """Close wandb's own process where no run began. Nothing is said: why has been, and there is nothing to lose."""
    import wandb

    within_limit(wandb.teardown, _finish_limit_s())


def _finish_limit_s() -> float | None:
    timeout_s = float(os.environ["WANDB_FINISH_TIMEOUT"])
    return timeout_s + FINISH_GRACE_S if timeout_s > 0 else None  # 0 is wandb's word for no limit


def _remove_logs(folder: Path) -> None:
    """Take wandb's own logs of a run that closed well out of its folder: they name folders of this machine."""
    service = folder / "logs" / "debug-core.log"
    if service.is_symlink():
        service.resolve().unlink(missing_ok=True)
    shutil.rmtree(folder / "logs", ignore_errors=True)
    for link in folder.parent.glob("debug*.log"):
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)


def _warn_unless(silent: bool, error: BaseException | None) -> None:
    if error is not None and not silent:
        log.warning("W&B: the run may be incomplete, closing it failed: %s", reason(error))


def _answer(settings: Any) -> Literal["answered", "refused", "silent"]:
    """Whether the run's server says anything at all, and soon, and whether it takes the run's key."""
    address, headers = f"{settings.base_url}/graphql", {"Content-Type": "application/json"}
    request = urllib.request.Request(address, b'{"query": "{ __typename }"}', headers)
    if settings.api_key:
        key = base64.b64encode(f"api:{settings.api_key}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {key}")
    try:
        urllib.request.urlopen(request, timeout=PROBE_S).close()
    except urllib.error.HTTPError as error:
        return "refused" if settings.api_key and error.code in (401, 403) else "answered"
    except (OSError, ValueError):
        return "silent"
    return "answered"


def within_limit(call: Callable[[], object], limit_s: float | None) -> BaseException | None:
    """Call `call` for at most `limit_s`, None for no limit; gives what went wrong.

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
