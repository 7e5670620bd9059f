"""What the project rests on may be used by everybody, and is the versions that were hashed."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version

import pytest

from tests.end_to_end.licences import ALLOWED, PAGE, REPOSITORY, WRITTEN_WITH, dependencies, licence_of


def test_every_dependency_is_under_a_licence_that_is_allowed() -> None:
    others = {name: licence for name in dependencies() if not ALLOWED.search(licence := licence_of(name))}
    assert not others


@pytest.mark.skipif(sys.version_info[:2] != WRITTEN_WITH, reason="the page is of another Python's packages")
def test_every_dependency_is_on_the_page_with_its_licence() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    missing = [name for name in dependencies() if f"| {name} | {licence_of(name)} |" not in lines]
    assert not missing, "python -m tests.end_to_end.licences writes the page anew"


def test_every_direct_requirement_is_hashed_but_torch() -> None:
    lock = (REPOSITORY / "requirements/base.lock").read_text(encoding="utf-8")
    direct = re.findall(r"^([\w.-]+)==(\S+)", (REPOSITORY / "requirements/base.txt").read_text(encoding="utf-8"), re.M)
    for name, pinned in direct:
        line = f"\n{name.lower()}=={pinned} \\\n    --hash=sha256:"
        assert (line in f"\n{lock}") == (name != "torch"), name
    assert version("numpy") == dict(direct)["numpy"]
