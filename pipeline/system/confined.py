"""Other libraries' readers in a process of their own, with bounded memory and time.

A file that is made to crash, hang or fill such a reader is refused like any damaged one. One process serves all calls
and ends with the process that started it.
"""

from __future__ import annotations

import io
import multiprocessing
import pickle
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline.system.errors import UserError
from pipeline.system.untrusted import RestrictedUnpickler

MEMORY_BYTES = 2 << 30  # beyond what the libraries themselves take; the largest published file takes a fifth of it
CPU_S = 30  # for one file; the largest published one takes 3 s
STATUS = Path("/proc/self/statm")
_started: list[tuple[BaseProcess, Connection]] = []


def confined(read: Callable[..., Any], path: Path, *arguments: Any) -> Any:
    """What `read(path, *arguments)` gives, a function of a module: arrays, dicts, lists, numbers and strings.

    Raises UserError if it does, ends its process, or takes more memory or time than stated above.
    """
    _, pipe = _process()
    try:
        pipe.send((read, path, arguments, CPU_S, MEMORY_BYTES))
        refusal, answer = RestrictedUnpickler(io.BytesIO(pipe.recv_bytes()), where=str(path)).read()
    except (EOFError, OSError):
        _end()
        bounds = f"{MEMORY_BYTES >> 30} GiB of memory and {CPU_S} s"
        raise UserError(
            f"{path}: expected a file that can be read in {bounds}, found one that ends its reader"
        ) from None
    except BaseException:  # as by Ctrl-C: an answer that nobody waited for must not be taken for the next one
        _end()
        raise
    if refusal:
        raise UserError(refusal)
    return answer


def _process() -> tuple[BaseProcess, Connection]:
    if not _started:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()  # the other end sees that this process is gone
        _started.append((process, ours))
    return _started[0]


def _end() -> None:
    process, pipe = _started.pop()
    pipe.close()
    process.kill()
    process.join()


def _serve(pipe: Connection) -> None:
    """Answer calls until nobody is left to ask."""
    while True:
        try:
            read, path, arguments, cpu_s, memory_bytes = pipe.recv()
        except EOFError:
            return
        _limit(cpu_s, memory_bytes)
        try:
            answer = pickle.dumps(("", read(path, *arguments)), protocol=4)
        except UserError as error:
            answer = pickle.dumps((str(error), None))
        except MemoryError:
            refusal = f"{path}: expected to be read in {memory_bytes >> 20} MiB of memory, found more"
            answer = pickle.dumps((refusal, None))
        pipe.send_bytes(answer)


def _limit(cpu_s: int, memory_bytes: int) -> None:
    """Bound this process for the next call, as far as the system can."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + 1 + cpu_s}
    if STATUS.exists():
        limits[resource.RLIMIT_AS] = int(STATUS.read_text().split()[0]) * resource.getpagesize() + memory_bytes
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
