"""Reading files that may hold anything: what is admitted comes back as it was, everything else is refused by name."""

from __future__ import annotations

import collections
import functools
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.system import archives
from pipeline.system.archives import PlainUnpickler, read_object_npz
from pipeline.system.errors import UserError
from tests.fixtures.poseformer_bin import Calls

VALUES = {
    "S1": {"Walking 1": np.arange(12, dtype=np.float32).reshape(2, 2, 3), 7: [1, 2.5, "text", None, True, (1, -2)]},
    "column major": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.array([1, 2**20], dtype=">i4"),
    "empty": np.zeros((0, 17, 2), dtype=np.float32),
    "numbers": [np.float64(1.5), np.int32(3), np.bool_(True), 2**63],
    "words": np.array(["a", "bc"]),
    "objects": np.array([np.zeros(2), {"w": 1000}, None], dtype=object),
}


def npy_of_pickle(payload: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + payload


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def pickle_object(value: object, protocol: int = 4) -> bytes:
    array = np.empty((), dtype=object)
    array[()] = value
    return pickle.dumps(array, protocol=protocol)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) and first.dtype != object:  # numpy reads the other byte order as its own
        same_type = first.dtype.newbyteorder("=") == second.dtype.newbyteorder("=")
        return same_type and first.shape == second.shape and bool((first == second).all())
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple, np.ndarray)):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


def unpickle(payload: bytes) -> Any:
    return PlainUnpickler(io.BytesIO(payload)).load()


