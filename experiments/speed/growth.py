"""How the time and memory of every stage and of DVC grow with the data and with the rows of the table.

The data are every twentieth take of params.yaml, and 10 and 100 times as many, each time of other people; the rows are
copies of one under other names. Everything lies in a temporary folder, and every command is a process of its own. How
lifting grows is measured by `lift_speed`.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from einops import rearrange

from experiments.speed.machine import describe_machine
from pipeline.config.params import load_params
from pipeline.mocap.people import draw_people
from pipeline.mocap.takes import Take
from pipeline.prepare_data.motion_capture import COLUMNS, read_takes
from pipeline.system.files import write_json, write_text
from pipeline.visualization.tables import markdown_table

log = logging.getLogger(__name__)

REPOSITORY = Path(__file__).parents[2]
COPIED = ("pipeline", "models", "dvc.yaml", ".dvcignore", ".gitignore", "reports/published.csv", "reports/rows.yaml")
ROW = "mocap-gt-f27-rayformer"
TIMES, EVERY_TAKE = (1, 10, 100), 20
ROWS = (2, 10, 50)
# One run of ten steps: an epoch is so many windows whatever the data.
TRAINING = {"epochs": 1, "windows_per_epoch": 1920, "batch_windows": 192}
PREPARED, CHECKPOINTS = f"data/prepared/{ROW}", f"data/checkpoints/{ROW}"
STAGES = {
    "prepare_data": f"python -m pipeline prepare_data {ROW} {PREPARED}",
    "train, ten steps": f"python -m pipeline train {PREPARED} {CHECKPOINTS}/run0 --seed 0",
    "evaluate_5runs, one run": f"python -m pipeline evaluate_5runs {PREPARED} {CHECKPOINTS}",
    "report": "python -m pipeline report",
    "dvc commit": "dvc commit --force --quiet",
    "dvc status": "dvc status --quiet",
}
# A small process that starts the command: its peak memory would begin with that of the process that starts it.
MEASURED = """
import json, os, sys
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(child, 0)
seconds, megabytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
print(json.dumps({"cpu_s": round(seconds, 2), "peak_memory_mb": round(megabytes)}))
sys.exit(min(os.waitstatus_to_exitcode(status), 1) % 256)
"""
OF_ROWS = ("report", "dvc commit", "dvc status")
Number = int | float
Costs = dict[str, list[dict[str, Number]]]


def growth(out: Path) -> None:
    """Writes what each command costs with TIMES as much data, and with ROWS rows: growth.json and growth.md in `out`.

    Raises UserError if the motion capture of params.yaml is missing.
    """
    machine = describe_machine(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        frames, of_data = _measure_data(Path(name))
        of_rows = _measure_rows(Path(name) / f"data{TIMES[0]}")
    found = {"machine": machine, "row": ROW, "frames": frames, "data": of_data, "rows": of_rows}
    write_json(out / "growth.json", found)
    write_text(out / "growth.md", page(found))


def _measure_data(folder: Path) -> tuple[dict[str, list[int]], Costs]:
    raw = [
        REPOSITORY / "data" / "raw" / name for name in load_params(REPOSITORY / "params.yaml").datasets.mocap.folders
    ]
    takes = [take for source in raw for take in read_takes(source)][::EVERY_TAKE]
    frames: dict[str, list[int]] = {"takes": [], "raw": []}
    costs = Costs()
    for times in TIMES:
        log.info("%d times the data", times)
        project = folder / f"data{times}"
        write_project(project)
        write_takes(takes, project / "data" / "raw" / "grown", times=times)
        for kind, command in STAGES.items():
            costs.setdefault(kind, []).append(measure_command(command, project))
        frames["takes"].append(len(takes) * times)
        frames["raw"].append(sum(map(len, takes)) * times)
    return frames, costs


def _measure_rows(project: Path) -> Costs:
    """Returns the costs of DVC and of the report in a project that has one row, and then more and more."""
    costs, listed = Costs(), (project / "dvc.yaml").read_text(encoding="utf-8")
    first = next(line for line in listed.splitlines(keepends=True) if line.lstrip().startswith('- "${dataset}'))
    for count in ROWS:
        log.info("%d rows", count)
        names = [ROW.replace("f27", f"f{27 + 2 * number}") for number in range(1, count)]
        for name in names:
            copy_row(project, name)
        more = "".join(first[: first.index("-")] + f"- {name}\n" for name in names)
        (project / "dvc.yaml").write_text(listed.replace(first, first + more), encoding="utf-8")
        for kind in OF_ROWS:
            costs.setdefault(kind, []).append(measure_command(STAGES[kind], project))
    return costs


def write_project(folder: Path) -> None:
    """Writes the project with one row, of one short run, into a new folder, as a repository of its own."""
    for name in COPIED:
        source, target = REPOSITORY / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target, follow_symlinks=False)
    stages = (folder / "dvc.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in stages if not line.lstrip().startswith("- mocap-"))
    (folder / "dvc.yaml").write_text(kept, encoding="utf-8")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params |= {"dataset": "mocap", "keypoints": "gt", "frames": 27, "model": "rayformer", "seeds": [0]}
    params |= {"threads": 1, "device": "cpu"}
    params["datasets"]["mocap"] |= {"folders": ["grown"], **TRAINING}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    for command in ("git init --quiet", "dvc init --quiet"):
        measure_command(command, folder)


def write_takes(takes: Sequence[Take], folder: Path, *, times: int) -> None:
    """Writes a folder of motion capture: the takes as they are, and again as other people until it has them `times`."""
    folder.mkdir(parents=True)
    write_json(folder / "skeleton.json", {"unit_mm": 1000, "up": "z"})
    generator = torch.Generator().manual_seed(0)
    lines = []
    for copy in range(times):
        arrays: dict[str, Any] = {}
        for take in takes:
            joints_m = rearrange(torch.from_numpy(take.joints_world_m).float(), "f j x -> j x f 1")
            name = f"{take.name}-{copy}"
            other_m = draw_people(joints_m, 1.0, generator) if copy else joints_m
            arrays[name] = rearrange(other_m, "j x f 1 -> f j x").numpy()
            person = f"{take.subject}-{copy}"
            lines.append((name, f"{copy}.npz", person, take.action, take.split, take.rate_hz))
        np.savez(folder / f"{copy}.npz", **arrays)
    with (folder / "takes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *lines])


def copy_row(project: Path, name: str) -> None:
    """Copies all that belongs to the project's row, under the name of another."""
    for path in [path for part in ("data", "reports") for path in (project / part).rglob(f"*{ROW}*")]:
        for source in [path] if path.is_file() else [inside for inside in path.rglob("*") if inside.is_file()]:
            target = Path(str(source).replace(ROW, name))
            target.parent.mkdir(parents=True, exist_ok=True)
            content = source.read_bytes()
            target.write_bytes(content.replace(ROW.encode(), name.encode()) if source.suffix != ".npy" else content)


