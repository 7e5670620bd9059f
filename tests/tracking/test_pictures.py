"""What W&B shows of a run while it trains: the clip is the validation clip, lifted by the weights of that epoch."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from pipeline.poses.clips import read_split
from pipeline.poses.predict import load_trained_model
from pipeline.poses.windows import frame_table
from pipeline.train.stage import train
from tests.fixtures.tracked_runs import clean_environment, read_history
from tests.fixtures.walker import write_prepared


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder of a run of six epochs that is tracked, and its prepared data."""
    folder = tmp_path_factory.mktemp("followed")
    prepared = write_prepared(folder / "prepared", epochs=6)
    with clean_environment(folder / "home", WANDB_MODE="offline"):
        train(prepared, folder / "run", seed=0, work_folder=folder / "work")
    return folder


def picture_rows(folder, key):
    """Rows of the history that have the file called `key`."""
    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    return [row for row in read_history(file) if f"{key}/path" in row]


@pytest.mark.parametrize("key", ["prediction", "validation_clip"])
def test_a_run_sends_four_pictures_the_last_after_its_last_epoch(followed, key):
    assert [row["epoch"] for row in picture_rows(followed, key)] == [1, 3, 4, 6]


def test_the_last_clip_is_what_the_final_weights_make_of_the_validation_clip(followed):
    (clip, *_) = read_split(followed / "prepared" / "validation")
    model = load_trained_model(followed / "run", device=torch.device("cpu"))
    table = frame_table([clip], root=0, device=torch.device("cpu"))
    poses_m = model.predict(table, flip_averaging=False)
    errors_mm = 1000 * np.linalg.norm((poses_m - table.pose_m).numpy(), axis=-1).mean(-1)
    (page,) = (followed / "wandb").glob(f"**/{picture_rows(followed, 'validation_clip')[-1]['validation_clip/path']}")
    title = re.search(r'"title":"([^"]*)"', page.read_text(encoding="utf-8"))[1]
    assert title == f"{clip.name}, after epoch 6: {errors_mm.mean():.1f} mm"
    assert np.ptp(errors_mm) > 0.1
