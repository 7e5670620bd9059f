"""Trains rows one after the other as `python -m pipeline train` does, the state saved after every step.

Arguments: the folder, and for each row its name and the rank that is killed once when the row is trained the second
time.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pipeline.train import distributed, loop, stage
from pipeline.train.stage import train

step = loop._step


def dying(killed: Path, rank: int, work: Path) -> Any:
    """The loop's step; but rank `rank` dies in the third step, if `killed` is not there yet."""

    def step_or_die(setup: loop.Setup, batch: Any, **options: Any) -> Any:
        if distributed.rank() == rank and list(work.glob("*/state.previous.pt")) and not killed.exists():
            killed.write_text("killed", encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)
        return step(setup, batch, **options)

    return step_or_die


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stage.SAVE_EVERY_S = -1.0
    folder, *rows = sys.argv[1:]
    for name, killed_rank in zip(rows[::2], rows[1::2], strict=True):
        for kind, rank in (("calm", -1), ("killed", int(killed_rank))):
            out = Path(folder) / kind / name
            if (out / "card.json").exists():  # before the restart
                continue
            loop._step = dying(Path(folder) / f"{name} was killed", rank, Path(folder) / "work")
            train(Path(folder) / name, out, seed=0, work_folder=Path(folder) / "work")
