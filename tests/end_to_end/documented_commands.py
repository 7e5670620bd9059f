"""The commands of the documentation: where they stand, which a test runs, which not and why, and what they need."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PROGRAMS = {"poselift", "dvc", "make", "wandb", "pip", "python"}

# Not run by tests/end_to_end/test_docs.py: how such a command begins, and why. Each must be in the documentation.
NOT_RUN = {
    "make test": "runs the tests; .ci/run does",
    "make check": "needs the tools of the whole repository; .ci/run does",
    "make mishaps": "minutes; .ci/run does",
    "make stories": "runs these commands; .ci/run does",
    ".ci/run": "is what runs the tests",
    "make fuzz": "an hour",
    "make torture": "an hour",
    "make mutants": "an hour",
    "make pythons": "gigabytes of packages",
    "make blender": "a gigabyte of packages",
    "make wheel": "gigabytes of packages",
    "make fixtures": "minutes; the commands of docs/datasets are run on the same made-up files",
    "python -m experiments bench": "ten minutes and more; tests/experiments/test_bench.py runs its parts",
    "python -m experiments growth": "many minutes; tests/experiments/test_growth.py runs its parts",
    "dvc exp run -S model=rayformer_large -S frames=243 -S device=cuda": "needs a GPU",
    "wandb sweep": "needs an account; test_wandb_online.py runs it, and its agent, with a stand-in of the server",
    "wandb agent": "needs an account",
    "poselift dashboard --entity": "needs an account",
    "pip install": "would change what the tests run in; setup and .ci/run install from the same files",
    "make video": "installs MediaPipe, which is optional, and downloads 36 MB more",
    "poselift lift clip.mp4": "needs MediaPipe",
    "pip wheel": "test_wheel.py builds the wheel",
    "poselift fetch": "test_wheel.py runs it, outside of a repository",
    "sbatch": "needs SLURM; python -m tests.trials.slurm runs it",
    "python -m tests.trials.slurm": "needs root and SLURM, and minutes",
}

# What stands for what the reader is to fill in, or for what the test cannot reach or wait for; {team} and its like are
# the test's places, the words before a command are functions of PROLOGUE there.
STAND_INS = {
    "REPOSITORY": "{origin}",
    "cd poselift": "cd poselift && with_environment",
    "team /mnt/team/poselift  ": "--force team {team}  ",  # fetched in the clone that pushed it
    "/mnt/team/poselift": "{team}",
    "https://example.org/poselift": "{web}",
    "https://storage.example.org": "{storage}",
    "s3://BUCKET": "s3://bucket",
    "access_key_id KEY": "access_key_id testing",
    "secret_access_key SECRET": "secret_access_key testing",
    "model=NAME": "model=stcformer",
    "dataset=NAME": "dataset=humaneva",
    " NAME": ' "$(name_of_an_experiment)"',
    "poselift board": "looked_at poselift board",
    "make board": "looked_at make board",
    "dvc exp pull --remote team": "in_another_clone && dvc exp pull --remote team",
}
# Commands that say with their exit code that something is missing, as it is of made-up data.
MAY_END_WITH_1 = "poselift doctor"


def blocks_of(text: str) -> list[str]:
    """Blocks of shell and lines that are set off, as they follow each other on a page."""
    shell = r"^```sh\n(?P<block>(?s:.*?))^```"
    set_off = r"^ {4}(?P<line>(?:poselift|dvc|make|pip|python|wandb) .*\n)"
    found = re.finditer(f"{shell}|{set_off}", text, flags=re.MULTILINE)
    return [match["block"] or match["line"] for match in found]


def mentions_of(text: str) -> list[str]:
    """Commands within sentences and tables, often by their first words alone."""
    return re.findall(r"(?<!`)`((?:poselift|dvc|make|pip|python|wandb) [^`\n]+)`", text)


def commands_of(text: str) -> list[list[str]]:
    """The words of each command of PROGRAMS in a piece of shell."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.sub(r"\$\{?\w+\}?", "0", line), comments=True)
        while words:
            end = next((at for at, word in enumerate(words) if word in ("&&", "&", ";", "|", ">")), len(words))
            own = [word for word in words[:end] if not re.fullmatch(r"[A-Za-z_]+=.*", word) or "-S" in words[:end]]
            if own and own[0] in PROGRAMS:
                commands.append(own)
            words = words[end + 1 :]
    return commands


def reason_not_to_run(line: str) -> str | None:
    """Why a line of a block, or a whole block by its first line, is not run; None if it is."""
    return next((reason for begin, reason in NOT_RUN.items() if line.startswith(begin)), None)


def story_of(text: str, *, without: str | None = None, **places: object) -> str:
    """The commands of a page as one script: those that are run, with stand-ins for what is to be filled in.

    Lines that have the word `without` are left out.
    """
    lines = []
    for block in blocks_of(text):
        for line in block.replace("\\\n", " ").splitlines():
            left_out = without is not None and re.search(rf"\b{without}\b", line)
            if line.strip() and not line.startswith("#") and reason_not_to_run(line) is None and not left_out:
                lines.append(_filled_in(line, places))
    return "\n".join(lines) + "\n"


def _filled_in(line: str, places: Mapping[str, object]) -> str:
    for what, stand_in in STAND_INS.items():
        line = line.replace(what, stand_in.format(**places))
    return f"{line.partition('  #')[0].rstrip()} || [ $? = 1 ]" if line.startswith(MAY_END_WITH_1) else line
