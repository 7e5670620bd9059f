"""Files that may hold anything -> plain values: the pickles inside numpy's object arrays, read without executing them.

Admitted are numpy arrays, dicts, lists, tuples, numbers, strings, bools and None; anything else is refused by name. A
pickle is a program that calls what it names. Here it gets stand-ins written below in place of numpy's own functions, so
even what is admitted runs no code of another library, and sizes are checked before memory is taken.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from pipeline.system.errors import UserError

MAX_BYTES = 4 << 30  # of all arrays of an archive; the largest published file holds 0.7 GB
MAX_RATIO = 200  # of an archive's content to the archive, where the content is over 64 MiB
MAX_MEMBERS = 1024
MAX_OPCODES = 2_000_000  # of one pickle; Human3.6M takes 30,000
MAX_SCALAR_BYTES = 256
MAX_DEPTH = 32
MAX_DIMENSIONS = 8
ADMITTED = "arrays, dicts, lists, numbers and strings"
READ_ERRORS = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)
# Of numpy for the header of an array, which is in Python's notation.
HEADER_ERRORS = (ValueError, SyntaxError, TypeError, MemoryError, RuntimeError, OverflowError, tokenize.TokenError)
UNPICKLING_ERRORS = (
    *READ_ERRORS,
    pickle.UnpicklingError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
)

# What numpy, torch and Python's own containers are written with. Not among them: instances of classes by NEWOBJ, INST
# or OBJ, registered extensions, sets, buffers outside the file, and the text opcodes of protocol 0.
_OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE NEWFALSE BININT
    BININT1 BININT2 LONG1 LONG4 BINFLOAT SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8
    SHORT_BINUNICODE BINUNICODE BINUNICODE8 EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_DICT DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID
"""
OPCODES = frozenset(_OPCODES.split())

Stream = IO[bytes] | io.BufferedIOBase


class Admitted:
    """What a pickle gets for a name it may use: callable if `make` is given, and without state of its own.

    Functions and classes themselves are not handed out: a pickle could set their attributes.
    """

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[..., Any] | None) -> None:
        self.name = name
        self.make = make

    def __call__(self, *args: Any) -> Any:
        if self.make is None:
            raise UserError(f"expected '{self.name}' as a name alone, found a call of it")
        return self.make(*args)

    def __setstate__(self, state: object) -> None:
        raise UserError(f"expected no state for '{self.name}', found one")


