"""Files made to do harm, one of each kind for each reader, and what is said of them.

Run as a program, it reads them all in one process under watch (watch.py) and prints a line of JSON for each.
"""

from __future__ import annotations

import gzip
import json
import logging
import pickle
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import torch

from tests.fixtures import poseformer_bin
from tests.trials.readers import CARD_CONTENT, READERS, npz_of_pickle

HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {}  # name -> reader, content, what the refusal says
READ = "read"  # in its place: nothing is refused, as what is read is left out with a warning
PLAIN = "expected arrays, dicts, lists, numbers and strings, found"
WHOLE_BIN = "expected a whole file of torch.save, found"
# Which of the two limits is met first depends on the machine.
WALL = "expected to be read in 512 MiB of memory, found more|512 MiB of memory and 1 s, found one that ends its reader"


def hostile(name: str, reader: str, says: str, make: Callable[[], bytes]) -> None:
    """Adds a file to HOSTILE."""
    assert name not in HOSTILE, name
    HOSTILE[name] = (reader, make, says)


# --- Pickles that call ------------------------------------------------------------------------------------------------
CALLS = {
    "a shell": "os.system",
    "the shell's own name": "posix.system",
    "a program": "subprocess.check_output",
    "eval": "builtins.eval",
    "Python 2's exec": "__builtin__.execfile",
    "an import": "importlib.import_module",
    "a way to an attribute": "operator.attrgetter",
    "numpy's runstring": "numpy.testing._private.utils.runstring",
    "numpy's load": "numpy.load",
    "torch's load": "torch.load",
    "torch's hub": "torch.hub.load",
    "a removal of folders": "shutil.rmtree",
    "a library": "ctypes.CDLL",
    "a web page": "webbrowser.open",
    "code": "marshal.loads",
    "a function of this project": "pipeline.system.files.write_text",
}


def call_of(name: str) -> bytes:
    """Returns a pickle that calls the function of that name with the text "touch hacked"."""
    module, _, function = name.rpartition(".")
    return b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"X\x0c\x00\x00\x00touch hacked\x85R."


for what, name in CALLS.items():
    called = rf" a call of '([\w.]+\.)?{name.rpartition('.')[2]}'"  # builtins are called differently on the way
    hostile(f"npz: {what}", "pickle in npz", f"{PLAIN} UnpicklingError:{called}", lambda name=name: call_of(name))
    hostile(f"bin: {what}", "pickle in bin", f"{WHOLE_BIN}{called}", lambda name=name: call_of(name))
    hostile(f"state: {what}", "pickle in state", READ, lambda name=name: call_of(name))


