"""A repository of Git and DVC like the project's own, whose stages take no time: two runs of a row, and their score."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROW = "walker-gt-f9-rayformer"
SEEDS = (0, 1)
STAGES = """
import json, pathlib, sys
import yaml
stage, *rest = sys.argv[1:]
lr = yaml.safe_load(open("params.yaml"))["datasets"]["cmu"]["lr"]
if stage == "train":
    folder = pathlib.Path(rest[0])
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_text(f"weights of {rest} at {lr}")
    (folder / "card.json").write_text("{}")
else:
    runs = [20 * lr, 22 * lr]
    score = {"row": rest[0], "protocol": {"dataset": "walker", "seeds": [0, 1], "keypoints": "gt"}}
    score["mpjpe_mm"] = {"mean": sum(runs) / 2, "std": None, "runs": runs}
    for kind, content in (("metrics", score), ("headline", {"mpjpe_mm": sum(runs) / 2})):
        pathlib.Path(f"reports/{kind}").mkdir(parents=True, exist_ok=True)
        pathlib.Path(f"reports/{kind}/{rest[0]}.json").write_text(json.dumps(content))
"""


def run(root: Path, *commands: str) -> None:
    """Commands of git and dvc in the repository, each of which must succeed."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **identity, "PATH": programs, "DVC_NO_ANALYTICS": "1"}
    for command in commands:
        subprocess.run(command.split(), cwd=root, env=environment, check=True)


def write_repository(root: Path) -> Path:
    """The repository, its stages run and committed; its default remote `store` is a folder inside it."""
    (root / "data" / "raw").mkdir(parents=True)
    (root / "data" / "raw" / "takes.csv").write_text("take\n", encoding="utf-8")
    (root / "params.yaml").write_text("seeds: [0, 1]\ndatasets: {cmu: {lr: 2.0}}\n", encoding="utf-8")
    (root / "stages.py").write_text(STAGES, encoding="utf-8")
    checkpoints = f"data/checkpoints/{ROW}"
    reported = [{f"reports/metrics/{ROW}.json": {"cache": False}}]
    headline = [{f"reports/headline/{ROW}.json": {"cache": False}}]
    train = {
        "matrix": {"seed": list(SEEDS)},
        "cmd": f"python stages.py train {checkpoints}/run${{item.seed}}",
        "params": ["datasets.cmu.lr"],
        "deps": ["data/raw/takes.csv", "stages.py"],
        "outs": [f"{checkpoints}/run${{item.seed}}"],
    }
    evaluate = {
        "cmd": f"python stages.py evaluate {ROW}",
        "params": ["datasets.cmu.lr"],
        "deps": [checkpoints],
        "outs": reported,
        "metrics": headline,
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": train, "evaluate_5runs": evaluate}}))
    (root / ".gitignore").write_text("/data/checkpoints/\n", encoding="utf-8")
    (root / ".dvcignore").write_text("/dvc_store\n", encoding="utf-8")
    run(
        root,
        "git init --quiet --initial-branch main",
        "dvc init --quiet",
        "dvc remote add --quiet --default store dvc_store",
        "dvc add --quiet data/raw/takes.csv",
        "dvc repro --quiet",
        "git add --all",
        "git commit --quiet -m first",
    )
    return root
