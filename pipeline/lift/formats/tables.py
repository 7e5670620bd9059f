"""Reads keypoints from tables of text: a line per joint or per person, as people, DeepLabCut and SLEAP write them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.lift.layouts import LAYOUTS
from pipeline.lift.people import Detection, Detections, InputOptions
from pipeline.lift.reading.entries import describe, read_person
from pipeline.lift.reading.files import read_text
from pipeline.lift.reading.frame_numbers import FRAME_KEYS, number_names, refuse_video
from pipeline.system.errors import UserError

FRAME_COLUMNS = (*(key.lower() for key in FRAME_KEYS), "image_id", "image", "file_name", "filename")
JOINT_COLUMNS = (
    "joint", "keypoint", "landmark", "bodypart", "node", "joint_id", "keypoint_id", "landmark_id", "landmark_index"
)  # fmt: skip
INDEX_COLUMNS = ("", "index", "unnamed: 0")  # the lines' numbers, as pandas writes them
PERSON_COLUMNS = ("person", "person_id", "track_id", "track", "individual", "instance_id")
DETECTION_COLUMNS = ("detection", "detection_id")  # tell people of a frame apart, but not from frame to frame
CHANNELS = {
    "x": "x", "y": "y", "confidence": "confidence", "conf": "confidence", "score": "confidence",
    "likelihood": "confidence", "visibility": "confidence", "visible": "confidence", "prob": "confidence",
    "c": "confidence", "v": "confidence", "s": "confidence", "p": "confidence",
}  # fmt: skip
# <joint>_x, <joint>.x, x_<joint>, and x0.
COLUMN = re.compile(
    rf"(?P<joint>.+)[ _.:/-](?P<channel>{'|'.join(CHANNELS)})|(?P<first>{'|'.join(CHANNELS)})[ _.:/-]?(?P<number>\d+)"
    rf"|(?P<ahead>{'|'.join(CHANNELS)})[ _.:/-](?P<name>.+)",
    re.IGNORECASE,
)
EXPECTED = "the columns frame, joint, x, y, or frame and <joint>_x, <joint>_y for each joint"
MOST_JOINTS = 1000
EMPTY = ("na", "n/a", "#n/a", "null", "none")  # how tools write a cell without a number
Joints = dict[str, list[float]]  # x, y and confidence by name
Line = tuple[int, list[str]]


@dataclass(frozen=True)
class Row:
    """The joints in one line of a table: where it stands, its frame, and whose they are, as the file has it."""

    where: str
    frame: str
    person: str
    detection: str
    joints: Joints


def read_table(path: Path, options: InputOptions) -> Detections:
    """Reads people from a table with a line per joint, or per person and frame.

    Cells are separated by commas, semicolons or tabs.
    The columns are frame, joint, x, y, or frame and <joint>_x, <joint>_y for each joint; person, detection, confidence
    (or <joint>_confidence) and layout where there are any. DeepLabCut's have three or four lines of headings. Joints
    are named or numbered; an empty cell is not seen. Without person, joints given twice in a frame are of two people,
    who are told apart by overlap. Raises UserError if a line cannot be read or a person has a joint twice.
    """
    refuse_video(options.video, where=str(path))
    lines = _split_lines(path)
    layout = None
    if lines and lines[0][1][0].lower() == "scorer":
        rows = _read_deeplabcut(lines, path)
    else:
        rows, layout = _read_rows(lines, path)
    names = list(dict.fromkeys(name for row in rows for name in row.joints))
    is_numbered = all(re.fullmatch("[0-9]{1,9}", name) for name in names)
    if is_numbered:
        known = LAYOUTS.get(options.layout or layout or "")
        joints = max(len(known.joints) if known else 0, 1 + max(map(int, names), default=-1))
        if joints > MOST_JOINTS:
            raise UserError(f"{path}: joint: expected names, or numbers under {MOST_JOINTS}, found {joints - 1}")
        names = [str(number) for number in range(joints)]
    numbers = _number_rows(rows, path)
    frames: dict[int, list[Detection]] = {0: []} if rows else {}
    places = {name: place for place, name in enumerate(names)}
    for frame, person, given in _group_people(rows, numbers):
        keypoints = np.full((len(names), 3), np.nan)
        for name, values in given.items():
            keypoints[places[name if not is_numbered else str(int(name))]] = values
        frames.setdefault(frame, []).append(Detection(keypoints, person))
    if frames and min(frames) < 0:
        raise UserError(f"{path}: frame: expected numbers from 0, found {min(frames)}")
    return Detections(layout, frames, joints=None if is_numbered else tuple(names))


def _split_lines(path: Path) -> list[Line]:
    """Returns each line that is not empty: its number, and its cells. Decimal commas become points."""
    text = read_text(path)
    stated = re.match(r"sep=(.)\r?\n", text)  # Excel's own first line
    head = text[stated.end() :] if stated else text
    first = head.lstrip().partition("\n")[0]
    separator = stated[1] if stated else max(",;\t", key=first.count)
    try:
        cells = list(csv.reader(text.splitlines(), delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise UserError(f"{path}: expected a table, found a cell that is absurdly long or does not end") from error
    decimal = re.compile(r"-?[0-9]+,[0-9]+" if separator != "," else r"(?!)")
    lines = [
        (number, [cell.replace(",", ".") if decimal.fullmatch(cell) else cell for cell in map(str.strip, line)])
        for number, line in enumerate(cells, start=1)
        if any(cell.strip() for cell in line) and not (stated and number == 1)
    ]
    if not lines:
        raise UserError(f"{path}: expected {EXPECTED}, found an empty file")
    counts = {len(line) for _, line in lines[1:]}
    if len(lines) > 2 and len(counts) == 1 and len(lines[0][1]) not in counts:
        expected = f"the names of {counts.pop()} columns, as many as the lines below have values"
        found = f"{len(lines[0][1])}, separated by '{separator}'"
        raise UserError(f"{path}: line {lines[0][0]}: expected {expected}, found {found}")
    for number, line in lines:
        if len(line) != len(lines[0][1]):
            found = f"{len(line)}, separated by '{separator}'"
            raise UserError(f"{path}: line {number}: expected {len(lines[0][1])} values, found {found}")
    return lines


def _read_rows(lines: Sequence[Line], path: Path) -> tuple[list[Row], str | None]:
    """Returns the rows under one line of headings, and the layout that they name."""
    columns = lines[0][1]
    if all(re.fullmatch(r"[-+0-9.,eE]*|nan", column) for column in columns):
        raise UserError(f"{path}: line {lines[0][0]}: expected {EXPECTED}, found numbers: name the columns above them")
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise UserError(f"{path}: expected columns of different names, found '{twice}' twice")
    places = {name.lower(): place for place, name in enumerate(columns)}
    frame = _find_column(places, FRAME_COLUMNS)
    joint = _find_column(places, JOINT_COLUMNS)
    per_joint = joint is not None and {"x", "y"} <= places.keys()
    joints = {} if per_joint else _find_joints(columns)
    if frame is None and not per_joint:  # a line for each frame, numbered by pandas
        frame = _find_column(places, INDEX_COLUMNS)
    if frame is None or not (per_joint or joints):
        raise UserError(f"{path}: expected {EXPECTED}, found {', '.join(columns[:8])}")
    person, detection = _find_column(places, PERSON_COLUMNS), _find_column(places, DETECTION_COLUMNS)
    confidence = next((places[name] for name in CHANNELS if name in places and name not in "xy"), None)
    rows = []
    for number, line in lines[1:]:
        where = f"{path}: line {number}"
        if joint is not None and per_joint:
            channels = {"x": places["x"], "y": places["y"]} | ({} if confidence is None else {"confidence": confidence})
            here = {line[joint].removesuffix(".0"): channels}
        else:
            here = joints
        values = {name: _read_cells(line, channels, columns, where) for name, channels in here.items()}
        who, which = ("" if place is None else line[place] for place in (person, detection))
        rows.append(Row(where, line[frame], who, which, values))
    layouts = {line[places["layout"]] for _, line in lines[1:]} if "layout" in places else set()
    if len(layouts) > 1:
        raise UserError(f"{path}: layout: expected one layout in all lines, found {' and '.join(sorted(layouts)[:2])}")
    return rows, (layouts.pop() or None) if layouts else None


def _find_column(places: Mapping[str, int], names: Sequence[str]) -> int | None:
    return next((places[name] for name in names if name in places), None)


def _find_joints(columns: Sequence[str]) -> dict[str, dict[str, int]]:
    """Returns the columns of x, y and confidence of each joint, by its name or number."""
    joints: dict[str, dict[str, int]] = {}
    for place, column in enumerate(columns):
        if match := COLUMN.fullmatch(column):
            name = match["joint"] or match["number"] or match["name"]
            channel = CHANNELS[(match["channel"] or match["first"] or match["ahead"]).lower()]
            joints.setdefault(name, {})[channel] = place
    return {name: channels for name, channels in joints.items() if {"x", "y"} <= channels.keys()}


def _read_cells(line: Sequence[str], channels: Mapping[str, int], columns: Sequence[str], where: str) -> list[float]:
    """Returns x, y and confidence of a joint; NaN where the cell is empty, but a confidence of 1."""
    values = []
    for channel, empty in (("x", "nan"), ("y", "nan"), ("confidence", "1")):
        cell = line[channels[channel]] if channel in channels else ""
        cell = "" if cell.lower() in EMPTY else cell
        try:
            values.append(float(cell or empty))
        except ValueError:
            column = f"column '{columns[channels[channel]]}'"
            raise UserError(f"{where}: {column}: expected a number, found {describe(cell)}") from None
    return values


def _read_deeplabcut(lines: Sequence[Line], path: Path) -> list[Row]:
    """Returns the rows under DeepLabCut's headings: scorer, bodyparts, coords and, of several people, individuals."""
    titles = ("scorer", "individuals", "bodyparts", "coords")
    heads = {line[0].lower(): line for _, line in lines[:4] if line[0].lower() in titles}
    if not {"bodyparts", "coords"} <= heads.keys():
        raise UserError(f"{path}: expected DeepLabCut's lines scorer, bodyparts and coords, found {', '.join(heads)}")
    data = [(number, line) for number, line in lines if line[0].lower() not in heads]
    places: dict[str, dict[str, dict[str, int]]] = {}  # by individual and joint
    for place, channel in enumerate(heads["coords"]):
        if channel.lower() in CHANNELS:
            individual = heads["individuals"][place] if "individuals" in heads else ""
            joint = places.setdefault(individual, {}).setdefault(heads["bodyparts"][place], {})
            joint[CHANNELS[channel.lower()]] = place
    rows = []
    for number, line in data:
        where = f"{path}: line {number}"
        frame = "/".join(cell for cell, head in zip(line, heads["coords"], strict=True) if head.lower() not in CHANNELS)
        for individual, joints in places.items():
            values = {
                name: _read_cells(line, channels, heads["coords"], where)
                for name, channels in joints.items()
                if {"x", "y"} <= channels.keys()
            }
            rows.append(Row(where, frame, individual, "", values))
    return rows


