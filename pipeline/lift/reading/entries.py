"""Reads values out of an entry of a file, and says which entry it was if they are not there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from pipeline.lift.reading.frame_numbers import FRAME_KEYS
from pipeline.system.errors import BAD_VALUE, UserError

Json: TypeAlias = Any  # what a parser of JSON makes of a file: nothing is known of it before it is checked


def describe(value: object) -> str:
    """Returns in a few words what a value of a file is."""
    if isinstance(value, dict):
        return f"an object with {', '.join(map(str, list(value)[:6]))}" if value else "an empty object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is None:
        return "null"
    return f"'{value[:40]}'" if isinstance(value, str) else str(value)[:40]


def get_field(entry: object, *keys: str, where: str) -> Json:
    """Returns the first of these fields that an entry has. Raises UserError, naming `where`, if it has none of them."""
    if isinstance(entry, dict):
        for key in keys:
            if key in entry:
                return entry[key]
    expected = " or ".join(f"'{key}'" for key in keys)
    raise UserError(f"{where}: expected an entry with {expected}, found {describe(entry)}")


def get_list(value: object, *, where: str, of: str) -> list[Json]:
    """Returns a list. Raises UserError, naming `where` and what it is a list `of`, if it is something else."""
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list of {of}, found {describe(value)}")
    return value


def read_numbers(values: object, *, where: str) -> Float[np.ndarray, "..."]:
    """Returns numbers as an array; null is NaN. Raises UserError if they are none, or of lists of different lengths."""
    try:
        return np.array(values, dtype=float)
    except BAD_VALUE:
        flat = values
        while isinstance(flat, (list, tuple)) and flat and isinstance(flat[0], (list, tuple)):
            flat = [value for part in flat for value in (part if isinstance(part, (list, tuple)) else [part])]
        listed = flat if isinstance(flat, (list, tuple)) else [flat]
        bad = next((value for value in listed if not is_number(value)), None)
        found = "lists of different lengths" if bad is None else describe(bad)
        raise UserError(f"{where}: expected numbers, found {found}") from None


def read_size(value: object, *, where: str) -> tuple[int, int]:
    """Returns width and height in pixels. Raises UserError if there are not two numbers from 1."""
    sides = read_numbers(value, where=where).ravel()
    if len(sides) < 2 or not (sides[:2] >= 1).all() or not np.isfinite(sides[:2]).all():
        raise UserError(f"{where}: expected width and height in pixels, found {describe(value)}")
    return int(sides[0]), int(sides[1])


def read_keypoints(values: object, *, where: str) -> Float[np.ndarray, "J 3"]:
    """Returns x, y and confidence of each joint, given one after the other or a list for each joint.

    Confidence is 1 where the lists are of x and y alone. Raises UserError if they are something else.
    """
    numbers = read_numbers(values, where=where)
    if numbers.ndim == 2 and numbers.shape[1] == 2:
        return np.concatenate([numbers, np.ones((len(numbers), 1))], axis=1)
    if numbers.ndim == 2 and numbers.shape[1] == 3:
        return numbers
    if numbers.ndim != 1 or numbers.size % 3 or not numbers.size:
        found = f"{numbers.size} numbers" if numbers.ndim == 1 else f"numbers of shape {numbers.shape}"
        if numbers.ndim == 1 and numbers.size and not numbers.size % 2:
            found += "; x and y alone are read as a list of two for each joint"
        raise UserError(f"{where}: expected x, y and confidence of each joint, found {found}")
    return numbers.reshape(-1, 3)


def stack_channels(channels: Sequence[object], *, where: str) -> Float[np.ndarray, "J C"]:
    """Returns lists of numbers side by side. Raises UserError if they are no numbers, or differ in length."""
    columns = [read_numbers(channel, where=where) for channel in channels]
    if any(column.shape != columns[0].shape or column.ndim != 1 for column in columns):
        found = " and ".join(str(column.size) for column in columns)
        raise UserError(f"{where}: expected as many x as y and confidences, found {found}")
    return np.stack(columns, axis=1)


def read_person(value: object, *, where: str) -> str | None:
    """Returns the id of a person as text, None for no id: null, -1, an empty text or list.

    A whole number is the same with or without a decimal point, and within a list. Raises UserError if it is no id.
    """
    while isinstance(value, list):  # AlphaPose lists the id, also within a list
        value = value[0] if value else None
    if isinstance(value, str):
        value = value.strip()
        return None if value in ("", "-1", "nan", "None") else _whole_number(value)
    if value is None or (isinstance(value, float) and math.isnan(value)) or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{where}: expected a number or a name as a person's id, found {describe(value)}")
    return _whole_number(repr(value))


def read_frame_number(entry: object, *, where: str) -> int | None:
    """Returns the number of the frame that an entry says under one of FRAME_KEYS; None if it has none of them."""
    for key in FRAME_KEYS:
        if isinstance(entry, dict) and key in entry:
            return read_whole(entry[key], where=f"{where}: {key}")
    return None


def read_whole(value: object, *, where: str) -> int:
    """Returns a whole number, given as a number or as text. Raises UserError if it is something else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except BAD_VALUE:
        number = math.nan
    if isinstance(value, bool) or not number.is_integer() or abs(number) > 2**53:
        raise UserError(f"{where}: expected a whole number, found {describe(value)}")
    return int(number)


def number_frames(numbers: Sequence[int | None], *, where: str) -> list[int]:
    """Returns the frame number of each entry, which is its place where no entry says a number.

    Raises UserError if some say one and others do not.
    """
    if all(number is None for number in numbers):
        return list(range(len(numbers)))
    for place, number in enumerate(numbers):
        if number is None:
            raise UserError(f"{where}: expected a frame number in every entry, found none in entry {place}")
    return [number for number in numbers if number is not None]


def _whole_number(text: str) -> str:
    """Returns 12.0 as 12, other text as it is."""
    whole, point, rest = text.partition(".")
    return whole if point and whole.lstrip("-").isdigit() and not rest.strip("0") else text


def is_number(value: object) -> bool:
    """Returns whether a value is a number, also as text, or null."""
    try:
        float(value)  # type: ignore[arg-type]
    except BAD_VALUE:
        return value is None
    return True
