"""Fuzzes every reader of foreign files, steered by coverage: `make fuzz MINUTES=2` is so many minutes for each.

Inputs are made by libFuzzer (atheris) from good files, and each is read under watch (watch.py). What counts as found:
any end other than a result or a refusal in one line, code that runs, a file touched outside the input's folder, more
memory or time than stated. The counts go to docs/reliability/fuzzing.json.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
RECORD = REPOSITORY / "docs" / "reliability" / "fuzzing.json"
INSTRUMENTED = ["pipeline", "cdflib", "yaml", "pickle"]
RESTARTS = 20  # of a reader that ends the process
SECONDS = 2.0  # of processor time for an input; one that takes longer is tried again with as much as watch.py gives
# Texts that a fuzzer seldom makes by chance.
WORDS = (  # as libFuzzer's dictionaries are written
    r"NaN Infinity -Infinity 1e999 -1 0 4294967296 1000000000000 null true [[[[[[[[ {} [] \" \x0a \xff ../ / & * << &a "
    r"!!python/object/apply:os.system *a | --- \x80\x02 cos\x0asystem\x0a c__builtin__\x0aeval\x0a \x85R. PK\x03\x04"
)


def main() -> None:
    """Fuzzes the readers one after the other, each in a process of its own; exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="for each reader")
    parser.add_argument("--only", nargs="+", help="names of readers, added to the record")
    parser.add_argument("--kept", type=Path, help="a folder for the inputs; a later call goes on from them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RECORD)
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    parser.add_argument("--input", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        print(json.dumps(_read_once(options.reader, options.input)))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            record = _fuzz_all(options, options.kept or Path(temporary))
        found = sum(len(reader["found"]) for reader in record["readers"].values())
        raise SystemExit(f"fuzz: {found} found, see {options.out}" if found else 0)


def _fuzz_all(options: argparse.Namespace, kept: Path) -> dict[str, Any]:
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.trials import readers

    date = datetime.now(timezone.utc).date().isoformat()
    record: dict[str, Any] = {
        "python": sys.version.split()[0],
        "atheris": importlib.metadata.version("atheris"),
        "readers": {},
    }
    if options.only and options.out.exists():
        earlier = json.loads(options.out.read_text())["readers"]
        record["readers"] = {name: counts for name, counts in earlier.items() if name in readers.READERS}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.only or readers.READERS:
        folder = kept / re.sub(r"\W", "_", name)
        folder.mkdir(parents=True, exist_ok=True)
        counts = _fuzz_reader(name, folder, seconds=60 * options.minutes, seed=options.seed)
        before = record["readers"].get(name, {})
        for count in ("inputs", "minutes"):
            counts[count] = round(counts[count] + before.get(count, 0), 2)
        record["readers"][name] = {"date": date} | counts
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        found = "; ".join(counts["found"]) or "nothing found"
        print(
            f"{name}: {counts['inputs']} inputs in {counts['minutes']} min, {counts['ways']} ways; {found}", flush=True
        )
    return record


def _fuzz_reader(name: str, folder: Path, *, seconds: float, seed: int) -> dict[str, Any]:
    """Returns the counts of a reader, and what was found: each reason with the hash of an input that shows it."""
    results: dict[str, Any] = {"inputs": 0, "seconds": 0.0, "bad": {}}
    for restart in range(RESTARTS):
        left = seconds - results["seconds"]
        if left < 1:
            break
        before = set(folder.glob("crash-*")) | set(folder.glob("timeout-*"))
        (folder / "counts.json").unlink(missing_ok=True)
        process = os.fork()  # of this one, in which the readers are imported: libFuzzer ends it
        if process == 0:
            with (folder / "log.txt").open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            _fuzz(name, folder, seconds=left, seed=seed + restart)
        os.waitpid(process, 0)
        if not (folder / "counts.json").exists():
            raise SystemExit(f"fuzz: {name}: {(folder / 'log.txt').read_text()[-500:]}")
        counts = json.loads((folder / "counts.json").read_text())
        results["inputs"] += counts["inputs"]
        results["seconds"] += counts["seconds"]
        results["bad"] |= counts["bad"]
        for path in (set(folder.glob("crash-*")) | set(folder.glob("timeout-*"))) - before:
            results["bad"][f"the process ended ({path.name[:12]})"] = path.name
    found = {}
    for why, file in results["bad"].items():
        again = [sys.executable, __file__, "--reader", name, "--input", str(folder / file)]
        answer = subprocess.run(again, capture_output=True, text=True, check=False)
        kind, now = json.loads(answer.stdout) if answer.returncode == 0 else ("bad", f"exit code {answer.returncode}")
        if kind == "bad":
            found[now if answer.returncode == 0 else f"{why}, {now}"] = file
    return {
        "inputs": results["inputs"],
        "minutes": round(results["seconds"] / 60, 2),
        "ways": len(list((folder / "inputs").glob("*"))),
        "found": found,
    }


def _read_once(name: str, path: Path) -> tuple[str, str]:
    from pipeline.system import archives
    from tests.trials import readers, watch

    logging.disable(logging.CRITICAL)
    content = path.read_bytes()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        watch.warm(readers.READERS[name], folder)
        watch.guard()
        watch.limit_memory()
        archives.CPU_S = 3
        return watch.outcome(lambda: readers.READERS[name].read(folder, content), folder)


def _fuzz(name: str, kept: Path, *, seconds: float, seed: int) -> None:
    """Fuzzes a reader in this process, which libFuzzer ends; counts.json in `kept` is up to date to a second."""
    import atheris

    from pipeline.system import archives
    from tests.trials import readers, watch

    # In this process, where its ways are seen; what goes wrong is tried again as it is.
    archives._ask_child = lambda *request: archives._answer(*request)
    watch.SECONDS = SECONDS
    logging.disable(logging.CRITICAL)
    inputs, folder = kept / "inputs", Path(tempfile.mkdtemp())
    inputs.mkdir(exist_ok=True)
    reader = readers.READERS[name]
    for content in watch.warm(reader, folder):
        (inputs / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    (kept / "words").write_text("".join(f'"{word}"\n' for word in WORDS.split()), encoding="utf-8")
    counts: dict[str, Any] = {"inputs": 0, "seconds": 0.0, "bad": {}}
    started = written = time.monotonic()

    def read(content: bytes) -> None:
        nonlocal written
        kind, why = watch.outcome(lambda: reader.read(folder, content), folder)
        counts["inputs"] += 1
        now = time.monotonic()
        if kind == "bad" and (key := why.split(": ")[0]) not in counts["bad"]:
            file = f"bad-{hashlib.sha256(content).hexdigest()[:16]}"
            (kept / file).write_bytes(content)
            counts["bad"][key], written = file, 0.0
        if now - written > 0.5:
            counts["seconds"], written = round(now - started, 1), now
            (kept / "counts.json").write_text(json.dumps(counts))

    watch.guard()
    watch.limit_memory()
    longest = max(4096, 2 * max(path.stat().st_size for path in inputs.iterdir()))
    limits = [f"-max_total_time={seconds:.0f}", f"-seed={seed}", f"-max_len={longest}", "-timeout=60"]
    rest = ["-rss_limit_mb=0", f"-dict={kept / 'words'}", f"-artifact_prefix={kept}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *rest, str(inputs)], read)
    atheris.Fuzz()


def section(record: dict[str, Any]) -> list[str]:
    """Returns the lines of docs/reliability.md that say what was fuzzed."""
    readers = record["readers"].values()
    inputs, minutes = sum(reader["inputs"] for reader in readers), sum(reader["minutes"] for reader in readers)
    found = sum(len(reader["found"]) for reader in readers)
    first, last = (choice(reader["date"] for reader in readers) for choice in (min, max))
    dates = f"on {last}" if first == last else f"from {first} to {last}"
    lines = [
        "## Hostile files",
        "",
        f"`make fuzz` {dates} (Python {record['python']}, atheris {record['atheris']}): {len(readers)} "
        f"readers, {inputs:,} inputs in {minutes:.0f} minutes, steered by coverage; **{found}** left that run code, "
        "touch other files, hang, take more memory than stated, or end in anything but a result or one line. The "
        "minutes are the clock's, on processors that had other work beside it.",
        "",
        "| reader | last fuzzed | inputs | minutes | different ways through it | found |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, reader in record["readers"].items():
        found_here = "; ".join(reader["found"]) or "–"
        cells = [
            name,
            reader["date"],
            f"{reader['inputs']:,}",
            f"{reader['minutes']:.1f}",
            str(reader["ways"]),
            found_here,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
