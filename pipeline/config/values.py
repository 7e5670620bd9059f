"""Base of every group of values that comes from a file: frozen, every key known and of its type, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, ValidationError
from pydantic_core import ErrorDetails

from pipeline.system.errors import UserError

# What pydantic says in words of Python, or at length, by its name of the complaint.
IN_PLAIN_WORDS = {"tuple_type": "a list", "too_short": "at least one entry", "float_parsing": "a number"}

Count = Annotated[StrictInt, Field(ge=1)]


def _not_boolean(value: object) -> object:
    if isinstance(value, bool):  # which pydantic takes for 0.0 or 1.0
        raise ValueError("a number")
    return value


Number = Annotated[float, BeforeValidator(_not_boolean)]
Positive = Annotated[Number, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[Number, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=0, lt=1)]


class Values(BaseModel):
    """Base of every group of parameters: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


V = TypeVar("V", bound=BaseModel)


def validated(kind: type[V], values: object, *, where: str) -> V:
    """`values` as a `kind`. Raises UserError naming the first key that is unknown, missing or bad."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        complaints = error.errors()
        first = next((one for one in complaints if one["type"] == "extra_forbidden"), complaints[0])
        key = ".".join(str(part) for part in first["loc"]) or "content"
        if first["type"] == "extra_forbidden":
            raise UserError(f"{where}: {key}: unknown key, found value {first['input']!r}") from error
        if first["type"] == "missing":
            raise UserError(f"{where}: {key}: expected a value, found none") from error
        key = _key_in(values, first["loc"])
        expected = [_expectation(one) for one in complaints if _key_in(values, one["loc"]) == key]
        text = f"expected {' or '.join(dict.fromkeys(expected))}, found {first['input']!r}"
        raise UserError(f"{where}: {key or 'content'}: {text}") from error


def _key_in(values: object, place: Sequence[str | int]) -> str:
    """Returns the keys of a place; pydantic adds which of several kinds it tried a value as."""
    keys = []
    for part in place:
        is_key = isinstance(values, Mapping) and part in values
        is_number = isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
        if not (is_key or is_number):
            break
        keys.append(str(part))
        values = values[part]  # type: ignore[index]
    return ".".join(keys)


def _expectation(complaint: ErrorDetails) -> str:
    """Returns what pydantic expected, to be said after that word."""
    if complaint["type"] in IN_PLAIN_WORDS:
        return IN_PLAIN_WORDS[complaint["type"]]
    expected = complaint["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"a number {expected}" if expected.startswith(("greater", "less")) else expected
