"""Nobody waits for what is not needed: errors come before torch is loaded, models are built without its compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SLOW = ("torch", "scipy", "matplotlib", "wandb")  # to load
ENDS_EARLY = """
import sys
from pipeline.__main__ import main

for line in sys.stdin.read().splitlines():
    sys.argv = ["poselift", *line.split()]
    try:
        main()
    except SystemExit as ended:
        print(ended.code, [name for name in {slow} if name in sys.modules])
"""
LINES = {
    "prepare_data nonsense out": "row 'nonsense': expected <dataset>-",
    "prepare_data cmu-gt-f9-linear out --params wrong.yaml": "wrong.yaml: frame: unknown key, found value 27",
    "train nowhere out": "nowhere/training.json: expected a YAML file, found no such file",
    "train nowhere out --seed 0 --beside": "nowhere/training.json: expected a YAML file, found no such file",
    "evaluate_5runs nowhere out": "nowhere/evaluation.json: expected a YAML file, found no such file",
    "evaluate nowhere cmu-gt-f9-linear": "expected prepared data, found none: poselift prepare_data cmu-gt-f9-linear",
    "evaluate nowhere .": "nowhere: expected a checkpoint, found none",
    "show cmu-gt-f9-linear": "expected prepared data, found none: poselift prepare_data cmu-gt-f9-linear",
    "export-onnx nowhere model.onnx": "nowhere: expected a checkpoint, found none",
    "lift keypoints.json --out out": "expected the model, found none; poselift fetch REPOSITORY brings it",
    "lift keypoints.json --out out --checkpoint trained": "keypoints.json: expected a keypoint file, a folder of them",
}


def run_python(program: str, folder: Path, *, lines: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a program in a folder, with the project's modules."""
    path = {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=os.environ | path, input=lines, capture_output=True, text=True)


def test_what_a_user_may_have_wrong_is_said_before_anything_slow_is_loaded(tmp_path):
    params = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(params.replace("\nframes: 27", "\nframe: 27"), encoding="utf-8")
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "card.json").touch()
    done = run_python(ENDS_EARLY.format(slow=SLOW), tmp_path, lines="\n".join(LINES))
    assert done.stdout.splitlines() == ["2 []"] * len(LINES)
    for said, expected in zip(done.stderr.splitlines(), LINES.values(), strict=True):
        assert said.startswith("poselift: ")
        assert expected in said


@pytest.mark.parametrize(
    ("program", "slow"),
    [
        (
            "import models; [models.check_hyperparameters(name, {}) for name in models.MODELS]",
            ("torch._dynamo", "torch._inductor", "sympy"),
        ),
        ("import pipeline.train.stage", ("torch._dynamo", "matplotlib", "jinja2", "wandb")),
    ],
)
def test_what_has_to_load_torch_loads_no_compiler_and_no_plots(program, slow, tmp_path):
    done = run_python(f"import sys\n{program}\nprint([name for name in {slow} if name in sys.modules])", tmp_path)
    assert done.stdout == "[]\n", done.stderr