class _Dtype:
    """Stands for numpy.dtype: plain numbers, booleans, text and objects; nothing structured."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, align: object = False, copy: object = True) -> None:
        if type(code) is not str or len(code) > 12 or not code.lstrip("<>|=")[:1].isalpha():
            raise UserError(f"expected the name of an array's type, found {_shown(code)}")
        dtype = np.dtype(code)
        if dtype.kind not in "biufUSO" or dtype.fields is not None or dtype.subdtype is not None:
            raise UserError(f"expected arrays of numbers or strings, found the type '{code}'")
        self.dtype = dtype

    def __setstate__(self, state: object) -> None:
        """(version, byte order, subtype, names, fields, ...): no type admitted here has more than its byte order."""
        if type(state) is not tuple or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise UserError("expected an array's type of numbers or strings, found a structured one")
        if state[1] not in ("<", ">", "|", "="):
            raise UserError(f"expected the byte order of an array's type, found {_shown(state[1])}")
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for a numpy array while the pickle is read; `value` is the array, or the list of an object array's items.

    Memory is taken for the bytes that are in the file alone: a shape that they do not fill is refused.
    """

    __slots__ = ("column_major", "dtype", "shape", "value")

    def __init__(self, kind: object, shape: object, code: object) -> None:
        if not isinstance(kind, Admitted) or kind.name != "numpy.ndarray":
            raise UserError(f"expected a numpy array, found one of the kind {_shown(kind)}")
        self.value: np.ndarray | list[Any] | str | None = None
        self.dtype = np.dtype("b")
        self.shape: tuple[int, ...] = ()
        self.column_major = False

    def __setstate__(self, state: object) -> None:
        if type(state) is not tuple or len(state) != 5:
            raise UserError("expected the version, shape, type, order and data of an array, found another state")
        _, shape, dtype, column_major, data = state
        self.fill(shape, dtype, data, order="F" if column_major else "C")

    def fill(self, shape: object, dtype: object, data: object, *, order: str) -> None:
        """Set the array. Raises UserError if `data` are not of exactly that shape and type."""
        size = _size(shape)
        if not isinstance(dtype, _Dtype):
            raise UserError(f"expected the type of an array, found {_shown(dtype)}")
        assert isinstance(shape, tuple)
        self.shape = shape
        if dtype.dtype.hasobject:
            if type(data) is not list or len(data) != size:
                found = f"{len(data)}" if type(data) is list else type(data).__name__
                raise UserError(f"expected {size} objects in an array of shape {shape}, found {found}")
            self.value = data
            return
        if isinstance(data, _Text):
            data = data.text
        expected = size * dtype.dtype.itemsize
        if not isinstance(data, (bytes, bytearray, str)) or len(data) != expected:
            found = f"{len(data)} bytes" if isinstance(data, (bytes, bytearray, str)) else type(data).__name__
            raise UserError(f"expected {expected} bytes for an array {dtype.dtype} of shape {shape}, found {found}")
        self.dtype, self.column_major = dtype.dtype, order == "F"
        self.value = data if isinstance(data, str) else self.of(data)

    def of(self, data: bytes | bytearray) -> np.ndarray:
        """The array of these bytes, which it shares."""
        flat = np.frombuffer(data, dtype=self.dtype) if math.prod(self.shape) else np.zeros(0, dtype=self.dtype)
        return flat.reshape(self.shape, order="F" if self.column_major else "C")


class _Text:
    """Bytes as protocol 2 writes them: as text, which is turned into bytes once, when it is known whose they are."""

    __slots__ = ("text",)

    def __init__(self, text: object, encoding: object) -> None:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise UserError(f"expected bytes in latin1, found {_shown(encoding)}")
        self.text = text


def _size(shape: object) -> int:
    """Number of items of an array. Raises UserError for what is no shape."""
    if type(shape) is not tuple or any(type(length) is not int or length < 0 for length in shape):
        raise UserError(f"expected the shape of an array, found {_shown(shape)}")
    if len(shape) > MAX_DIMENSIONS or math.prod(shape) > MAX_BYTES or max(shape, default=0) > MAX_BYTES:
        limit = f"{MAX_DIMENSIONS} dimensions and {MAX_BYTES} items"
        raise UserError(f"expected at most {limit}, found an array of shape {_shown(shape)}")
    return math.prod(shape)


def _array_from_buffer(data: object, dtype: object, shape: object, order: str) -> _Array:
    array = _Array(Admitted("numpy.ndarray", None), (), "b")
    array.fill(shape, dtype, data, order=order)
    return array


def _scalar(dtype: object, data: object) -> Any:
    array = _array_from_buffer(data, dtype, (), "C")
    if isinstance(array.value, list) or array.dtype.itemsize > MAX_SCALAR_BYTES:
        raise UserError(f"expected a number or at most {MAX_SCALAR_BYTES} bytes of text, found something else as one")
    value = array.of(array.value.encode("latin1")) if isinstance(array.value, str) else array.value
    return None if value is None else value[()]


def _no_bytes(*args: object) -> bytes:
    """How protocol 2 writes the bytes of an empty array."""
    if args:
        raise UserError("expected empty bytes, found a call of 'bytes' with arguments")
    return b""


NUMPY: dict[str, Callable[..., Any] | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _Text,
    "__builtin__.bytes": _no_bytes,
}
for core in ("core", "_core"):  # of numpy 1 and of numpy 2
    NUMPY[f"numpy.{core}.multiarray._reconstruct"] = _Array
    NUMPY[f"numpy.{core}.multiarray.scalar"] = _scalar
    NUMPY[f"numpy.{core}.numeric._frombuffer"] = _array_from_buffer