def test_a_saved_dict_comes_back_as_it_was(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", positions_3d=VALUES, plain=np.arange(6).reshape(2, 3).T)
    read = read_object_npz(tmp_path / "a.npz")
    assert same(read["positions_3d"], VALUES)
    assert same(read["plain"], np.arange(6).reshape(2, 3).T)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_pickle_protocol_is_read(protocol: int) -> None:
    assert same(unpickle(pickle.dumps(VALUES, protocol=protocol)), VALUES)


def test_names_of_numpy_1_and_2_are_read() -> None:
    payload = pickle.dumps(np.arange(3), protocol=2)
    ours = b"numpy._core.multiarray" if b"numpy._core" in payload else b"numpy.core.multiarray"
    for module in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        assert same(unpickle(payload.replace(ours, module)), np.arange(3))


def test_what_python_2_wrote_is_read() -> None:
    """An array whose bytes are the short strings that Python 2 had."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    payload = b"\x80\x02" + array + b"(K\x01K\x02\x85" + dtype + b"\x89U\x02\x07\xfftb."
    assert same(unpickle(payload), np.array([7, 255], dtype=np.uint8))


def test_a_type_that_a_pickle_changes_is_no_other_arrays_type() -> None:
    unpickle(pickle.dumps(np.array([1.5], dtype=">f4")))
    assert np.dtype("f4").isnative


def structured() -> bytes:
    return pickle_object(np.zeros(2, dtype=[("a", "f4")]))


def too_large() -> bytes:
    """An array that says it has 10^9 numbers and holds three."""
    payload = pickle_object(np.zeros(3, dtype=np.uint8), protocol=2)
    small = b"K\x01K\x03\x85"  # version 1, shape (3,)
    assert small in payload
    return payload.replace(small, b"K\x01J" + struct.pack("<i", 10**9) + b"\x85")


def contains_itself() -> bytes:
    value: list[Any] = []
    value.append(value)
    return pickle_object(value)


def state_for_a_function() -> bytes:
    """Tries to set an attribute of the function that makes arrays."""
    return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}X\x0c\x00\x00\x00__defaults__)s\x86b."


def type_of_memory_addresses() -> bytes:
    """An array of eight bytes whose type says that there is a Python object in them."""
    state = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    dtype = Calls(np.dtype, "S8", False, True, state=state)
    return pickle.dumps(Calls(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b",
                              state=(1, (1,), dtype, False, b"\x41" * 8)), protocol=2)  # fmt: skip


def shared(levels: int) -> bytes:
    """Lists, each twice in the next."""
    row: list[Any] = [0]
    for _ in range(levels):
        row = [row, row]
    return pickle_object(row)


def deep_tuple_as_key() -> bytes:
    """Its hash would overflow the stack of Python itself."""
    return b"\x80\x02}(K\x01K\x02)" + b"\x85" * 200_000 + b"K\x03u."


MEMBER = "'positions_3d': expected arrays, dicts, lists, numbers and strings, found"
CALL = f"{MEMBER} UnpicklingError: a call of"
VALUE = "expected arrays, dicts, lists, numbers and strings, found a value of type"
HOSTILE = {
    "a shell command": (pickle_object(Calls(os.system, "touch hacked")), f"{CALL} '(posix|nt).system'"),
    "eval": (pickle_object(Calls(eval, "open('hacked', 'w')")), f"{CALL} 'builtins.eval'"),
    "exec in a dict in a list": (pickle_object([{"a": Calls(exec, "1")}]), f"{CALL} 'builtins.exec'"),
    "a process": (pickle_object(Calls(subprocess.Popen, ["touch", "hacked"])), f"{CALL} 'subprocess.Popen'"),
    "an attribute": (pickle_object(Calls(getattr, "a", "upper")), f"{CALL} 'builtins.getattr'"),
    "another numpy function": (pickle_object(Calls(np.load, "a.npy")), f"{CALL} 'numpy.load'"),
    "a partial call": (pickle_object(functools.partial(os.remove, "a")), f"{CALL} 'functools.partial'"),
    "a path through an admitted name": (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
                                        f"{CALL} 'numpy.ndarray.__class__'"),
    "an admitted name that is no function": (b"\x80\x02cnumpy\nndarray\n)R.", f"{MEMBER} TypeError"),
    "a class instance": (pickle_object(collections.Counter("a")), f"{CALL} 'collections.Counter'"),
    "an instance by NEWOBJ": (b"\x80\x02cnumpy\nndarray\n)\x81.", f"{MEMBER} TypeError"),
    "an old style instance": (b"(S'touch hacked'\nios\nsystem\n.", f"{CALL} 'os.system'"),
    "a registered extension": (b"\x80\x02\x82\x01.", f"{MEMBER} ValueError: unregistered extension"),
    "a reference out of the file": (b"\x80\x02X\x01\x00\x00\x00aQ.", f"{MEMBER} UnpicklingError: unsupported persist"),
    "a set": (pickle_object({1, 2}), f"{VALUE} set"),
    "loose bytes": (pickle_object(b"code"), f"{VALUE} bytes"),
    "state for a function": (state_for_a_function(), f"{MEMBER} UnpicklingError: a state for a value of type function"),
    "a structured array": (structured(), f"{MEMBER} UnpicklingError: an array of"),
    "a type of memory addresses": (type_of_memory_addresses(), f"{MEMBER} UnpicklingError: a structured array"),
    "an absurd shape": (too_large(), f"{MEMBER} ValueError: buffer size does not match array size"),
    "a value in itself": (contains_itself(), "expected a whole npz archive, found RecursionError"),
    "bytes that are not there": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"ab.", f"{MEMBER} EOFError"),
    "a bytearray of terabytes": (b"\x80\x05\x96" + struct.pack("<Q", 2**42) + b"ab.", "512 MiB of memory, found more"),
    "a number of a thousand digits": (pickle_object(10**1000), "expected numbers of 64 bits"),
    "a list as a key": (b"\x80\x02}]K\x01s.", f"{MEMBER} TypeError"),
    "a tuple as a key": (pickle_object({(1, 2): 3}), "expected names or numbers as keys"),
    "a deep tuple as a key": (deep_tuple_as_key(), "found one that ends its reader"),
    "an empty stack": (b"\x80\x02R.", f"{MEMBER} IndexError"),
    "an array in many places": (pickle_object([np.zeros(1 << 20)] * 1000), "512 MiB of memory(, found more| and 1 s)"),
    "lists each twice in the next": (shared(60), "1 s, found one that ends its reader"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "CPU_S", 1)
    monkeypatch.setattr(archives, "MEMORY_BYTES", 512 << 20)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_payload_is_refused_and_nothing_of_it_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    payload, message = HOSTILE[name]
    path = npz(tmp_path / "bad.npz", positions_3d=npy_of_pickle(payload))
    with pytest.raises(UserError, match=message) as caught:
        read_object_npz(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hacked").exists()


def npz_of_header(path: Path, shape: tuple[int, ...], content: bytes) -> Path:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return npz(path, a=file.getvalue() + content)


def test_a_script_that_reads_an_archive_runs_once(tmp_path: Path) -> None:
    """It has no main guard, which the processes of multiprocessing need."""
    np.savez(tmp_path / "values.npz", words=np.array(["a"]))
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom pipeline.system.archives import read_object_npz\n"
        f"print(read_object_npz(Path({str(tmp_path / 'values.npz')!r})))\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("{'words': array(['a'], dtype='<U1')}\n", "")


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMORY_BYTES", 64 << 20)
    path = npz_of_header(tmp_path / "a.npz", (80 << 20,), bytes(80 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UserError, match=r"a\.npz: expected to be read in 64 MiB of memory, found more"):
        read_object_npz(path)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda whole: b"<html>not found</html>", "expected a whole npz archive, found BadZipFile"),
        (lambda whole: whole[: len(whole) // 2], "expected a whole npz archive, found BadZipFile"),
        (lambda whole: whole[:600] + b"\1" + whole[601:], "expected a whole npz archive, found BadZipFile: Bad CRC"),
        (lambda whole: whole[:-300] + b"\1" + whole[-299:], "expected a whole npz archive, found BadZipFile: Bad CRC"),
    ],
)
def test_a_damaged_archive_is_named(damage: Any, found: str, tmp_path: Path) -> None:
    """The last byte but 300 lies in the numbers of an array of objects, whose pickle tells nothing of it."""
    with pytest.raises(UserError, match=r"a\.npz: expected a whole npz archive, found no such file"):
        read_object_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", plain=np.zeros(1000, dtype=np.uint8), objects=np.array({"a": np.zeros(1000)}))
    (tmp_path / "a.npz").write_bytes(damage((tmp_path / "a.npz").read_bytes()))
    with pytest.raises(UserError, match=rf"a\.npz: {found}"):
        read_object_npz(tmp_path / "a.npz")


def test_a_truncated_pickle_is_named(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", positions_3d=npy_of_pickle(pickle_object(VALUES)[:-50]))
    with pytest.raises(UserError, match=f"{MEMBER} (EOFError|UnpicklingError)"):
        read_object_npz(path)


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'a': expected arrays, .* found ValueError"):
        read_object_npz(npz(tmp_path / "a.npz", a=b"not an array"))
    with pytest.raises(UserError, match=r"'a': expected arrays, .* found ValueError"):
        read_object_npz(npz_of_header(tmp_path / "b.npz", (10**6,), b"abcd"))
    with pytest.raises(UserError, match="512 MiB of memory, found more"):
        read_object_npz(npz_of_header(tmp_path / "c.npz", (10**15,), b"abcd"))
    with pytest.raises(UserError, match=r"'a': expected arrays, .* found AttributeError"):
        read_object_npz(npz(tmp_path / "d.npz", a=npy_of_pickle(pickle.dumps({"no": "array"}))))
    np.savez(tmp_path / "e.npz", a=np.zeros(2, dtype=[("x", "f4")]))
    with pytest.raises(UserError, match="expected arrays, dicts, lists, numbers and strings, found an array of"):
        read_object_npz(tmp_path / "e.npz")
