"""A small untrained lifter, and a walker as a 2D detector would report him."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from walker import SMALL_MODELS, camera_at, walker_joints_world_m

from models import check_hyperparameters
from pipeline.checkpoint import Card, build_model, write_checkpoint
from pipeline.geometry import Camera, project
from pipeline.people import Recording, Track

SIZE = (1000, 1000)
WALKER_CAMERA = camera_at(0.4)


def write_small_checkpoint(folder: Path, model: str = "rayformer", **changes: Any) -> Path:
    """A checkpoint with weights that depend on the seed alone and matter: a lifter that is wrong, but not blind."""
    folder.mkdir(parents=True)
    values: dict[str, Any] = {
        "row": f"cmu-det-f9-{model}",
        "seed": 0,
        "model": model,
        "hyperparameters": check_hyperparameters(model, SMALL_MODELS[model]),
        "frames": 9,
        "in_skeleton": "h36m17",
        "out_skeleton": "h36m17",
        "in_channels": 3,
        "epoch": 1,
        "validation_mpjpe_mm": None,
        "run_key": None,
        "torch": None,
    }
    card = Card(**values | changes)
    torch.manual_seed(0)
    weights = {
        name: tensor + 0.05 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in build_model(card).state_dict().items()
    }
    write_checkpoint(folder, weights, card)
    return folder


def walker_keypoints(
    frames: int, *, camera: Camera = WALKER_CAMERA, start: float = 0.0, jitter_px: float = 0.0
) -> Float[np.ndarray, "F 17 3"]:
    """Pixels of the walker in Human3.6M's layout, and a confidence between 0.5 and 1."""
    random = np.random.default_rng(0)
    pixels = project(camera.camera_from_world.apply(walker_joints_world_m(frames, start=start)), camera)
    confidence = random.uniform(0.5, 1, size=(frames, 17, 1))
    return np.concatenate([pixels + random.normal(0, jitter_px, pixels.shape), confidence], axis=-1)


def track_of(keypoints: Float[np.ndarray, "F 17 3"], *, person: str = "0", first_frame: int = 0) -> Track:
    """The keypoints as a track; NaN is not seen."""
    seen = np.isfinite(keypoints[..., :2]).all(-1)
    confidence = np.where(seen, keypoints[..., 2], 0.0)
    return Track(person, "h36m17", first_frame, keypoints[..., :2].copy(), confidence)


def recording_of(*tracks: Track, rate_hz: float | None = 30.0, size: tuple[int, int] | None = SIZE) -> Recording:
    """A recording of these people."""
    frames = max((track.first_frame + len(track) for track in tracks), default=3)
    return Recording("walk.json", frames, tracks, rate_hz, size)