class RestrictedUnpickler(pickle.Unpickler):
    """Reads one pickle from `file`; `where` names the file in messages.

    A subclass admits more by extending `admitted` (a dotted name -> the stand-in that is called, or None for a name
    that is not to be called: it arrives as an `Admitted` with that `name`), overriding `persistent_load`, and extending
    `plain_object` for the instances its stand-ins make.
    """

    admitted: Mapping[str, Callable[..., Any] | None] = NUMPY

    def __init__(self, file: Stream, *, where: str) -> None:
        super().__init__(file, encoding="latin1")
        self.file, self.where = file, where

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name. Raises UserError for a name that is not admitted."""
        dotted = f"{module}.{name}"
        if dotted not in self.admitted:
            raise UserError(f"expected {ADMITTED}, found a call of '{_shown(dotted)}'")
        return Admitted(dotted, self.admitted[dotted])

    def persistent_load(self, identity: Any) -> Any:
        """Refused here: no admitted file refers to objects outside itself."""
        raise UserError(f"expected {ADMITTED}, found a reference to an object outside the file")

    def read(self) -> Any:
        """The pickle's plain value. Raises UserError, naming `where`, for whatever is not admitted or is damaged."""
        try:
            value = _plain(self.load(), self.plain_object, depth=0, done={})
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from None
        except UNPICKLING_ERRORS as error:
            raise UserError(f"{self.where}: expected a whole pickle, found {_reason(error)}") from error
        check_weight(value, items=MAX_OPCODES, array_bytes=max(64 << 20, self.file.tell()), where=self.where)
        return value

    def plain_object(self, value: Any) -> Any:
        """What an instance made by a stand-in means. Raises UserError for others."""
        raise UserError(f"expected {ADMITTED}, found {_shown(value)}")


def check_opcodes(file: Stream, *, where: str) -> None:
    """Walk over one pickle without acting on it, to the end of it.

    Raises UserError if it is cut off, has instructions that no admitted value needs, or asks for absurd memory.
    """
    highest = 0
    try:
        for count, (opcode, argument, tuple_as_key) in enumerate(_instructions(file)):
            if opcode.name not in OPCODES:
                raise UserError(f"{where}: expected {ADMITTED}, found the pickle instruction {opcode.name}")
            if count > MAX_OPCODES:
                raise UserError(f"{where}: expected at most {MAX_OPCODES} pickle instructions, found more")
            if tuple_as_key:
                raise UserError(f"{where}: expected names or numbers as keys, found a tuple")
            if opcode.name in ("BINPUT", "LONG_BINPUT"):
                highest = max(highest, int(str(argument)))
                if highest > 4 * count + 256:  # C's unpickler takes memory for every number up to it
                    raise UserError(f"{where}: expected pickle memo numbers in order, found {highest}")
    except (IndexError, KeyError, *READ_ERRORS) as error:
        raise UserError(f"{where}: expected a whole pickle, found {_reason(error)}") from error


def _instructions(file: Stream) -> Iterator[tuple[pickletools.OpcodeInfo, Any, bool]]:
    """The instructions of one pickle: opcode, argument, and whether it makes a tuple a key of a dict.

    The hash of a tuple of tuples, each twice in the next, never ends, and that of a deep one overflows the stack of
    Python itself. So the kinds of the values on the pickle's stack and in its memo are followed here, without making
    any of them. Raises IndexError or KeyError if an instruction takes what is not there.
    """
    stack: list[pickletools.StackObject] = []
    marks: list[int] = []  # places on the stack
    memo: dict[int, pickletools.StackObject] = {}
    for opcode, argument, _ in pickletools.genops(cast(IO[bytes], file)):
        name, before = opcode.name, opcode.stack_before
        keys: list[pickletools.StackObject] = []
        if name == "MARK":
            marks.append(len(stack))
        elif name == "POP" and marks[-1:] == [len(stack)]:
            marks.pop()
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if name == "MEMOIZE" else int(str(argument))] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(argument))])
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            if name == "SETITEM":
                keys = stack[-2:-1]
            if pickletools.markobject in before:
                mark = marks.pop()
                keys = stack[mark::2] if name in ("SETITEMS", "DICT") else []
                first = mark - before.index(pickletools.markobject)
            else:
                first = len(stack) - len(before)
            if first < (marks[-1] if marks else 0):
                raise IndexError("fewer values than an instruction takes")
            stack[first:] = opcode.stack_after
        yield opcode, argument, pickletools.pytuple in keys


