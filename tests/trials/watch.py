"""Watches a reader at work on a file that may hold anything: what it runs, which files it touches, time and memory.

`guard` has Python's audit events stop whatever no reader may do: start a program, open a connection, run code that is
not the project's or a library's, open files outside the folder of the input or write outside it. `outcome` calls a
reader and says how that ended.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import resource
import signal
import sys
import traceback
import typing
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.system import archives
from pipeline.system.errors import UserError

REPOSITORY = Path(__file__).parents[2]
MEMORY_BYTES = 512 << 20  # that a reader may take of a file of at most 1 MiB, beyond what the program has
SECONDS = 10.0  # of the processor, that it may take
LONGEST_LINE = 1000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events that no reader has a reason for, and those that name a path first.
NEVER = [
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "os.startfile",
    "os.putenv",
    "pty.spawn",
    "subprocess.Popen",
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "urllib.Request",
    "pickle.find_class",
    "ctypes.dlopen",
    "code.__new__",
    "webbrowser.open",
]
PATHS = [
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
]
CODE = tuple({str(Path(place).resolve()) for place in (sys.prefix, sys.base_prefix, *sys.path) if place})
READER = [sys.executable, "-c", archives.SERVE]  # the product's own process, which reads with limits
MAKE_CODE = (dataclasses.__file__, typing.__file__, collections.__file__)  # of the names of fields and types


class Trespass(BaseException):
    """Raised for what a reader may not do; no `except Exception` stops it."""


class Hang(BaseException):
    """Raised when a reader takes too long."""


@dataclasses.dataclass
class Watched:
    """Where the reader may read and write; None while nobody watches. `trespasses` are what it was stopped from."""

    folder: str | None
    trespasses: list[str]


WATCHED = Watched(None, [])


def guard() -> None:
    """Has every event of this process judged from now on."""
    sys.addaudithook(_judge)
    signal.signal(signal.SIGVTALRM, _too_long)


def limit_memory() -> None:
    """Lets this process take MEMORY_BYTES more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def outcome(read: Callable[[], object], folder: Path) -> tuple[str, str]:
    """Returns how `read` ended, which may touch `folder` alone: ("read", ""), ("refused", line) or ("bad", why)."""
    WATCHED.trespasses.clear()
    WATCHED.folder = str(folder.resolve())
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        result = _ended(read)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        WATCHED.folder = None
    return ("bad", WATCHED.trespasses[0]) if WATCHED.trespasses else result


def warm(reader: Any, folder: Path) -> list[bytes]:
    """Returns the good files, each read once, so that what a reader imports late is there."""
    reader.prepare(folder)
    seeds = list(reader.seeds(folder))
    for seed in seeds:
        with suppress(UserError):
            reader.read(folder, seed)
    return seeds


def _ended(read: Callable[[], object]) -> tuple[str, str]:
    try:
        read()
    except UserError as error:
        line = str(error)
        if not line.isprintable():
            return "bad", f"a refusal of several lines or with control characters at {_place(error)}"
        if len(line) > LONGEST_LINE:
            return "bad", f"a refusal of more than {LONGEST_LINE} letters at {_place(error)}"
        if "MemoryError" in line:
            return "bad", f"too much memory at {_place(error)}"
        return "refused", line
    except (KeyboardInterrupt, SystemExit):
        raise
    except Hang as error:
        return "bad", f"more than {SECONDS:g} s at {_place(error)}"
    except BaseException as error:
        return "bad", f"{type(error).__name__} at {_place(error)}: {' '.join(str(error).split())[:100]}"
    return "read", ""


def _place(error: BaseException) -> str:
    """Returns the innermost line of the project that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    of_project = [frame for frame in frames if Path(frame.filename).is_relative_to(REPOSITORY / "pipeline")]
    frame = (of_project or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _too_long(*_: object) -> None:
    raise Hang


def _judge(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHED.folder is None:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = bool((flags or 0) & WRITING) or bool(set(mode or "") & set("wax+"))
        if isinstance(path, (str, bytes)) and not _allowed(path, reads=not writes):
            _stop(f"opens {os.fsdecode(path)}" + (" to write" if writes else ""))
    elif event == "exec":
        name = getattr(arguments[0], "co_filename", "")
        if not name.startswith((*CODE, "<frozen")) and sys._getframe(1).f_code.co_filename not in MAKE_CODE:
            _stop(f"runs code of {name}")
    elif event == "subprocess.Popen" and list(arguments[1])[:3] == READER:
        return
    elif event in NEVER:
        _stop(f"{event}{arguments[:1]!r:.80}")
    elif event in PATHS and isinstance(arguments[0], (str, bytes, os.PathLike)) and not _allowed(arguments[0]):
        _stop(f"{event} of {os.fsdecode(arguments[0])}")


def _allowed(path: str | bytes | os.PathLike[Any], *, reads: bool = False) -> bool:
    """Returns whether a path is in the watched folder, or one of the program's that is only read."""
    place = os.path.realpath(os.fsdecode(path))
    inside = (WATCHED.folder or "",) + ((*CODE, "/proc/self", "/sys/", "/dev/null") if reads else ("/dev/null",))
    return place.startswith(inside)


def _stop(what: str) -> None:
    WATCHED.trespasses.append(what)
    raise Trespass(what)
