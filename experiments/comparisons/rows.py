"""rows.yaml -> the rows of the comparisons: what differs from params.yaml, the groups they stand in, the words."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from pipeline.config.params import merged
from pipeline.config.rows import parse_row
from pipeline.config.values import Values, validated
from pipeline.system.files import read_yaml, write_json


class Group(Values):
    """Rows that are compared with the row `reference`, which was trained with the same seeds."""

    title: str
    text: str
    reference: str


class ComparedRow(Values):
    """A row in words, the groups it stands in, and its changes to the recipe and to the model's hyperparameters."""

    words: str
    groups: tuple[str, ...]
    recipe: dict[str, object]
    model: dict[str, object]


class Comparisons(Values):
    """The whole of rows.yaml. `common` are changes to params.yaml that hold for all rows."""

    common: dict[str, object]
    groups: dict[str, Group]
    rows: dict[str, ComparedRow]

    @model_validator(mode="after")
    def _names_are_known(self) -> Comparisons:
        for name, group in self.groups.items():
            if name not in getattr(self.rows.get(group.reference), "groups", ()):
                raise ValueError(f"a row of group {name} as its reference, not '{group.reference}'")
        for row, entry in self.rows.items():
            if unknown := sorted(set(entry.groups) - set(self.groups)):
                raise ValueError(f"groups of {row} among {', '.join(self.groups)}, not '{unknown[0]}'")
        return self

    def rows_of(self, group: str) -> dict[str, ComparedRow]:
        """Returns the rows of a group without its reference."""
        reference = self.groups[group].reference
        return {row: entry for row, entry in self.rows.items() if group in entry.groups and row != reference}


def read_comparisons(path: Path) -> Comparisons:
    """Returns the content of rows.yaml. Raises UserError that names the first wrong key."""
    return validated(Comparisons, read_yaml(path), where=str(path))


def write_params(row: str, comparisons: Comparisons, path: Path, *, extends: Path) -> None:
    """Writes the parameters of a row to `path`: those of the file `extends`, and what differs for the row."""
    entry, model = comparisons.rows[row], parse_row(row).model
    changes = {"datasets": {"mocap": {"for_model": {model: entry.recipe}}}, "models": {model: entry.model}}
    write_json(path, {"extends": str(extends.resolve()), **merged(comparisons.common, changes)})
