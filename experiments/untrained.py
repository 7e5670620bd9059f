"""Models that were not trained, to measure what training and evaluating them cost."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.poses.checkpoint import Card, build_model
from pipeline.poses.predict import TrainedModel
from pipeline.poses.skeleton import H36M_17


def untrained_model(
    architecture: str, hyperparameters: Mapping[str, object], *, frames: int, in_channels: int
) -> TrainedModel:
    """Returns a model of Human3.6M's 17 joints, whose weights depend on torch's seed alone."""
    card = Card(
        row="untrained",
        seed=None,
        model=architecture,
        hyperparameters=dict(hyperparameters),
        frames=frames,
        in_skeleton=H36M_17.name,
        out_skeleton=H36M_17.name,
        in_channels=in_channels,
        rate_hz=None,
        focal=None,
        epoch=None,
        validation_mpjpe_mm=None,
        run_key=None,
        torch=None,
    )
    return TrainedModel(build_model(card), card)