def _plain(value: Any, plain_object: Callable[[Any], Any], *, depth: int, done: dict[int, Any]) -> Any:
    """`value` with arrays in place of their stand-ins. What occurs in many places is converted once."""
    if value is None or type(value) in (bool, float, str) or isinstance(value, np.generic):
        return value
    if type(value) is int:
        if not -(2**63) <= value < 2**64:
            raise UserError("expected numbers of 64 bits, found a larger one")
        return value
    if id(value) in done:
        if done[id(value)] is _UNFINISHED:
            raise UserError(f"expected {ADMITTED}, found a value that contains itself")
        return done[id(value)]
    if depth > MAX_DEPTH:
        raise UserError(f"expected at most {MAX_DEPTH} levels, found more")
    done[id(value)] = _UNFINISHED

    def plain(item: Any) -> Any:
        return _plain(item, plain_object, depth=depth + 1, done=done)

    result: Any
    if type(value) is dict:
        bad = next((key for key in value if type(key) not in (str, int)), None)
        if bad is not None:
            raise UserError(f"expected names or numbers as keys, found {_shown(bad)}")
        result = {key: plain(item) for key, item in value.items()}
    elif type(value) is list:
        result = [plain(item) for item in value]
    elif type(value) is tuple:
        result = tuple(plain(item) for item in value)
    elif isinstance(value, _Array):
        result = _plain_array(value, plain, done)
    else:
        result = plain_object(value)
    done[id(value)] = result
    return result


_UNFINISHED = object()


def _plain_array(array: _Array, plain: Callable[[Any], Any], done: dict[int, Any]) -> np.ndarray:
    if array.value is None:
        raise UserError("expected the data of an array, found none")
    if isinstance(array.value, np.ndarray):
        return array.value
    if isinstance(array.value, str):
        if len(array.value) > MAX_SCALAR_BYTES and done.setdefault(id(array.value), array) is not array:
            raise UserError("expected the data of one array in a text, found those of two")  # each would take memory
        return array.of(array.value.encode("latin1"))
    objects = np.empty(len(array.value), dtype=object)
    for index, item in enumerate(array.value):
        objects[index] = plain(item)
    return objects.reshape(array.shape)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, np.ndarray):
        return value.flat if value.dtype == object else ()
    return value if isinstance(value, (list, tuple)) else ()


def check_weight(
    value: Any, *, items: int, array_bytes: int, where: str, parts: Callable[[Any], Iterable[Any]] = _parts
) -> None:
    """Raises UserError if `value`, what it has in many places written out each time, has more items or bytes of arrays.

    A few lists, each twice in the next, are more than any memory for whoever goes through them.
    """
    known: dict[int, tuple[int, int]] = {}

    def weight(value: Any) -> tuple[int, int]:
        if id(value) not in known:
            own = [weight(part) for part in parts(value)]
            size = value.nbytes if isinstance(value, np.ndarray) and value.dtype != object else 0
            known[id(value)] = (1 + sum(count for count, _ in own), size + sum(size for _, size in own))
        return known[id(value)]

    found_items, found_bytes = weight(value)
    if found_items > items or found_bytes > array_bytes:
        expected = f"at most {items} values and {array_bytes} bytes of arrays"
        raise UserError(f"{where}: expected {expected}, found more when what is shared is written out")


