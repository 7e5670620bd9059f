"""A floor to compare with: ridge regression of the pose from one frame's keypoints, solved in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from models.layers import check_last_axes, square_root

# Added in quadrature to a person's size on the screen (half a pixel at 1000 pixels' width), so that joints which all
# coincide give finite features.
SMALLEST_SIZE = 1e-3


def shape_and_place(screen: Float[Tensor, "*N J C"]) -> Float[Tensor, "*N D"]:
    """What the regression sees of a frame, D = J * C + 3 numbers.

    The joints relative to their mean, divided by the root mean square of these offsets, so that a person's shape does
    not depend on where they stand; the confidences if there are any; that mean; and the logarithm of that divisor.
    """
    points = screen[..., :2]
    centre = reduce(points, "... j c -> ... 1 c", "mean")
    size = square_root(reduce((points - centre) ** 2, "... j c -> ... 1 1", "mean") + SMALLEST_SIZE**2)
    scaled = torch.cat([(points - centre) / size, screen[..., 2:]], -1)
    parts = [rearrange(part, "... j c -> ... (j c)") for part in (scaled, centre, size.log())]
    return torch.cat(parts, -1)


def regression_rows(
    screen: Float[Tensor, "N J_in C"], targets_m: Float[Tensor, "N J_out 3"], *, chunk_frames: int
) -> Iterator[Float[Tensor, "rows X_and_Y"]]:
    """Features and flat targets of each frame side by side in float64, `chunk_frames` frames at a time."""
    for some, some_m in zip(screen.split(chunk_frames), targets_m.split(chunk_frames), strict=True):
        yield torch.cat([shape_and_place(some.double()), rearrange(some_m.double(), "n j c -> n (j c)")], -1)


class Linear(nn.Module):
    """Ridge regression from `shape_and_place` of a frame to its pose; every frame is lifted alone, in windows of any T.

    `ridge` weighs the squared weights of standardised features against the mean squared error. The weights are those of
    `fit`; until then they are random like those of any model that has not been trained. Source: Hoerl and Kennard 1970.
    """

    predicts: Literal["every_frame", "middle_frame"] = "every_frame"

    def __init__(
        self,
        *,
        frames: int,
        in_joints: int,
        out_joints: int,
        in_channels: int,
        ridge: Annotated[float, Field(gt=0)] = 1.0e-3,
    ) -> None:
        super().__init__()
        self.screen_shape = (in_joints, in_channels)
        self.ridge = ridge
        self.readout = nn.Linear(in_joints * in_channels + 3, out_joints * 3)

    def forward(self, screen: Float[Tensor, "B T J_in C"]) -> Float[Tensor, "B T J_out 3"]:
        """Root-relative pose in the camera frame, in metres, of every frame.

        Raises ValueError if J_in or C are not those that the model was built for.
        """
        check_last_axes("linear: screen", screen, self.screen_shape)
        return rearrange(self.readout(shape_and_place(screen)), "b t (j c) -> b t j c", c=3)

    @torch.no_grad()
    def fit(
        self,
        screen: Float[Tensor, "N J_in C"],
        targets_m: Float[Tensor, "N J_out 3"],
        *,
        chunk_frames: int = 65536,
    ) -> None:
        """Sets the weights to the ridge solution over N frames, from float64 sums of `chunk_frames` frames at a time.

        A joint that is zero in every target is predicted as exactly zero. Raises ValueError if there are no frames, or
        the joints or channels are not those that the model was built for.
        """
        check_last_axes("linear: screen", screen, self.screen_shape)
        check_last_axes("linear: targets", targets_m, (self.readout.out_features // 3, 3))
        if len(screen) == 0:
            raise ValueError("linear: expected at least one frame to fit, found none")
        inputs, columns = self.readout.in_features, self.readout.in_features + self.readout.out_features
        # The mean first, then products of centred values: a single pass over squares would lose digits.
        mean = torch.zeros(columns, dtype=torch.float64, device=screen.device)
        for rows in regression_rows(screen, targets_m, chunk_frames=chunk_frames):
            mean += rows.sum(0) / len(screen)
        covariance = torch.zeros(columns, columns, dtype=torch.float64, device=screen.device)
        for rows in regression_rows(screen, targets_m, chunk_frames=chunk_frames):
            covariance += einsum(rows - mean, rows - mean, "n i, n j -> i j") / len(screen)

        deviation = square_root(covariance.diagonal()[:inputs])
        # A feature that does not vary but for rounding (a confidence of 1 in every frame) gets no weight.
        scale = torch.where(deviation > 1e-9, deviation, math.inf)
        correlation = covariance[:inputs, :inputs] / (scale[:, None] * scale)
        penalty = self.ridge * torch.eye(inputs, dtype=torch.float64, device=screen.device)
        standardised = torch.linalg.solve(correlation + penalty, covariance[:inputs, inputs:] / scale[:, None])
        weight = standardised / scale[:, None]
        self.readout.weight.copy_(rearrange(weight, "i o -> o i"))
        self.readout.bias.copy_(mean[inputs:] - mean[:inputs] @ weight)
