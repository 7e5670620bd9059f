"""docs/licences.md: the licence of each dependency. `python -m tests.end_to_end.licences` writes it."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "licences.md"
WRITTEN_WITH = (3, 11)  # other Pythons get other versions of some packages, and some packages besides
# Words of licences under which something may be used by everybody for everything, and linked with.
ALLOWED = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|HPND|Zlib|Unlicense|CC0|0BSD|"
    r"LGPL|Lesser General Public|linking exception|EPL|Zope|Public Domain",
)
# Two that may be chosen between, which the metadata do not say in a way that can be read.
STATED = {"asyncssh": "EPL-2.0 OR GPL-2.0-or-later", "grandalf": "GPL-2.0 OR EPL-1.0"}


def dependencies() -> list[str]:
    """Returns the packages of requirements/base.lock that this Python and system ask for, and torch, if installed."""
    lock = (REPOSITORY / "requirements/base.lock").read_text(encoding="utf-8")
    pinned = [Requirement(line) for line in re.findall(r"^([a-z0-9][^\\\n]*)\\$", lock, re.MULTILINE)]
    names = {pin.name for pin in pinned if pin.marker is None or pin.marker.evaluate()} | {"torch"}
    return sorted(name for name in names if _installed(name))


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def licence_of(name: str) -> str:
    """What the package's metadata say, in one line: the expression, else the classifiers, else the licence's name."""
    if name in STATED:
        return STATED[name]
    metadata = distribution(name).metadata
    classifiers = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if "License ::" in line]
    stated = metadata.get("License-Expression") or ", ".join(classifiers) or (metadata.get("License") or "").strip()
    return " ".join(stated.split("\n")[0].split()) or "none stated"


def page() -> str:
    """The list of all dependencies."""
    version = ".".join(map(str, WRITTEN_WITH))
    lines = ["# Licences", "", f"Of what `make setup` installs with Python {version}, as the packages state them;"]
    lines += ["written by `python -m tests.end_to_end.licences`.", "", "| package | licence |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {licence_of(name)} |" for name in dependencies())]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