def read_object_npz(path: Path, *, only: str | None = None) -> dict[str, Any]:
    """The arrays of an npz archive by name, or `only` the one of that name; a 0-d object array as what it holds.

    Raises UserError if the file is missing, is no npz archive, is cut off, unpacks to an absurd size, or holds other
    things than arrays, dicts, lists, tuples, numbers, strings, bools and None.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = _checked_members(archive, path)
            named = {member.filename.removesuffix(".npy"): member for member in members}
            chosen = named if only is None else {only: named[only]} if only in named else {}
            return {name: _read_member(archive, member, path) for name, member in chosen.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: expected an npz archive, found no such file") from None
    except READ_ERRORS as error:
        raise UserError(f"{path}: expected a whole npz archive, found {_reason(error)}") from error


def _checked_members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if not 0 < len(members) <= MAX_MEMBERS:
        raise UserError(f"{path}: expected 1 to {MAX_MEMBERS} arrays, found {len(members)}")
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise UserError(f"{path}: expected arrays of different names, found one twice")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise UserError(f"{path}: expected arrays (.npy) alone, found '{_shown(member.filename)}'")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise UserError(f"{path}: '{_shown(member.filename)}': expected plain or deflated data, found other")
    content = sum(member.file_size for member in members)
    if content > MAX_BYTES:
        raise UserError(f"{path}: expected at most {MAX_BYTES} bytes of arrays, found {content}")
    packed, size = sum(member.compress_size for member in members), path.stat().st_size
    if packed > size:
        raise UserError(f"{path}: expected at most the archive's own {size} bytes in it, found {packed}")
    if content > 64 << 20 and content > MAX_RATIO * packed:
        raise UserError(f"{path}: expected an archive of data, found {packed} bytes that unpack to {content}")
    return members


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Any:
    where = f"{path}: '{member.filename.removesuffix('.npy')}'"
    with archive.open(member) as file:
        shape, column_major, dtype = _read_header(file, where)
        if not dtype.hasobject:
            return _read_numbers(file, shape, column_major, dtype, where)
        check_opcodes(file, where=where)
    with archive.open(member) as file:
        _read_header(file, where)
        array = RestrictedUnpickler(file, where=where).read()
    if not isinstance(array, np.ndarray) or array.dtype != object or array.shape != shape:
        raise UserError(f"{where}: expected an array of objects of shape {shape}, found {_shown(array)}")
    return array.item() if shape == () else array


def _read_header(file: Stream, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)
    except HEADER_ERRORS as error:
        raise UserError(f"{where}: expected a numpy array, found {reason_of_header(error)}") from error


def reason_of_header(error: BaseException) -> str:
    """What is wrong with the header of a numpy array, which numpy reads as Python's own notation."""
    return "a header nested too deep" if isinstance(error, (MemoryError, RecursionError)) else _reason(error)


def _read_numbers(file: Stream, shape: tuple[int, ...], column_major: bool, dtype: np.dtype, where: str) -> np.ndarray:
    try:
        size = _size(shape) * dtype.itemsize
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if dtype.kind not in "biufUS":
        raise UserError(f"{where}: expected numbers or strings, found {dtype}")
    data = file.read()
    if len(data) != size:
        raise UserError(f"{where}: expected {size} bytes for {dtype} {shape}, found {len(data)}")
    flat = np.frombuffer(data, dtype=dtype) if size else np.zeros(0, dtype=dtype)
    return flat.reshape(shape, order="F" if column_major else "C")


def _shown(value: object) -> str:
    """A short and harmless name of something from a file."""
    if isinstance(value, Admitted):
        return f"the name '{value.name}'"
    if type(value) is str:
        return value.encode("ascii", "backslashreplace").decode()[:60]
    if type(value) is tuple and all(type(item) is int and abs(item) < 10**20 for item in value[:9]):
        return str(value[:9])
    return f"a value of type {type(value).__name__}"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
