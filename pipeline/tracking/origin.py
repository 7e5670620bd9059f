"""Says of a run which commit, experiment and stage of DVC, and trial of a sweep it belongs to, as far as is known."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def code_config(folder: Path) -> dict[str, dict[str, str]]:
    """Returns the commit that the folder is at, if it is in a repository of git."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return {}
    return {"code": {"commit": answer.stdout.strip()}} if answer.returncode == 0 else {}


def dvc_config() -> dict[str, dict[str, str]]:
    """Returns which DVC experiment and stage the process belongs to, as far as DVC says."""
    variables = {"experiment": "DVC_EXP_NAME", "revision": "DVC_EXP_BASELINE_REV", "stage": "DVC_STAGE"}
    return {"dvc": {key: os.environ[variable] for key, variable in variables.items() if variable in os.environ}}


def trial_of_sweep(job_type: str, seed: object) -> str | None:
    """Returns, in a sweep of W&B, the id of its trial for the training run of seed 0: trials are judged by validation.

    For every other run the sweep is forgotten, so that it is not taken for the trial.
    """
    if (job_type, seed) != ("train", 0):
        for variable in ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID"):
            os.environ.pop(variable, None)
        return None
    return os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
