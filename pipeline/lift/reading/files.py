"""Reads the text, JSON and folders that detectors leave, whatever encoding, packing and names they have."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.lift.people import Detection
from pipeline.lift.reading.entries import Json, number_frames, read_frame_number
from pipeline.lift.reading.frame_numbers import choose_video, number_names, refuse_video
from pipeline.lift.video.frames import VIDEO_ENDINGS
from pipeline.system.errors import UserError

MOST_UNPACKED_BYTES = 128 << 20  # of a gzip file: an hour of two bodies of 17 joints has two thirds of it
ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
HDF5_MARK, ZIP_MARK, GZIP_MARK = b"\x89HDF", b"PK\x03\x04", b"\x1f\x8b"


@dataclass(frozen=True)
class Part:
    """What a file of an input holds: its content, its frame number in a folder of one file per frame, and its path."""

    number: int | None
    content: Json
    path: Path


def read_text(path: Path) -> str:
    """Returns the text of a file, unpacked if it is a gzip file. Its byte order mark tells the encoding, else UTF-8.

    Raises UserError if the file cannot be read, is damaged or absurdly large, or is no text.
    """
    try:
        content = path.read_bytes()
        if content.startswith(GZIP_MARK):
            content = _unpack(path)
    except (OSError, EOFError, zlib.error) as error:
        why = "a damaged gzip file" if path.is_file() else "a folder" if path.is_dir() else "no file that can be read"
        raise UserError(f"{path}: expected a file of text, found {why}") from error
    encoding = next((name for mark, name in ENCODINGS if content.startswith(mark)), "utf-8")
    if encoding.startswith("utf-8") and b"\0" in content[:1024]:
        found = "a binary file, of which npz, HDF5 and videos are read"
        raise UserError(f"{path}: expected a file of text, found {found}")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        found = f"byte {error.start + 1} that is none: save it as UTF-8"
        raise UserError(f"{path}: expected text in {encoding.upper()}, found {found}") from error


def _unpack(path: Path) -> bytes:
    """Returns the content of a gzip file. Raises UserError if it is absurdly large, and what gzip raises of others."""
    blocks: list[bytes] = []
    with gzip.open(path) as file:
        while block := file.read(1 << 20):
            blocks.append(block)
            if len(blocks) << 20 > MOST_UNPACKED_BYTES:
                blocks.clear()  # which the error's traceback would keep
                raise UserError(f"{path}: expected at most {MOST_UNPACKED_BYTES >> 20} MiB unpacked, found more")
    return b"".join(blocks)


def read_json(path: Path) -> Json:
    """Returns the content of a JSON file, or of JSON lines as a list. Raises UserError if it is neither, whole."""
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            return [_read_line(line, number, path) for number, line in enumerate(lines, start=1)]
        found = "nothing" if not text.strip() else "a number of thousands of digits"
        if text.strip() and isinstance(error, json.JSONDecodeError):
            found = f"line {error.lineno} that does not go on as JSON does: is the file whole?"
        raise UserError(f"{path}: expected whole JSON, found {found}") from error
    except RecursionError as error:
        raise UserError(f"{path}: expected whole JSON, found lists within lists, thousands deep") from error


def _read_line(line: str, number: int, path: Path) -> Json:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: line {number}: expected whole JSON in each line, found something else") from error


def list_files(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Returns the files of a folder with one of these endings, or that and .gz, by name; hidden ones are left out."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return [file for file in files if file.name.lower().removesuffix(".gz").endswith(tuple(endings))]


@dataclass(frozen=True)
class Kind:
    """What the files of a format are: whether the content of one is of the format at all, the frames in one that holds
    several (None of a single frame), the endings of their names, and how one is read."""

    is_part: Callable[[Json], bool]
    frames_in: Callable[[Json], list[Json] | dict[str, Json] | None]
    endings: Sequence[str] = JSON_ENDINGS
    read: Callable[[Path], Json] = read_json


def read_frames(
    path: Path, kind: Kind, read_people: Callable[[Json, str], Iterable[Detection]], *, video: str | None
) -> tuple[dict[int, list[Detection]], list[Json], tuple[str, ...]]:
    """Returns by number the people whom `read_people` finds in the frames of a folder's files, or of one file.

    With them come the contents of the files, and notes, see `read_parts`. In a file of several frames their numbers are
    those that they say, or in the names of their images, else their places. Raises UserError, as `read_parts` does, and
    if some frames say a number and others do not.
    """
    parts, notes = read_parts(path, kind, video=video)
    people: dict[int, list[Detection]] = {}
    for part in parts:
        where = str(part.path)
        for number, frame in _number_frames(part, kind, None if path.is_dir() else video):
            people.setdefault(number, []).extend(read_people(frame, f"{where}: frame {number}"))
    return people, [part.content for part in parts], notes


def _number_frames(part: Part, kind: Kind, video: str | None) -> Iterable[tuple[int, Json]]:
    if part.number is not None:
        return [(part.number, part.content)]
    where, held = str(part.path), kind.frames_in(part.content)
    if isinstance(held, dict):
        names = number_names(list(held), where=f"{where}: image name", video=video)
        return [(number, held[name]) for name, number in names.items()]
    refuse_video(video, where=where)
    frames = [part.content] if held is None else held
    return zip(
        number_frames([read_frame_number(frame, where=where) for frame in frames], where=where), frames, strict=True
    )


def read_parts(path: Path, kind: Kind, *, video: str | None) -> tuple[list[Part], tuple[str, ...]]:
    """Returns what the files of a folder hold, in the order of their frame numbers, and notes; or what one file holds.

    A file whose name has no number and whose content is not of the format, such as notes.json, is left out and noted.
    Raises UserError if the files are of several videos and `video` chooses none, or a name has no number.
    """
    if path.is_file():
        return [Part(None, kind.read(path), path)], ()
    files = list_files(path, kind.endings)
    contents = {file: kind.read(file) for file in files}
    strays = [file for file in files if not re.search(r"\d", file.stem) and not kind.is_part(contents[file])]
    by_name = {file.name.removesuffix(".gz").rsplit(".", 1)[0]: file for file in files if file not in strays}
    if not by_name:
        raise UserError(f"{path}: expected files of keypoints, found none that ends in {' or '.join(kind.endings)}")
    notes = tuple(f"left out, as it has no keypoints: {file.name}" for file in strays)
    if any(kind.frames_in(contents[file]) is not None for file in by_name.values()):
        file = by_name[choose_video(list(by_name), where=str(path), video=video)]
        return [Part(None, contents[file], file)], notes
    numbers = number_names(list(by_name), where=f"{path}: file name", video=video)
    parts = [Part(number, contents[by_name[name]], by_name[name]) for name, number in numbers.items()]
    return sorted(parts, key=lambda part: part.number or 0), notes


@dataclass(frozen=True)
class Sample:
    """What an input is recognised by: the kind of file, and what the first entry of a JSON file holds."""

    path: Path

    @cached_property
    def kind(self) -> str:
        """Is "npz", "hdf5", "video", "json" or "table", by the first bytes or else the ending of the file."""
        with self.path.open("rb") as file:
            mark = file.read(8)
        if mark.startswith(ZIP_MARK) or self.path.suffix.lower() == ".npz":
            return "npz"
        if mark.startswith(HDF5_MARK):
            return "hdf5"
        if self.path.suffix.lower() in VIDEO_ENDINGS:
            return "video"
        ending = self.path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
        if ending in ("csv", "tsv", "txt"):
            return "table"
        return "json" if ending in ("json", "jsonl", "ndjson") or self.text.lstrip()[:1] in ("{", "[") else "table"

    @cached_property
    def text(self) -> str:
        """The file's text."""
        return read_text(self.path)

    @cached_property
    def lines(self) -> list[list[str]]:
        """The words of the lines of a table; none of another kind."""
        return [line.split() for line in self.text.splitlines() if line.strip()] if self.kind == "table" else []

    @cached_property
    def content(self) -> Json:
        """What a JSON file holds; None of another kind."""
        return read_json(self.path) if self.kind == "json" else None

    def entry_has(self, *keys: str) -> bool:
        """Returns whether the first entry is an object with one of these keys."""
        entry = first_entry(self.content)
        return isinstance(entry, dict) and any(key in entry for key in keys)


def first_entry(content: Json) -> Json:
    """Returns the first entry of a list, or of the first list in it that is not empty; of anything else itself."""
    while isinstance(content, list) and content:
        content = next((part for part in content if part), content[0])
    return content