def measure_command(command: str, folder: Path) -> dict[str, Number]:
    """Returns the processor's seconds and the peak memory of a command in a folder.

    Raises RuntimeError with what it said if it fails.
    """
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = os.environ | {
        "PATH": programs,
        "WANDB_MODE": "disabled",
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
    }
    variables["DVC_SITE_CACHE_DIR"] = str(folder / ".of_dvc")
    words = [sys.executable, "-S", "-c", MEASURED, *shlex.split(command)]
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    measured: dict[str, Number] = json.loads(done.stdout)
    return measured


def exponent(costs: Sequence[Number], sizes: Sequence[Number]) -> float | None:
    """Returns k of the growth a + b n^k that goes through three costs, whose sizes n grow by the same factor.

    None where the costs grow by less than a tenth of the least, which is noise.
    """
    least, middle, most = costs
    if most < 1.1 * least or middle <= least or most <= middle:
        return None
    factor = sizes[1] / sizes[0]
    return math.log((most - least) / (middle - least) - 1, factor)


def page(found: Mapping[str, Any]) -> str:
    """Returns Markdown of what was measured."""
    machine, frames = found["machine"], found["frames"]
    counts = [f"{takes} takes of {raw} frames" for takes, raw in zip(frames["takes"], frames["raw"], strict=True)]
    parts = [
        "# Growth",
        f"Written by `python -m experiments growth` on {machine['date']}: {machine['processor']}, one thread, torch "
        f"{machine['torch']}, load {machine['load']} at the start. Every command is a process of its own, whose "
        "seconds on the processor and peak memory these are, Python's start and imports among them. n is the exponent "
        "of a + b sizeⁿ through the three figures; – where they do not grow.",
        f"## With the data: {', '.join(counts)}",
        _costs_table(found["data"], TIMES, "times"),
        "## With the rows",
        _costs_table(found["rows"], ROWS, "rows"),
    ]
    return "\n\n".join(parts) + "\n"


def _costs_table(costs: Costs, sizes: Sequence[int], unit: str) -> str:
    kinds = {"cpu_s": "s", "peak_memory_mb": "MB"}
    header = [
        "",
        *(h for sign in kinds.values() for h in (*(f"{sign}, {size} {unit}" for size in sizes), f"n of {sign}")),
    ]
    lines = []
    for command, measured in costs.items():
        cells = []
        for kind in kinds:
            values = [one[kind] for one in measured]
            power = exponent(values, sizes)
            cells += [*(f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values)]
            cells.append("–" if power is None else f"{max(power, 0):.1f}")
        lines.append([command, *cells])
    return markdown_table(header, lines)
