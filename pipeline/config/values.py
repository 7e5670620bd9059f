"""Base of every group of values that comes from a file: frozen, every key known and of its type, or refused by name."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, ValidationError

from pipeline.system.errors import UserError

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
        expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        if expected.startswith(("greater", "less")):
            expected = f"a number {expected}"
        raise UserError(f"{where}: {key}: expected {expected}, found {first['input']!r}") from error
