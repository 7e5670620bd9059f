"""Reading files that may hold anything: what is admitted comes back as it was, everything else is refused by name."""

from __future__ import annotations

import collections
import functools
import io
import os
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pipeline.system import untrusted
from pipeline.system.errors import UserError
from pipeline.system.untrusted import NUMPY, RestrictedUnpickler, check_opcodes, read_object_npz

VALUES = {
    "S1": {"Walking 1": np.arange(12, dtype=np.float32).reshape(2, 2, 3), 7: [1, 2.5, "text", None, True, (1, -2)]},
    "column major": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.array([1, 2**20], dtype=">i4"),
    "empty": np.zeros((0, 17, 2), dtype=np.float32),
    "numbers": [np.float64(1.5), np.int32(3), np.bool_(True), 2**63],
    "words": np.array(["a", "bc"]),
    "objects": np.array([np.zeros(2), {"w": 1000}, None], dtype=object),
}


class Calls:
    """An object whose pickle calls `function`."""

    def __init__(self, function: Any, *args: Any, state: object = None) -> None:
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.parts


def npy_of_pickle(payload: bytes, shape: tuple[int, ...] = ()) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": shape})
    return file.getvalue() + payload


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def of_object(value: object, protocol: int = 4) -> bytes:
    array = np.empty((), dtype=object)
    array[()] = value
    return pickle.dumps(array, protocol=protocol)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray) and first.dtype != object:
        return first.dtype == second.dtype and first.shape == second.shape and bool((first == second).all())
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple, np.ndarray)):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


def test_a_saved_dict_comes_back_as_it_was(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", positions_3d=VALUES, plain=np.arange(6).reshape(2, 3).T)
    read = read_object_npz(tmp_path / "a.npz")
    assert same(read["positions_3d"], VALUES)
    assert same(read["plain"], np.arange(6).reshape(2, 3).T)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_pickle_protocol_is_read(protocol: int) -> None:
    payload = pickle.dumps(VALUES, protocol=protocol)
    check_opcodes(io.BytesIO(payload), where="x")
    assert same(RestrictedUnpickler(io.BytesIO(payload), where="x").read(), VALUES)


def test_names_of_numpy_1_and_2_are_read() -> None:
    payload = pickle.dumps(np.arange(3), protocol=2)
    ours = b"numpy._core.multiarray" if b"numpy._core" in payload else b"numpy.core.multiarray"
    for module in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        other = payload.replace(ours, module)
        assert same(RestrictedUnpickler(io.BytesIO(other), where="x").read(), np.arange(3))


def test_what_occurs_in_many_places_is_converted_once() -> None:
    row: list[Any] = [np.zeros(2)]
    for _ in range(18):  # 2^18 leaves if every reference were followed
        row = [row, row]
    read = RestrictedUnpickler(io.BytesIO(pickle.dumps(row)), where="x").read()
    assert read[0] is read[1]


def structured() -> bytes:
    return of_object(np.zeros(2, dtype=[("a", "f4")]))


def too_large() -> bytes:
    """An array that says it has 10^9 numbers and holds three."""
    payload = of_object(np.zeros(3, dtype=np.uint8), protocol=2)
    small = b"K\x01K\x03\x85"  # version 1, shape (3,)
    assert small in payload
    return payload.replace(small, b"K\x01J" + struct.pack("<i", 10**9) + b"\x85")


def reconstructed_large() -> bytes:
    """numpy.core.multiarray._reconstruct alone, asked for 8 TB."""
    shape = b"\x8a\x06" + (10**12).to_bytes(6, "little") + b"\x85"
    return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + shape + b"X\x01\x00\x00\x00d\x87R."


def contains_itself() -> bytes:
    value: list[Any] = []
    value.append(value)
    return of_object(value)


def deep() -> bytes:
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    return of_object(value)


def state_for_a_function() -> bytes:
    """Tries to set an attribute of the function that makes arrays."""
    return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}X\x0c\x00\x00\x00__defaults__)s\x86b."


