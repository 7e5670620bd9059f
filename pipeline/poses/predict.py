"""A trained model, and its poses of all frames of clips: each predicted once, by the window in whose middle it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pipeline.poses.checkpoint import Card, load_checkpoint
from pipeline.poses.windows import FrameTable, mirror, tile_windows, window_index

CPU_CHUNK_FRAMES = 2048  # frames per forward pass on a CPU; with more, activations no longer fit the cache


@dataclass(frozen=True)
class TrainedModel:
    """A network and the card that says what it was trained on."""

    network: nn.Module
    card: Card

    @property
    def predicts_every_frame(self) -> bool:
        """Whether the network predicts every frame of its window, and not the middle one alone."""
        return self.network.predicts == "every_frame"

    @torch.no_grad()
    def predict(
        self,
        table: FrameTable,
        *,
        flip_averaging: bool,
        stride: int | None = None,
        wanted: Bool[Tensor, " N"] | None = None,
        zero_root: bool = False,
        batch_windows: int = 512,
    ) -> Float[Tensor, "N J_out 3"]:
        """Returns the pose of every frame of the table: camera frame, metres, relative to the root.

        A network that predicts every frame of its window keeps the middle `stride` of them (all, if None or more than
        there are); one that predicts the middle frame alone has a window around every frame. Where `wanted` is given,
        windows without a wanted frame are left out and their poses zero. With `flip_averaging` the prediction is
        averaged with the mirrored one of the mirrored window. `zero_root` puts the predicted root at zero. The network
        is put into evaluation mode.
        """
        self.network.eval()
        frames = self.card.frames
        kept_frames = min(stride or frames, frames) if self.predicts_every_frame else 1
        first_kept = frames // 2 - kept_frames // 2
        kept = slice(first_kept, first_kept + kept_frames)
        windows = tile_windows(table, stride=kept_frames)
        if wanted is not None:
            index, own = window_index(table, windows, frames=kept_frames)
            windows = windows[torch.nonzero((wanted[index] & own).any(1))[:, 0]]
        poses_m = torch.zeros_like(table.pose_m)
        for start in range(0, len(windows), batch_windows):
            index, own = window_index(table, windows[start : start + batch_windows], frames=frames)
            predicted_m = self._predict_windows(table, index, flip_averaging=flip_averaging)
            kept_m = predicted_m if predicted_m.shape[1] == 1 else predicted_m[:, kept]
            index, own = index[:, kept], own[:, kept]
            poses_m[index[own]] = kept_m[own]
        if zero_root:
            poses_m[:, self.card.skeletons[1].root] = 0
        return poses_m

    def _predict_windows(
        self, table: FrameTable, index: Int[Tensor, "W T"], *, flip_averaging: bool
    ) -> Float[Tensor, "W T_out J_out 3"]:
        in_skeleton, out_skeleton = self.card.skeletons
        frame, place = torch.unique(index, return_inverse=True)
        screen = table.screen[frame]
        predicted_m = _forward(self.network, screen, place)
        if flip_averaging:
            mirrored_m = _forward(self.network, mirror(screen, in_skeleton), place)
            predicted_m = (predicted_m + mirror(mirrored_m, out_skeleton)) / 2
        return predicted_m


def load_trained_model(folder: Path, *, device: torch.device) -> TrainedModel:
    """Reads a checkpoint. Raises UserError if it is missing, damaged, or its tensors are not those of the model."""
    return TrainedModel(*load_checkpoint(folder, device=device))


def _forward(
    network: nn.Module, screen: Float[Tensor, "N J_in C"], frame: Int[Tensor, "W T"]
) -> Float[Tensor, "W T_out J_out 3"]:
    """The network's poses for windows of the frames numbered in `frame`.

    Overlapping windows share frames: what a network computes of single frames (`spatial_features`) it computes once.
    """
    spatial_features: Callable[[Tensor], Tensor] | None = getattr(network, "spatial_features", None)
    if spatial_features is None:
        return network(screen[frame])
    lift_features: Callable[[Tensor], Tensor] = getattr(network, "lift_features")  # noqa: B009, mypy knows no such method
    features = spatial_features(screen)
    at_once = max(1, CPU_CHUNK_FRAMES // frame.shape[1]) if screen.device.type == "cpu" else len(frame)
    return torch.cat([lift_features(features[part]) for part in frame.split(at_once)])