def _number_rows(rows: Sequence[Row], path: Path) -> dict[str, int]:
    """Returns the frame number of what the rows say as their frame: a whole number, or the name of an image."""
    said = list(dict.fromkeys(row.frame for row in rows))
    whole = re.compile(r"-?[0-9]{1,15}([.,]0*)?")
    if all(whole.fullmatch(text) for text in said):
        return {text: int(re.split("[.,]", text)[0]) for text in said}
    number = re.compile(r"[-+0-9.,eE]*")
    bad = next((row for row in rows if number.fullmatch(row.frame) and not whole.fullmatch(row.frame)), None)
    if bad is not None:
        raise UserError(f"{bad.where}: frame: expected a whole number, found {describe(bad.frame)}")
    return number_names(said, where=f"{path}: frame", video=None)


def _group_people(rows: Sequence[Row], numbers: Mapping[str, int]) -> list[tuple[int, str | None, Joints]]:
    """Returns the joints of each detection, with its frame and the person's id.

    Rows of one person in a frame are one detection. Without an id, a joint that comes again begins another.
    """
    found: dict[tuple[int, str, str, int], Joints] = {}
    times: Counter[tuple[int, str, str, str]] = Counter()  # how often a joint was given
    for row in rows:
        frame = numbers[row.frame]
        for name, values in row.joints.items():
            times[frame, row.person, row.detection, name] += 1
            turn = times[frame, row.person, row.detection, name]
            if turn > 1 and (row.person or row.detection):
                given = f"joint '{name}' of person '{row.person or row.detection}'"
                raise UserError(f"{row.where}: expected each joint once in a frame, found {given} again")
            found.setdefault((frame, row.person, row.detection, turn), {})[name] = values
    for frame, person, detection, turn in found:
        mine, first = found[frame, person, detection, turn], found[frame, person, detection, 1]
        if turn > 1 and len(mine) < len(first):
            where = next(row.where for row in rows if numbers[row.frame] == frame)
            given = f"{len(first)} joints and then {len(mine)} again: a column 'person' tells whose they are"
            raise UserError(f"{where}: expected every joint as often as the others in frame {frame}, found {given}")
    return [(frame, read_person(person, where="person"), joints) for (frame, person, _, _), joints in found.items()]