OBJECTS = "expected arrays, dicts, lists, numbers and strings, found"
HOSTILE = {
    "a shell command": (of_object(Calls(os.system, "touch hacked")), rf"{OBJECTS} a call of '(posix|nt).system'"),
    "eval": (of_object(Calls(eval, "open('hacked', 'w')")), f"{OBJECTS} a call of 'builtins.eval'"),
    "exec in a dict in a list": (of_object([{"a": Calls(exec, "1")}]), f"{OBJECTS} a call of 'builtins.exec'"),
    "a process": (of_object(Calls(subprocess.Popen, ["touch", "hacked"])), f"{OBJECTS} a call of 'subprocess.Popen'"),
    "an attribute": (of_object(Calls(getattr, "a", "upper")), f"{OBJECTS} a call of 'builtins.getattr'"),
    "another numpy function": (of_object(Calls(np.load, "a.npy")), f"{OBJECTS} a call of 'numpy.load'"),
    "a partial call": (of_object(functools.partial(os.remove, "a")), f"{OBJECTS} a call of 'functools.partial'"),
    "a path through an admitted name": (
        b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
        f"{OBJECTS} a call of 'numpy.ndarray.__class__'",
    ),
    "an admitted name that is no function": (b"\x80\x02cnumpy\nndarray\n)R.", "'numpy.ndarray' as a name alone"),
    "a class instance": (of_object(collections.Counter("a")), f"{OBJECTS} a call of 'collections.Counter'"),
    "an instance by NEWOBJ": (b"\x80\x02cnumpy\nndarray\n)\x81.",
                              f"{OBJECTS} the pickle instruction NEWOBJ"),
    "an old style instance": (b"(S'touch hacked'\nios\nsystem\n.", f"{OBJECTS} the pickle instruction STRING"),
    "a registered extension": (b"\x80\x02\x82\x01.", f"{OBJECTS} the pickle instruction EXT1"),
    "a reference out of the file": (b"\x80\x02X\x01\x00\x00\x00aQ.", "a reference to an object outside the file"),
    "a set": (of_object({1, 2}), f"{OBJECTS} the pickle instruction EMPTY_SET"),
    "loose bytes": (of_object(b"code"), f"{OBJECTS} a value of type bytes"),
    "state for a function": (state_for_a_function(), "expected no state for 'numpy.core.multiarray._reconstruct'"),
    "a structured array": (structured(), "expected (arrays|an array's type) of numbers or strings"),
    "an absurd shape": (too_large(), r"expected 1000000000 bytes for an array uint8 of shape \(1000000000,\), found 3"),
    "an absurd shape without data": (reconstructed_large(), "expected the data of an array, found none"),
    "a value in itself": (contains_itself(), "a value that contains itself"),
    "a deep nest": (deep(), "expected at most 32 levels"),
    "an absurd memo": (b"\x80\x02}r\xff\xff\xff\x7f.", "memo numbers in order, found 2147483647"),
    "bytes that are not there": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"ab.", "expected a whole pickle"),
    "a number of a thousand digits": (of_object(10**1000), "expected numbers of 64 bits"),
    "a list as a key": (b"\x80\x02}]K\x01s.", "expected a whole pickle, found TypeError"),
    "a tuple as a key": (of_object({(1, 2): 3}), "expected names or numbers as keys"),
    "an empty stack": (b"\x80\x02R.", "expected a whole pickle"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_payload_is_refused_and_nothing_of_it_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    payload, message = HOSTILE[name]
    path = npz(tmp_path / "bad.npz", positions_3d=npy_of_pickle(payload))
    with pytest.raises(UserError, match=message) as caught:
        read_object_npz(path)
    assert str(caught.value).startswith(f"{path}: 'positions_3d': ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hacked").exists()


def test_the_calls_are_refused_by_the_unpickler_itself_too(tmp_path: Path) -> None:
    """Without the walk over the instructions that comes first."""
    for payload in (b"(S'true'\nios\nsystem\n.", b"cos\nsystem\n(S'true'\ntR."):
        with pytest.raises(UserError, match=f"{OBJECTS} a call of 'os.system'"):
            RestrictedUnpickler(io.BytesIO(payload), where="x").read()


def test_a_subclass_can_admit_more() -> None:
    class Ordered(RestrictedUnpickler):
        admitted: ClassVar[dict[str, Any]] = {**NUMPY, "collections.OrderedDict": dict, "torch.FloatStorage": None}

        def persistent_load(self, identity: Any) -> Any:
            return [identity[0].name, identity[1]]

    payload = pickle.dumps(collections.OrderedDict(a=1, b=np.ones(2)), protocol=2)
    assert same(Ordered(io.BytesIO(payload), where="x").read(), {"a": 1, "b": np.ones(2)})
    reference = b"\x80\x02ctorch\nFloatStorage\nK\x05\x86Q."
    assert Ordered(io.BytesIO(reference), where="x").read() == ["torch.FloatStorage", 5]


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.npz: expected an npz archive, found no such file"):
        read_object_npz(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_text("<html>not found</html>")
    with pytest.raises(UserError, match=r"a\.npz: expected a whole npz archive, found BadZipFile"):
        read_object_npz(tmp_path / "a.npz")


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", positions_3d=VALUES)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a\.npz: expected a whole npz archive, found BadZipFile"):
        read_object_npz(tmp_path / "a.npz")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", plain=np.zeros(1000, dtype=np.uint8))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[600] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz: expected a whole npz archive, found BadZipFile: Bad CRC"):
        read_object_npz(tmp_path / "a.npz")