# --- npz: the archive and the headers of its arrays -------------------------------------------------------------------
def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npz_of_header(text: str) -> bytes:
    """Returns an archive with an array whose header is that text."""
    header = text.encode("latin1")
    return zip_of({"a.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + b"\0" * 64})


def npz_of_shape(shape: str, descr: str = "'<f4'") -> bytes:
    return npz_of_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")


def npy_of(frames: int) -> bytes:
    """Returns the beginning of an array of so many frames."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({frames}, 17, 2)}}"
    return b"\x93NUMPY\x01\x00v\x00" + header.ljust(118).encode()


def npy_of_call() -> bytes:
    with zipfile.ZipFile(BytesIO(npz_of_pickle(call_of("os.system")))) as archive:
        return archive.read("all.npy")


def zip_bomb() -> bytes:
    """Returns an archive of 600 MB of zeros."""
    file, block = BytesIO(), bytes(1 << 20)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (600 << 20,)})
        for _ in range(600):
            member.write(block)
    return file.getvalue()


def lying_zip() -> bytes:
    """Returns a file of 200 bytes whose directory says that it holds 3 GB."""
    content = bytearray(zip_of({"a.npy": b"x" * 50}, zipfile.ZIP_STORED))
    place = content.rindex(b"PK\x01\x02")
    content[place + 20 : place + 28] = struct.pack("<II", 3 << 30, 3 << 30)
    return bytes(content)


def overlapping_zip() -> bytes:
    """Returns an archive of a hundred arrays that are the same bytes of the file."""
    whole = zip_of({"00.npy": bytes(1 << 20)}, zipfile.ZIP_STORED)
    data, directory = (
        whole[: whole.rindex(b"PK\x01\x02")],
        whole[whole.rindex(b"PK\x01\x02") : whole.rindex(b"PK\x05\x06")],
    )
    entries = b"".join(directory.replace(b"00.npy", b"%02d.npy" % number) for number in range(100))
    return data + entries + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 100, 100, len(entries), len(data), 0)


NPZ: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a zip that lies about its size": (f"{PLAIN}|BadZipFile: Overlapped", lying_zip),
    "a zip whose files overlap": (f"{PLAIN}|BadZipFile: Overlapped", overlapping_zip),
    "a zip bomb": (WALL, zip_bomb),
    "a zip that leads out": (PLAIN, lambda: zip_of({"../../a.sh": b"x"})),
    "a name with a line break": (PLAIN, lambda: zip_of({"a\n\x1b[31m.npy": b"x"})),
    "deep minus signs": (f"{PLAIN}|{WALL}", lambda: npz_of_header("-" * 9000 + "1")),
    "deep brackets": (PLAIN, lambda: npz_of_header("(" * 5000)),
    "an endless header": (PLAIN, lambda: npz_of_header("{'descr': '''")),
    "code as a header": (PLAIN, lambda: npz_of_header("__import__('os').system('x')")),
    "a long header": (PLAIN, lambda: npz_of_header("{" + " " * 100_000 + "}")),
    "a negative shape": (PLAIN, lambda: npz_of_shape("(-1, 4)")),
    "a shape of exabytes": (PLAIN, lambda: npz_of_shape(f"({2**62},)")),
    "a shape of terabytes": (WALL, lambda: npz_of_shape(f"({2**40},)")),
    "a shape of fractions": (PLAIN, lambda: npz_of_shape("(1.5,)")),
    "arrays in an array": (PLAIN, lambda: npz_of_shape("(1,)", "('<f4', (1000000, 1000000))")),
    "a text of 2 GB": (WALL, lambda: npz_of_shape("(1,)", f"'<U{2**29 - 1}'")),
    "a field that is an object": (PLAIN, lambda: npz_of_shape("(1,)", "[('x', '|O')]")),
}
for what, (says, make) in NPZ.items():
    hostile(what, "npz", says, make)
MOTION = "'martial_03': expected arrays"
hostile("a motion of exabytes", "motion npz", MOTION, lambda: zip_of({"martial_03.npy": npy_of(2**60)}))
hostile("a motion that is a pickle", "motion npz", MOTION, lambda: zip_of({"martial_03.npy": npy_of_call()}))


# --- Pickles that fill the memory, or those who go through what they hold ---------------------------------------------
def nested_twice(depth: int) -> bytes:
    row: list[Any] = [0]
    for _ in range(depth):
        row = [row, row]
    return pickle.dumps(np.array({"keypoints": row}), protocol=2)


def one_array_often() -> bytes:
    array = np.zeros(1 << 20)
    takes = {f"Walking {number}": array for number in range(1000)}
    return pickle.dumps(np.array({"positions_3d": {"S1": takes}}), protocol=2)


def one_text_often() -> bytes:
    """Returns a pickle of 16 MB of text, which is turned into bytes once for each of 200 arrays."""
    text = b"X" + struct.pack("<I", 16 << 20) + bytes(16 << 20) + b"q\x00"
    encoded = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R"
    shape = b"J" + struct.pack("<i", 16 << 20) + b"\x85"
    array = b"cnumpy._core.numeric\n_frombuffer\n(" + encoded + dtype + shape + b"X\x01\x00\x00\x00CtR"
    return b"\x80\x02" + text + b"0](" + array * 200 + b"e."


PICKLES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "lists each twice in the next": (WALL, lambda: nested_twice(60)),
    "one array in a thousand places": (WALL, one_array_often),
    "one text for many arrays": (WALL, one_text_often),
    "2 million lists": (f"{WALL}|{PLAIN}", lambda: b"\x80\x02](" + b"]" * 2_000_001 + b"e."),
    "a list in itself": (PLAIN, lambda: b"\x80\x02]q\x00h\x00a."),
    "a deep tuple as a key": (WALL, lambda: b"\x80\x02}(K\x01K\x02)" + b"\x85" * 200_000 + b"K\x03u."),
}
for what, (says, make) in PICKLES.items():
    hostile(what, "pickle in npz", says, make)
STRANGE = {
    "a layout that is a list": {"positions_2d": {}, "metadata": {"layout_name": ["coco"], "num_joints": 1}},
    "joints that are a number": {"positions_2d": {}, "metadata": {"num_joints": [], "keypoints_symmetry": 3}},
    "a layout of control characters": {"pixels": np.ones((1, 1, 17, 2)), "layout": "\x1b]0;\x07\n" * 500},
    "an image of no finite size": {"pixels": np.ones((1, 1, 17, 2)), "layout": "coco17", "image_size": [np.inf, 1]},
}
for what, value in STRANGE.items():
    hostile(what, "pickle in npz", "expected", lambda value=value: pickle.dumps(np.array(value), protocol=2))


# --- Checkpoints ------------------------------------------------------------------------------------------------------
def tensor_pickle(shape: tuple[int, ...], strides: tuple[int, ...], count: int) -> bytes:
    return poseformer_bin.pickled({"model_pos": {"a": poseformer_bin.tensor(shape, strides, count=count)}})


def saved(content: Any) -> bytes:
    file = BytesIO()
    torch.save(content, file)
    return file.getvalue()


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


def safetensors_of(**tensor: Any) -> bytes:
    return safetensors(
        json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | tensor}).encode()
    ) + bytes(4)


hostile("a storage that is not there", "pickle in bin", WHOLE_BIN, lambda: tensor_pickle((1,), (1,), 1 << 40))
hostile("a state of a storage of terabytes", "pickle in state", READ, lambda: tensor_pickle((1,), (1,), 1 << 40))
hostile(
    "a state of a tensor of exabytes", "pickle in state", READ, lambda: tensor_pickle((1 << 30, 1 << 30), (0, 0), 16)
)
hostile("a state of one number seen often", "pickle in state", READ, lambda: tensor_pickle((1 << 28,), (0,), 16))
hostile("a state beyond its storage", "pickle in state", READ, lambda: tensor_pickle((1 << 28,), (1,), 16))
hostile(
    "a state that is a zip bomb",
    "state",
    READ,
    lambda: zip_of({"a/data.pkl": pickle.dumps(1, 2), "a/data/0": bytes(100 << 20)}),
)
hostile("a state cut off", "state", READ, lambda: saved({"a": torch.ones(100)})[:-300])
hostile("a state that is a pickle of old", "state", READ, lambda: call_of("os.system"))
NO_WEIGHTS = "expected a safetensors file"
hostile("weights of an endless header", "safetensors", NO_WEIGHTS, lambda: safetensors(b"{}", 1 << 62))
hostile("weights of a header of 99 MB", "safetensors", NO_WEIGHTS, lambda: safetensors(b"{}", 99_000_000))
hostile("weights of a deep header", "safetensors", NO_WEIGHTS, lambda: safetensors(b'{"a":' + b"[" * 90_000))
hostile(
    "weights beyond the file",
    "safetensors",
    NO_WEIGHTS,
    lambda: safetensors_of(data_offsets=[0, 1 << 40], shape=[1 << 38]),
)
hostile("weights of a shape of exabytes", "safetensors", NO_WEIGHTS, lambda: safetensors_of(shape=[1 << 40, 1 << 40]))
hostile("weights of a negative place", "safetensors", NO_WEIGHTS, lambda: safetensors_of(data_offsets=[-4, 0]))
hostile("weights of unknown numbers", "safetensors", NO_WEIGHTS, lambda: safetensors_of(dtype="F31"))
hostile("weights that are a pickle", "safetensors", NO_WEIGHTS, lambda: call_of("os.system"))


# --- YAML -------------------------------------------------------------------------------------------------------------
LAUGHS = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 122))
MERGED = b"a: &a {x: 1}\n" + b"".join(b"%c: &%c {<<: [*%c, *%c]}\n" % (n + 1, n + 1, n, n) for n in range(97, 122))
YAML = {
    "a tag that calls": (b"!!python/object/apply:os.system ['touch hacked']", "ConstructorError"),
    "a tag that makes an object": (b"!!python/object/new:subprocess.Popen [touch, hacked]", "ConstructorError"),
    "a tag of a name": (b"a: !!python/name:os.system", "ConstructorError"),
    "a tag of a module": (b"a: !!python/module:antigravity", "ConstructorError"),
    "a billion laughs": (LAUGHS, "ComposerError: more than 10 aliases"),
    "a billion merged laughs": (MERGED, "ComposerError: more than 10 aliases"),
    "a list in itself": (b"a: &a [*a]", "ComposerError: an alias within"),
    "a map in itself": (b"a: &a {b: *a}", "ComposerError: an alias within"),
    "brackets without end": (b"[" * 50_000, "RecursionError"),
    "a number of 5000 digits": (b"a: " + b"9" * 5000, "ValueError"),
    "the 99th of a month": (b"a: 2001-99-99", "ValueError"),
    "a number without digits": (b"a: 0x_", "ValueError"),
    "an unknown anchor": (b"a: *b", "ComposerError"),
    "a list as a key": (b"? [a]\n: 1", "ConstructorError"),
    "a null byte": (b"a: \x00", "ReaderError"),
    "half a letter": (b"a: \xff", "UnicodeDecodeError"),
    "3 MB of it": (b"#" * (3 << 20), "expected at most 2097152 bytes of YAML"),
    "a key of control characters": (b'"\\e[2J\\n": 1', "unknown key"),
}
for what, (content, says) in YAML.items():
    hostile(f"params.yaml: {what}", "params.yaml", says, lambda content=content: content)
hostile("card: a tag that calls", "card", "ConstructorError", lambda: YAML["a tag that calls"][0])
hostile("card: a billion laughs", "card", "more than 10 aliases", lambda: LAUGHS)
hostile(
    "card: an unknown model with escapes",
    "card",
    "model: expected one of",
    lambda: json.dumps(CARD_CONTENT | {"model": "\x1b[2J\n" * 99}).encode(),
)
hostile("dvc.yaml: a billion laughs", "dvc.yaml", "more than 10 aliases", lambda: LAUGHS)
hostile(
    "dvc.yaml: numbers for rows",
    "dvc.yaml",
    "expected stages.evaluate_5runs.matrix.row",
    lambda: b"stages: {evaluate_5runs: {matrix: {row: [1, 2]}}}",
)
hostile("dvc.lock: a tag that calls", "dvc.lock", "ConstructorError", lambda: YAML["a tag that calls"][0])
hostile("dvc.lock: another kind of list", "dvc.lock", "expected", lambda: b"stages: {a: {outs: [3]}}")


# --- MATLAB -----------------------------------------------------------------------------------------------------------
MAT_HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def tagged(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, dims: tuple[int, ...], content: bytes, name: bytes = b"data") -> bytes:
    sizes = tagged(5, struct.pack(f"<{len(dims)}i", *dims))
    return tagged(14, tagged(6, struct.pack("<II", kind, 0)) + sizes + tagged(1, name) + content)


def deep_cells(depth: int) -> bytes:
    inner = matrix(6, (1, 1), tagged(9, bytes(8)))
    for _ in range(depth):
        inner = matrix(1, (1, 1), inner)
    return MAT_HEAD + inner


def mat_bomb() -> bytes:
    packed = zlib.compress(matrix(6, (1 << 20, 96), tagged(9, bytes(8 * 96 << 20))))
    return MAT_HEAD + struct.pack("<II", 15, len(packed)) + packed


def mat_of(**content: Any) -> bytes:
    file = BytesIO()
    scipy.io.savemat(file, content)
    return file.getvalue()


hostile("mat: cells in cells", "mat", WALL, lambda: deep_cells(20_000))
hostile("mat: a cell of terabytes", "mat", "", lambda: MAT_HEAD + matrix(1, (1, 1), matrix(1, (1 << 20, 1 << 20), b"")))
hostile(
    "mat: numbers that are not there",
    "mat",
    "",
    lambda: MAT_HEAD + matrix(6, (1 << 14, 1 << 14), struct.pack("<II", 9, 1 << 31)),
)
hostile("mat: a zip bomb", "mat", WALL, mat_bomb)
hostile("mat: a structure", "mat", "expected", lambda: mat_of(data={"a": 1}))
hostile("mat: a text", "mat", "expected", lambda: mat_of(data="x" * 96))
hostile("mat: dimensions below 0", "mat", "expected", lambda: MAT_HEAD + matrix(6, (-1, 96), tagged(9, bytes(8))))
hostile(
    "mat: a function", "mat", "expected", lambda: MAT_HEAD + matrix(16, (1, 1), matrix(6, (1, 1), tagged(9, bytes(8))))
)
hostile(
    "mat: an object", "mat", "expected", lambda: MAT_HEAD + matrix(17, (1, 1), tagged(1, b"MCOS") + tagged(1, b"x"))
)
hostile("mat: version 4 of gigabytes", "mat", "", lambda: struct.pack("<5i", 0, 1 << 20, 1 << 12, 0, 5) + b"data\0")


# --- HDF5 -------------------------------------------------------------------------------------------------------------
def h5(make: Callable[[h5py.File], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        with h5py.File(Path(folder) / "a.h5", "w") as file:
            make(file)
        return (Path(folder) / "a.h5").read_bytes()


H5 = "3D_positions"
INSIDE = f"'{H5}': expected"
LAYOUT = h5py.VirtualLayout(shape=(96, 2), dtype="f4")
LAYOUT[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(96, 2))
hostile(
    "h5: numbers that are not there",
    "hdf5",
    WALL,
    lambda: h5(lambda f: f.create_dataset(H5, (96, 1 << 40), "f8", chunks=(96, 1))),
)
hostile(
    "h5: a link to another file",
    "hdf5",
    INSIDE,
    lambda: h5(lambda f: f.__setitem__(H5, h5py.ExternalLink("/etc/passwd", "x"))),
)
hostile("h5: a link to itself", "hdf5", INSIDE, lambda: h5(lambda f: f.__setitem__(H5, h5py.SoftLink(f"/{H5}"))))
hostile(
    "h5: numbers in another file",
    "hdf5",
    INSIDE,
    lambda: h5(lambda f: f.create_dataset(H5, (96, 2), "f4", external=[("/etc/passwd", 0, 768)])),
)
hostile("h5: a view of another file", "hdf5", INSIDE, lambda: h5(lambda f: f.create_virtual_dataset(H5, LAYOUT)))
hostile("h5: texts", "hdf5", INSIDE, lambda: h5(lambda f: f.create_dataset(H5, (96, 2), h5py.string_dtype())))
hostile("h5: references", "hdf5", INSIDE, lambda: h5(lambda f: f.create_dataset(H5, (96, 2), h5py.ref_dtype)))
hostile("h5: a group", "hdf5", INSIDE, lambda: h5(lambda f: f.create_group(H5)))
hostile("h5: nothing but a superblock", "hdf5", "found OSError", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100))


# --- CDF --------------------------------------------------------------------------------------------------------------
def cdf(*changes: tuple[int, bytes]) -> bytes:
    """Returns a good file with other bytes at these places."""
    with tempfile.TemporaryDirectory() as folder:
        content = bytearray(next(iter(READERS["cdf"].seeds(Path(folder)))))
    for place, value in changes:
        content[place : place + len(value)] = value
    return bytes(content)


MOST = b"\x7f\xff\xff\xff"


def gdr(field: int) -> int:
    """Returns the place of a field in the file's global descriptor."""
    return int.from_bytes(cdf()[20:28], "big") + field


def vdr(field: int) -> int:
    """Returns the place of a field in the descriptor of the variable, whose name begins at byte 84."""
    return cdf().index(b"Pose") - 84 + field


def cdf_bomb() -> bytes:
    """Returns a file that is compressed as a whole: a header, 300 MB of zeros, and how it is compressed."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = b"".join(packed.compress(bytes(1 << 20)) for _ in range(300)) + packed.flush()
    record = struct.pack(">QIQQI", 32 + len(data), 10, 8 + 32 + len(data), 300 << 20, 0) + data
    return bytes.fromhex("cdf30001cccc0001") + record + struct.pack(">QIIIII", 28, 11, 5, 0, 1, 9)


NO_CDF = f"expected a CDF file with 'Pose'|{WALL}"
hostile("cdf: 2 billion variables", "cdf", NO_CDF, lambda: cdf((gdr(60), MOST), (vdr(84), b"Nose")))
hostile("cdf: 2 billion dimensions", "cdf", NO_CDF, lambda: cdf((vdr(340), MOST)))
hostile("cdf: a bomb", "cdf", NO_CDF, cdf_bomb)
hostile("cdf: records without end", "cdf", NO_CDF, lambda: cdf((vdr(24), MOST)))
hostile("cdf: another name", "cdf", NO_CDF, lambda: cdf((vdr(84), b"Rose")))
hostile("cdf: cut off", "cdf", NO_CDF, lambda: cdf()[:700])


# --- JSON and CSV -----------------------------------------------------------------------------------------------------
def deep(inner: bytes, depth: int) -> bytes:
    return b"[" * depth + inner + b"]" * depth


MARK = b'{"x": 0.5, "y": 0.5}'
ENTRY = {"image_id": 0, "keypoints": [1] * 51}
JSON = {
    "brackets without end": (b"[" * 200_000, "lists within lists, thousands deep"),
    "braces without end": (b'{"people":' * 50_000, "lists within lists, thousands deep"),
    "a bomb of gzip": (gzip.compress(bytes(300 << 20), 1), "at most 128 MiB unpacked"),
    "a coordinate of 300 digits": (json.dumps([ENTRY | {"keypoints": [1e300] * 51}]).encode(), "of at most 1e.07"),
    "landmarks far down": (deep(MARK, 700), "expected"),
    "a number of 5000 digits": (b'[{"image_id": %s}]' % (b"9" * 5000), "expected"),
    "a number of 400 digits": (b'[{"image_id": 0, "keypoints": [%s]}]' % b", ".join([b"9" * 400] * 51), "expected"),
    "an endless image": (b'{"images": [{"id": 0, "width": Infinity, "height": NaN}], "annotations": []}', "expected"),
    "frames far apart": (json.dumps([ENTRY, ENTRY | {"image_id": 10**12}]).encode(), "numbers that follow each other"),
    "a list as a name": (json.dumps([ENTRY | {"image_id": [], "track_id": {}}]).encode(), "expected"),
    "lists of other lengths": (json.dumps([ENTRY | {"keypoints": [[1], [1, 2], 3]}]).encode(), "expected"),
    "people by name": (b'{"people": {"a": 1}}', "expected"),
    "two with an id of line breaks": (json.dumps([ENTRY | {"track_id": "\n\x1b[2J"}] * 2).encode(), "expected"),
    "no text": (bytes(range(256)), "expected"),
    "nothing": (b"", "expected"),
    "null": (b"null", "expected"),
}  # fmt: skip
for what, (content, says) in JSON.items():
    hostile(f"keypoints: {what}", "keypoint json", says, lambda content=content: content)
for reader in ("clips.json", "skeleton.json", "metrics json", "distributions json"):
    hostile(f"{reader}: brackets without end", reader, "RecursionError", lambda: b"[" * 200_000)
    hostile(f"{reader}: a number", reader, "expected", lambda: b"1e400")


def clip_of(**changes: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        READERS["clips.json"].prepare(Path(folder))
        entries = json.loads((Path(folder) / "split" / "clips.json").read_text())
    return json.dumps([entry | changes for entry in entries]).encode()


hostile("clips: fewer than no frames", "clips.json", "expected", lambda: clip_of(frames=-1))
hostile("clips: frames without end", "clips.json", "expected", lambda: clip_of(frames=10**18))
hostile("clips: a camera that is none", "clips.json", "expected the list of clips", lambda: clip_of(camera=[]))
hostile("clips: a camera of exabytes", "clips.json", "expected", lambda: clip_of(frames=float("inf")))
hostile("clips: a pickle for an array", "clips npy", "expected a numpy array", lambda: call_of("os.system"))
hostile("clips: an array of objects", "clips npy", "expected a numpy array", lambda: npy_of_object())
hostile("clips: an archive for an array", "clips npy", "expected a numpy array", lambda: b"PK\x03\x04" + bytes(100))
hostile("clips: an array in an archive", "clips npy", "expected a numpy array", lambda: zip_of({"a.npy": npy_of(5)}))
hostile("clips: an array of exabytes", "clips npy", "expected", lambda: npy_of(2**60))
hostile(
    "clips: a header of deep minus signs",
    "clips npy",
    "expected",
    lambda: b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"-" * 9000,
)


def npy_of_object() -> bytes:
    file = BytesIO()
    np.save(file, np.array({"a": 1}), allow_pickle=True)
    return file.getvalue()


HEAD = b"layout,frame,joint,x,y\n"
CSV = {
    "a frame after a billion": (HEAD + b"coco17,1000000000,0,1,1\n", "numbers that follow each other"),
    "a frame before the first": (HEAD + b"coco17,-5,0,1,1\n", "expected numbers from 0"),
    "a frame of 5000 digits": (HEAD + b"coco17," + b"9" * 5000 + b",0,1,1\n", "expected"),
    "a joint of 10^9": (HEAD + b"coco17,0,1000000000,1,1\n", "expected"),
    "an endless value": (HEAD + b"coco17,0,0," + b"1" * 200_000 + b",1\n", "a cell that is absurdly long"),
    "a quote that does not end": (HEAD + b'"' + b"x\n" * 100_000, "expected"),
    "many columns, many lines": (b"a," * 100_000 + b"\n" + b"\n1" * 100_000, "expected"),
    "one column twice": (b"frame,frame\n1,2\n", "expected columns of different names"),
    "null bytes": (HEAD + b"\x00" * 1000, "expected"),
    "a layout of line breaks": (b'layout,frame,joint,x,y\n"\n\n\x1b[2J",0,0,1,1\n', "layout: expected one of"),
}
for what, (content, says) in CSV.items():
    hostile(f"csv: {what}", "keypoint csv", says, lambda content=content: content)
hostile("labels: numbers that are none", "labels", "expected", lambda: b"0 " * 5 + b"x " * 51)
hostile("labels: a line without end", "labels", "or 56 to 58 numbers", lambda: b"0 " * 400_000)


def takes_table(**changes: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        READERS["takes.csv"].prepare(Path(folder))
        (content,) = READERS["takes.csv"].seeds(Path(folder))
    header, line = content.decode().split("\n")[:2]
    values = dict(zip(header.strip().split(","), line.strip().split(","), strict=True)) | changes
    return f"{header}\n{','.join(values.values())}\n".encode()


BESIDE = "expected an .npz, .bvh or .amc file beside the table"
hostile("takes: a file elsewhere", "takes.csv", BESIDE, lambda: takes_table(file="../../../../etc/passwd"))
hostile("takes: an absolute path", "takes.csv", BESIDE, lambda: takes_table(file="/etc/passwd"))
hostile("takes: a folder", "takes.csv", "expected", lambda: takes_table(file=".."))
hostile("takes: a take of another file", "takes.csv", "expected an array", lambda: takes_table(name="../../a"))
hostile("takes: a rate that is none", "takes.csv", "expected a number over 0", lambda: takes_table(rate_hz="nan"))
SKELETON = {
    "no unit": ({"up": "z"}, "unit_mm: expected a value"),
    "an endless unit": ({"up": "z", "unit_mm": 1e999}, "unit_mm: expected"),
    "joints of numbers": ({"up": "z", "unit_mm": 1, "joints": {"Hip": [1]}}, "expected"),
    "names without end": ({"up": "z", "unit_mm": 1, "names": ["a"] * 100_000}, "expected"),
}
for what, (values, says) in SKELETON.items():
    hostile(f"skeleton: {what}", "skeleton.json", says, lambda values=values: json.dumps(values).encode())
hostile("curves: an endless value", "learning curves", "expected learning curves", lambda: b"epoch\n" + b"1" * 200_000)
hostile(
    "calibration: no numbers",
    "camera.calibration",
    "expected a camera calibration",
    lambda: b"x\nname 99999999999999999999\n size nan",
)
hostile("calibration: an endless line", "camera.calibration", "expected", lambda: b"x\nname " + b"9" * 100_000)
hostile(
    "W&B: a length beyond the file", "wandb", READ, lambda: b":W&B\x1d\xbe\x00" + bytes(4) + b"\xff\xff\x01" + b"x" * 9
)
hostile(
    "W&B: a record that is none", "wandb", READ, lambda: b":W&B\x1d\xbe\x00" + bytes(4) + b"\x09\x00\x01" + b"\xff" * 9
)


def main() -> None:
    """Reads every file and prints a line of JSON for each: its name and how that ended."""
    from pipeline.system import archives
    from tests.trials import watch

    archives.CPU_S, archives.MEMORY_BYTES = 1, 512 << 20
    logging.disable(logging.CRITICAL)
    contents = {name: make() for name, (_, make, _) in HOSTILE.items()}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {reader: Path(temporary) / str(number) for number, reader in enumerate(READERS)}
        for reader, folder in folders.items():
            folder.mkdir()
            watch.warm(READERS[reader], folder)
        watch.guard()
        watch.limit_memory()
        for name, (reader, _, _) in HOSTILE.items():
            read, content, folder = READERS[reader].read, contents.pop(name), folders[reader]
            started = time.monotonic()
            ended = watch.outcome(lambda: read(folder, content), folder)  # noqa: B023
            print(json.dumps([name, *ended, round(time.monotonic() - started, 2)]), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
