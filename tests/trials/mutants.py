"""Do the tests notice a wrong number? One small change at a time in the modules that make numbers: `make mutants`.

Cosmic Ray makes the changes (the mutants); the tests of the changed module run on each, in a copy of the project and a
process of its own, and have to fail. The record goes to docs/reliability/mutants.json.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import gc
import hashlib
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[2]
RECORD = REPOSITORY / "docs" / "reliability" / "mutants.json"
TESTS = {
    "pipeline/poses/metrics.py": ("tests/poses/test_metrics.py",),
    "pipeline/poses/geometry.py": ("tests/poses/test_geometry.py",),
    "pipeline/poses/windows.py": ("tests/poses/test_windows.py", "tests/poses/test_scored_frames.py"),
}
# Arithmetic on bits fails on any float: such mutants would only polish the score. `is` between numbers means nothing.
LEFT_OUT = re.compile(
    r"core/ReplaceBinaryOperator_(\w+_([LR]Shift|BitXor)|Bit\w+_(?!Bit)\w+|(?!Bit)\w+_Bit\w+)"
    r"|core/ReplaceComparisonOperator_(?!Is)\w+_Is(Not)?"
)
COPIED = ("pipeline", "models", "experiments", "tests")
CPU_LIMIT_S = 30
WALL_LIMIT_S = 3600  # for what waits; a busy machine must not pass for a test that fails
MEMORY_LIMIT_BYTES = 16 << 30
LOADED = ("numpy", "torch", "einops", "scipy", "scipy.spatial.transform", "pydantic", "yaml", "safetensors.torch")
LOADED += ("pydantic.main", "beartype.vale", "einops._torch_specific", "torch.distributed.tensor", "h5py", "cdflib")
LOADED += ("torch.fx.experimental.symbolic_shapes", "scipy.optimize")
LOADED += ("pytest", "hypothesis", "hypothesis.strategies", "hypothesis.extra.numpy", "jaxtyping", "beartype", "xdist")
# What no test can notice: lines before and after, and why the result is the same.
SAME = {
    (
        "handedness = np.sign(np.linalg.det(left) * np.linalg.det(right))",
        "handedness = np.sign(np.linalg.det(left) / np.linalg.det(right))",
    ): "both determinants are 1 or -1",
    (
        '_refuse(power == 0, "the prediction is zero for every joint, expected a pose that can be scaled")',
        '_refuse(power <= 0, "the prediction is zero for every joint, expected a pose that can be scaled")',
    ): "a sum of squares is not negative",
    (
        "if errors_mm.size == 0 or np.isnan(errors_mm).any():",
        "if errors_mm.size <= 0 or np.isnan(errors_mm).any():",
    ): "a size is not negative",
    (
        '"mpjve_mm": Score(float(velocity_mm.mean()) * frames, frames) if frames > 1 else Score(0.0, 0),',
        '"mpjve_mm": Score(float(velocity_mm.mean()) * frames, frames) if frames != 1 else Score(0.0, 0),',
    ): "poses without frames were refused before",
    (
        "if len({frozenset(scores) for scores in clips}) > 1:",
        "if len({frozenset(scores) for scores in clips}) != 1:",
    ): "having no clips was refused before",
    (
        "signs = np.stack([np.ones_like(handedness), np.ones_like(handedness), handedness], axis=-1)",
        "signs = np.stack([np.ones_like(handedness), np.ones_like(handedness), handedness], axis=+1)",
    ): "the last axis is the second",
    (
        "signs = np.stack([np.ones_like(handedness), np.ones_like(handedness), handedness], axis=-1)",
        "signs = np.stack([np.ones_like(handedness), np.ones_like(handedness), handedness], axis=1)",
    ): "the last axis is the second",
    (
        "key: _mean_over_frames([scores for scores, clip_key in zip(clips, keys, strict=True) if clip_key == key])",
        "key: _mean_over_frames([scores for scores, clip_key in zip(clips, keys, strict=False) if clip_key == key])",
    ): "other numbers of keys were refused before",
    (
        "return {metric: pool(metric).mean for metric in clips[0]}",
        "return {metric: pool(metric).mean for metric in clips[ -1]}",
    ): "all clips have the same metrics",
    (
        "if np.linalg.norm(forward[:2]) < 1e-9 * np.linalg.norm(forward) or not forward.any():",
        "if np.linalg.norm(forward[:2]) <= 1e-9 * np.linalg.norm(forward) or not forward.any():",
    ): "it differs where both are zero, which the other condition refuses",
    (
        "source, sign, place = (tensor.to(values.device, non_blocking=True) for tensor in (source, sign, place))",
        "source, sign, place = (tensor.to(values.device, non_blocking=False) for tensor in (source, sign, place))",
    ): "says only whether a GPU is waited for",
    (
        "return values[..., skeleton.mirrored, :] * sign",
        "return values[..., skeleton.mirrored, :] / sign",
    ): "a sign is 1 or -1",
    (
        "sign = 1.0 - 2.0 * (place % coordinates == 0)",
        "sign = 1.0 - 2.0 * (place % coordinates <= 0)",
    ): "a remainder is not negative",
    (
        "return marked & (since_start % step == 0)",
        "return marked & (since_start % step <= 0)",
    ): "a remainder is not negative",
    (
        "last = counts.cumsum(0) - 1",
        "last = counts.cumsum( -1) - 1",
    ): "the last axis is the first",
    (
        "number = torch.arange(len(clip), device=count.device) - (count.cumsum(0) - count)[clip]",
        "number = torch.arange(len(clip), device=count.device) - (count.cumsum( -1) - count)[clip]",
    ): "the last axis is the first",
    (
        "before = scored.cumsum(0) - scored",
        "before = scored.cumsum( -1) - scored",
    ): "the last axis is the first",
    (
        "up = forward.new_tensor([0.0, 0.0, 1.0]).expand_as(forward)",
        "up = forward.new_tensor([0.0, 0.0, 2.0]).expand_as(forward)",
    ): "only its direction counts",
    (
        "if balance == 0:",
        "if balance <= 0:",
    ): "params.yaml with a balance below 0 is refused",
    (
        "if fraction < 1:",
        "if fraction <= 1:",
    ): "the stretch of a whole clip leaves no frame out",
    (
        "mirrored = flat.gather(2, torch.where(each, source, place).expand(flat.shape)) * torch.where(each, sign, 1.0)",
        "mirrored = flat.gather(2, torch.where(each, source, place).expand(flat.shape)) / torch.where(each, sign, 1.0)",
    ): "a sign is 1 or -1",
    (
        "if fraction < 1:",
        "if fraction < 2:",
    ): "the stretch of a whole clip leaves no frame out",
    (
        "if fraction < 1:",
        "if fraction != 1:",
    ): "a stretch is not longer than the clip",
    (
        'def every_nth(table: FrameTable, step: int, *, fraction: float = 1.0) -> Bool[Tensor, " N"]:',
        'def every_nth(table: FrameTable, step: int, *, fraction: float = 2.0) -> Bool[Tensor, " N"]:',
    ): "from 1 on every frame is counted",
}


class Mutant(NamedTuple):
    """The code of a module after one change: `before` and `after` are the lines that differ."""

    operator: str
    place: int  # among those where the operator can change something
    line: int
    before: str
    after: str
    code: str


def changes(module: str) -> list[tuple[str, int]]:
    """Operators, and the places of each, that change something in a module."""
    from cosmic_ray import plugins  # not needed by whoever only writes the page
    from cosmic_ray.ast import ast_nodes, get_ast

    tree = get_ast((REPOSITORY / module).read_text(encoding="utf-8"))
    nodes = list(ast_nodes(tree))
    found = []
    for name in plugins.operator_names():
        operator_class = plugins.get_operator(name)
        if LEFT_OUT.fullmatch(name) or operator_class.arguments():
            continue
        operator = operator_class()
        places = sum(len(list(operator.mutation_positions(node))) for node in nodes)
        found += [(name, place) for place in range(places)]
    return found


def mutant_of(module: str, operator: str, place: int) -> Mutant | None:
    """The module after the change; None if that changes annotations alone, or makes no Python."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    code = (REPOSITORY / module).read_text(encoding="utf-8")
    mutated = mutate_code(code, plugins.get_operator(operator)(), place)
    if mutated is None or behaviour(mutated) in (None, behaviour(code)):
        return None
    lines = [line for line in difflib.ndiff(code.splitlines(), mutated.splitlines()) if line[0] in "-+"]
    before, after = (" ".join(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")
    both = enumerate(zip_longest(code.splitlines(), mutated.splitlines()), 1)
    number = next(number for number, (one, other) in both if one != other)
    return Mutant(operator, place, number, before, after, mutated)


def behaviour(code: str) -> str | None:
    """What of the code is executed: its syntax without annotations and `*` among arguments; None if it is no Python."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            own = node.args
            own.args, own.posonlyargs, own.kwonlyargs = [*own.posonlyargs, *own.args, *own.kwonlyargs], [], []
            own.defaults, own.kw_defaults = [*own.defaults, *(value for value in own.kw_defaults if value)], []
            node.returns = None
        elif isinstance(node, (ast.arg, ast.AnnAssign)):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def tested(folder: Path, tests: tuple[str, ...]) -> None:
    """Run the tests in the project in `folder`, in the process that this is, and end it with their exit code."""
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    sys.path.insert(0, str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] in COPIED]:
        del sys.modules[name]  # those of the repository, such as this one's package
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import pytest
    from hypothesis import Phase, settings

    quick = {"max_examples": 20, "phases": (Phase.explicit, Phase.generate)}
    settings.register_profile("mutants", derandomize=True, database=None, deadline=None, **quick)
    settings.load_profile("mutants")
    options = ["-x", "-q", "--tb=no", "--noconftest", "-p", "no:cacheprovider", "-p", "jaxtyping._pytest_plugin"]
    os._exit(int(pytest.main([*options, *tests])))


def survives(folder: Path, tests: tuple[str, ...]) -> bool:
    """Whether the tests pass, and in time, in the project in `folder`."""
    process = multiprocessing.get_context("fork").Process(target=tested, args=(folder, tests))
    process.start()
    process.join(WALL_LIMIT_S)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode == 0


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of what the tests of the modules need."""
    with tempfile.TemporaryDirectory() as name:
        for part in COPIED:
            shutil.copytree(REPOSITORY / part, Path(name) / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "pyproject.toml", name)
        yield Path(name)


def tried(
    module: str, chosen: Iterable[tuple[str, int]], folder: Path, *, cpu_minutes: float, begin: int = 0
) -> tuple[int, list[dict[str, Any]], bool]:
    """How many mutants were tried, those from `begin` on that no test noticed, and whether the time allowed all."""
    path, before = folder / module, (folder / module).read_bytes()
    if not survives(folder, TESTS[module]):
        raise SystemExit(f"mutants: the tests of {module} fail on what is there")
    number, unnoticed, begin_s, whole = 0, [], cpu_s(), True
    for operator, place in chosen:
        if number >= begin and cpu_s() - begin_s > 60 * cpu_minutes:
            whole = False
            break
        mutant = mutant_of(module, operator, place)
        if mutant is None:
            continue
        number += 1
        if number <= begin:
            begin_s = cpu_s()
            continue
        path.write_text(mutant.code, encoding="utf-8")
        os.utime(path, (number, number))  # by which Python knows whether what it compiled is of this file
        if survives(folder, TESTS[module]):
            unnoticed.append({key: value for key, value in mutant._asdict().items() if key != "code"})
            print(module, number, json.dumps(unnoticed[-1]), flush=True)
    path.write_bytes(before)
    return number, unnoticed, whole


def cpu_s() -> float:
    """Seconds that this process and its children have computed."""
    return sum(os.times()[:4])


def record_of(module: str, *, cpu_minutes: float, seed: int, before: dict[str, Any] | None, on: bool) -> dict[str, Any]:
    """What came of the mutants of a module, in seeded order, as many as the time allows.

    With `before`, the record of the same module under the same tests or fewer, only what was not noticed is tried
    again, or (`on`) only what was not tried yet.
    """
    sha256 = hashlib.sha256((REPOSITORY / module).read_bytes()).hexdigest()
    possible = changes(module)
    seed = before["seed"] if before is not None and on else seed
    chosen = random.Random(seed).sample(possible, len(possible))
    if before is not None:
        if before["sha256"] != sha256:
            raise SystemExit(f"mutants: {module} has changed since, try them all")
        if not on:
            chosen = [(one["operator"], one["place"]) for one in before["unnoticed"]]
    for needed in LOADED:
        importlib.import_module(needed)
    gc.freeze()  # so that no process looks through what all of them share
    with copied() as folder:
        begin = before["tried"] if before is not None and on else 0
        number, unnoticed, all_tried = tried(module, chosen, folder, cpu_minutes=cpu_minutes, begin=begin)
    if before is not None and on:
        unnoticed = [*before["unnoticed"], *unnoticed]
    whole = number if before is None or on else before["tried"]
    same = [one | {"because": SAME[key]} for one in unnoticed if (key := (one["before"], one["after"])) in SAME]
    survivors = [one for one in unnoticed if (one["before"], one["after"]) not in SAME]
    noticed = whole - len(unnoticed)
    return {
        "sha256": sha256,
        "seed": seed,
        "possible": len(possible),
        "tried": whole,
        "all_tried": all_tried if before is None or on else before["all_tried"],
        "noticed": noticed,
        "same_result": len(same),
        "survived": len(survivors),
        "score": round(100 * noticed / (noticed + len(survivors)), 1),
        "unnoticed": [*survivors, *same],
    }


def section(record: dict[str, Any]) -> list[str]:
    """Of docs/reliability.md."""
    modules = record["modules"]
    noticed, survived = (sum(one[key] for one in modules.values()) for key in ("noticed", "survived"))
    said = (
        f"`make mutants`, {record['date']}: {record['tool']} changes one operator, number, comparison or condition at "
        "a time in the modules that make numbers, and the tests of the module run on each. Left out are changes of "
        "annotations, and arithmetic replaced by operations on bits, which fails at once. The tests noticed "
        f"**{100 * noticed / (noticed + survived):.1f} %** of those that change a result. What they did not notice is "
        "in [mutants.json](reliability/mutants.json), with the reason where the result is the same."
    )
    if not all(one["all_tried"] for one in modules.values()):
        said += " Where the time did not allow all changes, those tried were drawn."
    lines = [
        "## Changes to a formula that no test would notice",
        "",
        *wrap(said, 118),
        "",
        "| module | tried | noticed | survived | same result | score in % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in modules.items():
        number = one["tried"] if one["all_tried"] else f"{one['tried']}, drawn"
        cells = (name, number, one["noticed"], one["survived"], one["same_result"], one["score"])
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> None:
    """Try the mutants and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--cpu-minutes", type=float, default=20.0, help="for each module; the order is drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--again", action="store_true", help="only what was not noticed the last time")
    which.add_argument("--on", action="store_true", help="only what the time did not allow the last time")
    parser.add_argument("--out", type=Path, default=RECORD, help="the record; modules that are not tried stay in it")
    options = parser.parse_args()
    record = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {"modules": {}}
    for module in options.modules:
        before = record["modules"][module] if options.again or options.on else None
        record["modules"][module] = record_of(
            module, cpu_minutes=options.cpu_minutes, seed=options.seed, before=before, on=options.on
        )
        record |= {"date": time.strftime("%Y-%m-%d"), "tool": f"Cosmic Ray {importlib.metadata.version('cosmic_ray')}"}
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
