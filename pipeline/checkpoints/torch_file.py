"""A file of torch.save -> its plain values and tensors, read without executing what it contains.

Both layouts are known: the zip archive of torch 1.6 and later (data.pkl and data/<key>), and the older one (five
pickles, then the numbers of each storage). A pickle is read by `untrusted`, to which this adds stand-ins for what torch
writes; functions of torch or of numpy's random numbers are never called.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from pipeline.system.errors import UserError
from pipeline.system.untrusted import NUMPY, READ_ERRORS, Admitted, RestrictedUnpickler, check_opcodes

MAX_FILE_BYTES = 512 << 20  # the largest public PoseFormer with its optimizer has 120 MB
MAX_PICKLE_BYTES = 4 << 20  # theirs have 100 KB
MAX_MEMBERS = 10_000
ZIP_MAGIC = b"PK\x03\x04"
OLD_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # a pickle of 0x1950a86a20f9469cfc6c
OLD_VERSION = 1001
DTYPES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


@dataclass(frozen=True)
class Storage:
    """Numbers in a torch file: their key, their type as numpy writes it, and how many."""

    key: str
    dtype: np.dtype
    count: int

    @property
    def byte_count(self) -> int:
        """How long it is in the file."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a torch file whose numbers have not been read: a view of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def is_dense(self) -> bool:
        """Whether its numbers follow one another in the storage, the last index fastest, and all lie in it."""
        strides = [math.prod(self.shape[place + 1 :]) for place in range(len(self.shape))]
        in_order = all(
            length == 1 or own == dense for length, own, dense in zip(self.shape, self.strides, strides, strict=True)
        )
        return in_order and self.offset >= 0 and self.offset + self.count <= self.storage.count


class _OrderedDict(dict[Any, Any]):
    """Stands for collections.OrderedDict; what else hangs on it (torch's version numbers) is let go."""

    def __init__(self) -> None:
        """Empty, as protocol 2 and later make it before they fill it."""

    def __setstate__(self, state: object) -> None:
        """Ignores the state."""


class _Ignored:
    """Stands for an object that is not needed, such as the state of numpy's random numbers."""

    __slots__ = ()

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Ignores the state."""


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> StoredTensor:
    """Stands for torch._utils._rebuild_tensor_v2."""
    numbers = [offset, *shape, *strides] if isinstance(shape, tuple) and isinstance(strides, tuple) else [None]
    if not isinstance(storage, Storage) or any(type(number) is not int or number < 0 for number in numbers):
        raise UserError("expected a tensor's storage, offset, shape and strides, found other values")
    assert isinstance(offset, int)
    assert isinstance(shape, tuple)
    assert isinstance(strides, tuple)
    if len(shape) != len(strides) or len(shape) > 8:
        raise UserError(f"expected one stride for each of at most 8 axes, found {len(shape)} and {len(strides)}")
    return StoredTensor(storage, offset, shape, strides)


class _TorchUnpickler(RestrictedUnpickler):
    """Reads a pickle of torch.save; `storages` are those that it refers to, by key."""

    admitted: Mapping[str, Callable[..., Any] | None] = {
        **NUMPY,
        **dict.fromkeys(DTYPES),
        "collections.OrderedDict": _OrderedDict,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "numpy.random._mt19937.MT19937": None,
        "numpy.random._pickle.__bit_generator_ctor": _Ignored,
        "numpy.random._pickle.__randomstate_ctor": _Ignored,
        "numpy.random.__RandomState_ctor": _Ignored,  # of numpy before 1.17
    }

    def __init__(self, file: io.BytesIO, *, where: str) -> None:
        super().__init__(file, where=where)
        self.storages: dict[str, Storage] = {}

    def persistent_load(self, identity: Any) -> Storage:
        """The storage of ("storage", type, key, device, count), to which the older layout adds a view: always None."""
        match identity:
            case ("storage", Admitted(name=name), str(key), str(), int(count), *view) if (
                name in DTYPES and count >= 0 and view in ([], [None])
            ):
                storage = Storage(key, np.dtype(DTYPES[name]), count)
            case _:
                raise UserError("expected references to storages of numbers, found another")
        if self.storages.setdefault(key, storage) != storage:
            raise UserError(f"expected one type and length of storage '{key}', found two")
        return storage

    def plain_object(self, value: Any) -> Any:
        """Tensors stay as they are; so does an ordered dict, whose items the caller judges; the rest is let go."""
        if isinstance(value, _OrderedDict):
            return dict(value)
        if isinstance(value, StoredTensor):
            return value
        if isinstance(value, (Storage, _Ignored)):
            return None
        return super().plain_object(value)


ReadStorage = Callable[[Storage], bytes]


def read_torch_file(
    path: Path, choose: Callable[[Any], dict[str, StoredTensor]]
) -> tuple[Any, dict[str, Shaped[Tensor, "..."]]]:
    """The content of a file of torch.save, and the tensors in it that `choose` picks from the content.

    In the content stand StoredTensors in place of tensors; only the chosen ones are read. Raises UserError if the file
    is missing, of another format, cut off, absurdly large, or holds anything but tensors, arrays, dicts, lists, tuples,
    numbers, strings and the state of numpy's random numbers, of which nothing is kept.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > MAX_FILE_BYTES:
                raise UserError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, found {size}")
            magic = file.read(len(OLD_MAGIC))
            file.seek(0)
            if magic.startswith(ZIP_MAGIC):
                with zipfile.ZipFile(file) as archive:
                    content, read_storage = _open_zip(archive, size, path)
                    return content, _read_tensors(choose(content), read_storage, size, path)
            if magic == OLD_MAGIC:
                content, read_storage = _open_old(file, size, path)
                return content, _read_tensors(choose(content), read_storage, size, path)
    except FileNotFoundError:
        raise UserError(f"{path}: expected a file of torch.save, found no such file") from None
    except READ_ERRORS as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{path}: expected a whole file of torch.save, found {reason}") from error
    raise UserError(f"{path}: expected a file of torch.save, found other content")


