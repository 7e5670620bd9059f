"""The suite on other versions of Python: `make pythons PYTHONS="python3.10 python3.13"`, the oldest and the newest.

Each gets a fresh clone, in which `make data` sets up the pinned versions with their hashes, and runs all tests there.
The counts go to docs/reliability/pythons.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

REPOSITORY = Path(__file__).parents[2]
RECORD = REPOSITORY / "docs" / "reliability" / "pythons.json"
COUNTED = ("passed", "skipped", "failed", "error")
VERSIONS = "import platform, torch; print(platform.python_version(), torch.__version__)"


def suite(python: str, folder: Path, without: Sequence[str]) -> dict[str, Any]:
    """Returns versions of Python and torch and counts of tests, of a clone in the new folder `folder`."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    subprocess.run(["make", "--quiet", "data", f"PYTHON={python}"], cwd=folder, check=True)
    return counts(str(folder / ".venv" / "bin" / "python"), folder, without)


def counts(python: str, folder: Path, without: Sequence[str]) -> dict[str, Any]:
    """Returns the same of an environment that is set up, but for the files of tests `without`."""
    asked = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True)
    version, torch = asked.stdout.split()
    started = time.monotonic()
    environment = os.environ | {"PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"}
    left_out = [f"--ignore-glob=*/test_{name}.py" for name in without]
    tests = [python, "-m", "pytest", "-n", str(os.cpu_count()), "-rfEs", *left_out]
    answer = subprocess.run(tests, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = round(time.monotonic() - started)
    return {
        "python": version,
        "torch": torch,
        "exit_code": answer.returncode,
        "seconds": seconds,
        **said(answer.stdout),
    }


def said(output: str) -> dict[str, Any]:
    """Returns what pytest says in the end: how many passed, and why some did not."""
    lines = output.splitlines()
    last = next(line for line in reversed(lines) if re.search(r"\d+ (passed|failed|error)", line))
    found = {name: int(number) for number, name in re.findall(r"(\d+) (passed|skipped|failed|error)", last)}
    return {name: found.get(name, 0) for name in COUNTED} | {
        "not_passed": [line for line in lines if re.match(r"(FAILED|ERROR|SKIPPED) ", line)]
    }


def section(record: dict[str, Any]) -> list[str]:
    """Returns the lines of docs/reliability.md about other Pythons."""
    lines = [
        "## Versions of Python",
        "",
        f"`make pythons`, {record['date']}: the suite in environments with the pinned versions. The oldest is the",
        "oldest that the project supports, the newest the newest for which the pinned numpy, scipy and h5py are built.",
        "",
        "| Python | torch | passed | skipped | failed |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in record["tried"]:
        cells = (one["python"], one["torch"], one["passed"], one["skipped"], one["failed"] + one["error"])
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    for one in record["tried"]:
        if one.get("since"):
            lines += ["", *wrap(f"Python {one['python']}: {one['since']}", 118)]
    if left_out := sorted({name for one in record["tried"] for name in one["without"]}):
        lines += ["", *wrap(f"Left out: the tests of {', '.join(left_out)}.", 118)]
    return lines


def main() -> None:
    """Runs the suite on the Pythons named; exit code 1 if a test fails on one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="+", help="their commands")
    parser.add_argument("--without", nargs="*", default=[], help="files of tests to leave out: docs for test_docs.py")
    options = parser.parse_args()
    tried = []
    for python in options.pythons:
        with tempfile.TemporaryDirectory() as name:
            tried.append(suite(python, Path(name) / "clone", options.without))
        print(json.dumps(tried[-1]), flush=True)
    record = {"date": time.strftime("%Y-%m-%d"), "tried": tried}
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if any(one["exit_code"] for one in tried):
        raise SystemExit(f"pythons: not every test passed, see {RECORD}")


if __name__ == "__main__":
    main()
