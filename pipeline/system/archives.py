"""Reads files that may hold anything: in a child process with limits, nothing in them executed, plain values alone.

Whatever library reads such a file does it in one child process whose memory and processor time are limited. So a file
that is made to crash, hang or fill its reader is refused like any damaged one. The child serves all calls and ends with
the process that started it.
"""

from __future__ import annotations

import atexit
import io
import multiprocessing
import pickle
import resource
import signal
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from pipeline.system.errors import UserError, reason

MEMORY_BYTES = 3 << 30  # beyond what the libraries take; the largest published file, of 0.7 GB, takes 2
CPU_S = 30  # for one file; the largest published one takes 3 s
STATUS = Path("/proc/self/statm")
PLAIN = "arrays, dicts, lists, numbers and strings"
NUMBERS_AND_TEXT = "biufSU"  # kinds of arrays, as numpy's letters
T = TypeVar("T")
SERVE = "import sys; sys.path[:] = sys.argv[2:]; from pipeline.system.archives import _serve; _serve(int(sys.argv[1]))"
_children: list[tuple[subprocess.Popen[bytes], Connection]] = []


def read_confined(read: Callable[..., T], path: Path, *arguments: object, expected: str) -> T:
    """Returns `read(path, *arguments)`, a function of a module, run in the child process.

    Raises UserError, which names `path` and says that `expected` was expected, if there is no such file, or if `read`
    raises anything, returns anything but arrays, dicts, lists, tuples, numbers, strings, bools and None, ends its
    process, or takes more memory or time than stated above.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected {expected}, found no such file")
    try:
        answer = _ask_child(read, path.absolute(), arguments, expected)
        refusal, value = PlainUnpickler(io.BytesIO(answer)).load()
    except (EOFError, OSError):
        _end_child()
        limits = f"{MEMORY_BYTES >> 20} MiB of memory and {CPU_S} s"
        raise UserError(f"{path}: expected {expected} that takes {limits}, found one that ends its reader") from None
    except BaseException:  # such as Ctrl-C: an answer that nobody waited for must not be taken for the next one
        _end_child()
        raise
    if refusal:
        raise UserError(f"{path}: {refusal}")
    return value


def read_object_npz(path: Path) -> dict[str, object]:
    """Returns the arrays of an npz archive by name; a 0-d object array as its content.

    Raises UserError if the file is missing, damaged, takes absurd memory, or holds anything that read_confined refuses.
    """
    return read_confined(_read_npz, path, expected="a whole npz archive")


def check_torch_archive(path: Path) -> None:
    """Raises BadZipFile if an archive of torch.save is damaged: torch itself reads on over a wrong checksum."""
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise zipfile.BadZipFile("compressed content, which torch does not write")
        if (wrong := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"a wrong checksum of {wrong}")


def _read_npz(path: Path) -> dict[str, object]:
    arrays: dict[str, object] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            with archive.open(member) as file:
                arrays[name] = _read_npy(file, name)
                file.read()  # to the end, where zipfile compares the checksum
    return arrays


def _read_npy(file: Any, name: str) -> object:
    try:
        version = np.lib.format.read_magic(file)
        old = version == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        _, _, dtype = read_header(file)
        if dtype.hasobject:
            array = PlainUnpickler(file).load()
            return array.item() if array.shape == () else array
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    except (MemoryError, zipfile.BadZipFile, zlib.error):  # which are not of this array alone
        raise
    except Exception as error:  # a pickle can bring about any
        raise UserError(f"'{name}': expected {PLAIN}, found {reason(error)}") from error


def _plain_dtype(code: str, align: object = False, copy: object = True) -> np.dtype:
    """Stands for numpy.dtype: a new one, so that the state a pickle gives it changes no other."""
    dtype = np.dtype(code, False, True)
    if dtype.kind not in NUMBERS_AND_TEXT + "O":
        raise pickle.UnpicklingError(f"an array of {dtype}")
    return dtype


def _scalar(dtype: np.dtype, data: bytes) -> object:
    return np.ndarray((), dtype, data)[()]


def _array_from_buffer(
    data: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: Literal["C", "F"]
) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order=order)


# The functions that numpy's pickles name, and what is called in their place.
ADMITTED: dict[str, object] = {
    "numpy.ndarray": "numpy.ndarray",  # an argument of _reconstruct, and not to be called
    "numpy.dtype": _plain_dtype,
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),  # how protocol 2 writes bytes
    "__builtin__.bytes": lambda: b"",  # the same for none
}
for core in ("core", "_core"):  # numpy 1 and numpy 2
    ADMITTED[f"numpy.{core}.multiarray._reconstruct"] = lambda kind, shape, code: np.empty(0, "b")
    ADMITTED[f"numpy.{core}.multiarray.scalar"] = _scalar
    ADMITTED[f"numpy.{core}.numeric._frombuffer"] = _array_from_buffer


class PlainUnpickler(pickle._Unpickler):
    """Reads a pickle of numpy's arrays and Python's plain values that calls ADMITTED alone.

    It is Python's unpickler written in Python, since the one in C would set the state of anything.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")  # which numpy asks for to read what Python 2 wrote

    def find_class(self, module: str, name: str) -> object:
        """Returns what stands for the function of that name. Raises UnpicklingError if it is not admitted."""
        if f"{module}.{name}" not in ADMITTED:
            raise pickle.UnpicklingError(f"a call of '{module}.{name}'")
        return ADMITTED[f"{module}.{name}"]

    def load_build(self) -> None:
        """Sets the state of an array, or the byte order of its type: other state could let it read any memory."""
        state, target = self.stack.pop(), self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(target, np.dtype):
            if any(part is not None for part in state[2:5]):
                raise pickle.UnpicklingError("a structured array")
            state = (3, state[1], None, None, None, target.itemsize, target.alignment, target.flags)
        elif type(target) is not np.ndarray:
            raise pickle.UnpicklingError(f"a state for a value of type {type(target).__name__}")
        target.__setstate__(state)

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}  # type: ignore[dict-item]  # noqa: RUF012