def test_a_truncated_pickle_is_named(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", positions_3d=npy_of_pickle(of_object(VALUES)[:-50]))
    with pytest.raises(UserError, match="'positions_3d': expected a whole pickle"):
        read_object_npz(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path / "a.npz", positions_3d=bytes(65 << 20))
    with pytest.raises(UserError, match=r"expected an archive of data, found \d+ bytes that unpack to 68157440"):
        read_object_npz(path)
    monkeypatch.setattr(untrusted, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="expected at most 1000 bytes of arrays, found 68157440"):
        read_object_npz(path)


def test_other_members_than_arrays_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("../evil.sh", "x")
    with pytest.raises(UserError, match=r"expected arrays \(\.npy\) alone, found '\.\./evil\.sh'"):
        read_object_npz(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w"):
        pass
    with pytest.raises(UserError, match="expected 1 to 1024 arrays, found 0"):
        read_object_npz(tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", "x")
    with pytest.raises(UserError, match=r"'a\.npy': expected plain or deflated data"):
        read_object_npz(tmp_path / "c.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", "x")
        archive.writestr("a.npy", "y")
    with pytest.raises(UserError, match="expected arrays of different names"):
        read_object_npz(tmp_path / "a.npz")


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'a': expected a numpy array, found ValueError"):
        read_object_npz(npz(tmp_path / "a.npz", a=b"not an array"))
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**6,)})
    with pytest.raises(UserError, match=r"'a': expected 4000000 bytes for float32 \(1000000,\), found 4"):
        read_object_npz(npz(tmp_path / "b.npz", a=file.getvalue() + b"abcd"))
    file = io.BytesIO()
    np.save(file, np.zeros(2, dtype=[("x", "f4")]))
    with pytest.raises(UserError, match="'a': expected numbers or strings, found"):
        read_object_npz(npz(tmp_path / "c.npz", a=file.getvalue()))
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2,) * 9})
    with pytest.raises(UserError, match="'a': expected at most 8 dimensions"):
        read_object_npz(npz(tmp_path / "d.npz", a=file.getvalue()))


def test_an_object_array_of_another_shape_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", a=npy_of_pickle(of_object({}), shape=(3,)))
    with pytest.raises(UserError, match=r"'a': expected an array of objects of shape \(3,\)"):
        read_object_npz(path)
    path = npz(tmp_path / "b.npz", a=npy_of_pickle(pickle.dumps({"no": "array"})))
    with pytest.raises(UserError, match=r"expected an array of objects of shape \(\), found a value of type dict"):
        read_object_npz(path)


def test_a_pickle_of_too_many_instructions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "MAX_OPCODES", 100)
    with pytest.raises(UserError, match="x: expected at most 100 pickle instructions"):
        check_opcodes(io.BytesIO(pickle.dumps(list(range(1000)))), where="x")


NESTED = {
    "each twice in the next, filled with SETITEM": b"}" + b")" + b"2\x86" * 100 + b"K\x01s.",
    "the same by DICT": b"(" + b")" + b"2\x86" * 100 + b"K\x01d.",
    "the same out of the memo": b"}" + b")" + b"2\x86" * 100 + b"q\x000(h\x00K\x01u.",
    "deep": b"}(K\x01K\x02)" + b"\x85" * 200_000 + b"K\x03u.",
}


# Made into a dict, the first three would never end and the last would end the process.
@pytest.mark.parametrize("name", NESTED)
def test_a_tuple_as_a_key_is_refused_before_it_is_hashed(name: str) -> None:
    with pytest.raises(UserError, match=r"^here: expected names or numbers as keys, found a tuple$"):
        check_opcodes(io.BytesIO(b"\x80\x02" + NESTED[name]), where="here")


@pytest.mark.parametrize(
    "payload", [b"s.", b"(s.", b"}(s.", b"]K\x01(K\x02a.", b"u.", b"h\x05.", b"q\x00.", b"(1."], ids=repr
)
def test_a_pickle_that_takes_what_is_not_there_is_refused(payload: bytes) -> None:
    with pytest.raises(UserError, match=r"^here: expected a whole pickle, found (Index|Key)Error"):
        check_opcodes(io.BytesIO(b"\x80\x02" + payload), where="here")


def test_marks_and_pops_are_followed() -> None:
    # 1 is popped, a mark too, and what lies above a mark with it; {2: 3} is left.
    payload = b"\x80\x02}K\x010(0(K\x01)1(K\x02K\x03u."
    check_opcodes(io.BytesIO(payload), where="here")
    assert RestrictedUnpickler(io.BytesIO(payload), where="here").read() == {2: 3}
