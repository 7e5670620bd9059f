"""Every command in the documentation is one that its program takes: subcommands, options, parameters, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from dvc.cli import parse_args
from wandb.cli.cli import cli as wandb_cli

from pipeline.__main__ import app

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
OURS = typer.main.get_command(app)
PROGRAMS = {"poselift", "dvc", "make", "wandb", "pip", "python"}


def commands_of(text: str) -> list[list[str]]:
    """The words of each command of PROGRAMS in blocks of shell and in lines that are set off."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"^ {4}((?:poselift|dvc|make|pip|python|wandb) .*)$", text, flags=re.MULTILINE)
    commands = []
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        words = shlex.split(re.sub(r"\$\{?\w+\}?", "0", line), comments=True)
        while words:
            end = next((at for at, word in enumerate(words) if word in ("&&", "&", ";", "|", ">")), len(words))
            own = [word for word in words[:end] if not re.fullmatch(r"[A-Za-z_]+=.*", word) or "-S" in words[:end]]
            if own and own[0] in PROGRAMS:
                commands.append(own)
            words = words[end + 1 :]
    return commands


CASES = [
    pytest.param(command, id=f"{page.name}: {' '.join(command)}"[:90])
    for page in PAGES
    for command in commands_of(page.read_text(encoding="utf-8"))
]


def test_the_pages_have_commands():
    assert len(CASES) > 60


@pytest.mark.parametrize("command", CASES)
def test_a_command_can_be_typed(command):
    if command[:3] == ["python", "-m", "pipeline"]:
        command = ["poselift", *command[3:]]
    program, *words = command
    if program == "poselift":
        OURS.commands[words[0]].make_context(words[0], words[1:])  # raises for an unknown option or a missing argument
    elif program == "dvc":
        parse_args(words)  # raises likewise
        assert_parameters_are_there([words[at + 1] for at, word in enumerate(words) if word in ("-S", "--set-param")])
    elif program == "make":
        assert f"\n{words[0]}:" in (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    elif program == "wandb":
        assert words[0] in wandb_cli.commands
    elif program == "pip":
        assert_can_be_installed(words)
    else:
        script = Path(words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0])
        assert words[:2] == ["-m", "pytest"] or (REPOSITORY / script).is_file()


def assert_parameters_are_there(settings: list[str]) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    for setting in settings:
        if setting.startswith("+"):
            continue
        value = params
        for key in setting.partition("=")[0].split("."):
            assert key in value, setting
            value = value[key]


def assert_can_be_installed(words: list[str]) -> None:
    assert words[0] == "install"
    if words[1] == "-r":
        assert (REPOSITORY / words[2]).is_file()
        return
    extra = re.fullmatch(r"\.\[(\w+)\]", words[1])
    assert extra
    assert f"\n{extra[1]} = [" in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


def test_every_file_that_a_page_names_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