def _read_tensors(
    tensors: dict[str, StoredTensor], read_storage: ReadStorage, size: int, path: Path
) -> dict[str, Shaped[Tensor, "..."]]:
    # Tensors that share a storage could ask for more memory than the file has bytes.
    total = sum(tensor.count * tensor.storage.dtype.itemsize for tensor in tensors.values())
    if total > size:
        raise UserError(f"{path}: expected tensors of at most the file's own {size} bytes, found {total}")
    read = {}
    for name, tensor in tensors.items():
        if not tensor.is_dense:
            raise UserError(f"{path}: tensor {name}: expected its numbers in order in its storage, found a view")
        dtype = tensor.storage.dtype
        first = tensor.offset * dtype.itemsize
        values = np.frombuffer(read_storage(tensor.storage), dtype=dtype, count=tensor.count, offset=first)
        read[name] = torch.from_numpy(values.reshape(tensor.shape).copy())
    return read


def _open_zip(archive: zipfile.ZipFile, size: int, path: Path) -> tuple[Any, ReadStorage]:
    members = _checked_members(archive, size, path)
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UserError(f"{path}: expected data.pkl in the archive's one folder, found {len(pickles)} such files")
    folder = pickles[0].removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order is not None and (order.file_size > 8 or archive.read(order) != b"little"):
        raise UserError(f"{path}: byteorder: expected little, found another")
    length = members[pickles[0]].file_size
    if length > MAX_PICKLE_BYTES:
        raise UserError(f"{path}: data.pkl: expected at most {MAX_PICKLE_BYTES} bytes, found {length}")
    content, storages = _read_pickle(io.BytesIO(archive.read(pickles[0])), where=f"{path}: data.pkl")
    for storage in storages.values():
        member = members.get(f"{folder}data/{storage.key}")
        if member is None or member.file_size != storage.byte_count:
            found = "none" if member is None else f"{member.file_size} bytes"
            raise UserError(f"{path}: storage '{storage.key[:40]}': expected {storage.byte_count} bytes, found {found}")
    return content, lambda storage: archive.read(f"{folder}data/{storage.key}")


def _checked_members(archive: zipfile.ZipFile, size: int, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files in the archive by name. Nothing is unpacked to disk; but a strange name shows a strange file."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise UserError(f"{path}: expected at most {MAX_MEMBERS} files in the archive, found {len(members)}")
    for member in members:
        name = member.filename.encode("ascii", "backslashreplace").decode()[:60]
        if {"", ".", ".."} & set(member.filename.split("/")) or "\\" in member.filename or ":" in member.filename:
            raise UserError(f"{path}: expected names such as archive/data/0 in the archive, found '{name}'")
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise UserError(f"{path}: '{name}': expected uncompressed content, as torch.save writes it, found other")
    by_name = {member.filename: member for member in members}
    if len(by_name) != len(members):
        raise UserError(f"{path}: expected files of different names in the archive, found one twice")
    content = sum(member.file_size for member in members)
    if content > size:
        raise UserError(f"{path}: expected at most the archive's own {size} bytes in it, found {content}")
    return by_name


def _open_old(file: BinaryIO, size: int, path: Path) -> tuple[Any, ReadStorage]:
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    head.seek(len(OLD_MAGIC))
    version, _ = _read_pickle(head, where=f"{path}: version")
    if version != OLD_VERSION:
        raise UserError(f"{path}: version: expected {OLD_VERSION}, found another")
    system, _ = _read_pickle(head, where=f"{path}: system")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UserError(f"{path}: system: expected little_endian True, found another byte order")
    content, storages = _read_pickle(head, where=f"{path}: content")
    keys, _ = _read_pickle(head, where=f"{path}: keys")
    if not isinstance(keys, list) or sorted(map(repr, keys)) != sorted(map(repr, storages)):
        raise UserError(f"{path}: keys: expected the {len(storages)} storages of the content once each, found others")
    first_byte = {}
    place = head.tell()
    for key in keys:
        file.seek(place)
        count = int.from_bytes(file.read(8), "little")
        first_byte[key] = place + 8
        place += 8 + storages[key].byte_count
        if count != storages[key].count or place > size:
            expected = f"{storages[key].count} numbers"
            raise UserError(f"{path}: storage '{key[:40]}': expected {expected}, found another count or the file's end")

    def read_storage(storage: Storage) -> bytes:
        file.seek(first_byte[storage.key])
        return file.read(storage.byte_count)

    return content, read_storage


def _read_pickle(file: io.BytesIO, *, where: str) -> tuple[Any, dict[str, Storage]]:
    """One pickle of the stream, which is left at its end, and the storages it refers to."""
    start = file.tell()
    check_opcodes(file, where=where)
    file.seek(start)
    unpickler = _TorchUnpickler(file, where=where)
    return unpickler.read(), unpickler.storages