def check_plain(value: Any) -> None:
    """Raises UserError unless `value` is what read_confined returns. What it has in two places is looked at twice."""
    kind = type(value)
    if kind is dict:
        if bad := [key for key in value if type(key) not in (str, int)]:
            raise UserError(f"expected names or numbers as keys, found a value of type {type(bad[0]).__name__}")
        parts = value.values()
    elif kind in (list, tuple) or (kind is np.ndarray and value.dtype == object):
        parts = value if kind is not np.ndarray else value.flat
    elif kind is int:
        if not -(2**63) <= value < 2**64:
            raise UserError("expected numbers of 64 bits, found a larger one")
        return
    elif value is None or kind in (bool, float, str):
        return
    elif kind is np.ndarray or isinstance(value, np.generic):
        if value.dtype.kind not in NUMBERS_AND_TEXT:
            raise UserError(f"expected {PLAIN}, found an array of {value.dtype}")
        return
    else:
        raise UserError(f"expected {PLAIN}, found a value of type {kind.__name__}")
    for part in parts:
        check_plain(part)


def _ask_child(*request: object) -> bytes:
    if not _children:
        ours, theirs = multiprocessing.Pipe()
        # Not a process of multiprocessing, which would run the script that reads the file once more.
        command = [sys.executable, "-c", SERVE, str(theirs.fileno()), *sys.path]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        theirs.close()  # so that reading from ours ends when the child is gone
        _children.append((process, ours))
    _, pipe = _children[0]
    pipe.send((request, CPU_S, MEMORY_BYTES))
    return pipe.recv_bytes()


def _end_child() -> None:
    for process, pipe in _children:
        pipe.close()
        process.kill()
        process.wait()
    _children.clear()


atexit.register(_end_child)


def _serve(handle: int) -> None:
    """Answers requests until nobody is left to ask, through the pipe of this number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends who asks, and with that this process
    pipe = Connection(handle)
    while True:
        try:
            request, cpu_s, memory_bytes = pipe.recv()
        except EOFError:
            return
        try:
            with _limits(cpu_s, memory_bytes):
                answer = _answer(*request)
        except MemoryError:
            refusal = f"expected to be read in {memory_bytes >> 20} MiB of memory, found more"
            answer = pickle.dumps((refusal, None))
        pipe.send_bytes(answer)


def _answer(read: Callable[..., object], path: Path, arguments: tuple[object, ...], expected: str) -> bytes:
    """Returns what `read` returns or why it is refused, pickled. What lies in two places is written twice."""
    refusal = ""
    value: object = None
    try:
        value = read(path, *arguments)
        check_plain(value)
    except MemoryError:
        raise
    except UserError as error:
        refusal, value = str(error), None
    except Exception as error:  # libraries raise whatever comes of the bytes
        refusal, value = f"expected {expected}, found {reason(error)}", None
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=4)
    pickler.fast = True  # without references: a few lists, each twice in the next, fill this memory, not the caller's
    pickler.dump((refusal, value))
    return file.getvalue()


@contextmanager
def _limits(cpu_s: int, memory_bytes: int) -> Iterator[None]:
    """Limits this process within the block, as far as the system can."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + 1 + cpu_s}
    if STATUS.exists():
        limits[resource.RLIMIT_AS] = int(STATUS.read_text().split()[0]) * resource.getpagesize() + memory_bytes
    before = {kind: resource.getrlimit(kind) for kind in limits}
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, before[kind][1]))
    try:
        yield
    finally:
        for kind in limits:
            resource.setrlimit(kind, before[kind])
