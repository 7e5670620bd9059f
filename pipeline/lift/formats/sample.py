"""What the format of an input is recognised by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.system.files import read_json


@dataclass(frozen=True)
class Sample:
    """The names of the files in a folder, or what the first entry of a JSON file holds; each is read when asked for."""

    path: Path

    @cached_property
    def names(self) -> list[str]:
        """The names of the files in the folder; none of a file."""
        return sorted(file.name for file in self.path.iterdir()) if self.path.is_dir() else []

    @cached_property
    def content(self) -> Any:
        """What the JSON file holds; None of a folder."""
        return None if self.path.is_dir() else read_json(self.path)

    @cached_property
    def entry(self) -> Any:
        """The first entry of the file's list, or of the first list in it that is not empty; else the whole content."""
        entry = self.content
        while isinstance(entry, list) and entry:
            entry = next((part for part in entry if part), entry[0])
        return entry

    def has_file(self, ending: str) -> bool:
        """Returns whether a file in the folder has a name with that ending."""
        return any(name.endswith(ending) for name in self.names)

    def has(self, *keys: str) -> bool:
        """Returns whether the file is an object with one of these keys."""
        return isinstance(self.content, dict) and any(key in self.content for key in keys)

    def entry_has(self, *keys: str) -> bool:
        """Returns whether the first entry is an object with one of these keys."""
        return isinstance(self.entry, dict) and any(key in self.entry for key in keys)

    def entry_has_object(self, key: str) -> bool:
        """Returns whether the first entry has an object under that key."""
        return isinstance(self.entry, dict) and isinstance(self.entry.get(key), dict)
