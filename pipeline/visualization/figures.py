"""Draws figures of poses and of results without a screen."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.poses.skeleton import Skeleton
from pipeline.visualization.palette import SINGLE, TRUTH, side_of


def new_figure(width_in: float, height_in: float) -> Figure:
    """Returns an empty figure that can be saved as a picture."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def pose_figure(
    predicted_m: Float[np.ndarray, "J 3"], true_m: Float[np.ndarray, "J 3"], skeleton: Skeleton, *, title: str
) -> Figure:
    """Returns a predicted pose (left blue, right orange) over the true one (grey), from the front and the side.

    Poses are root-relative in the camera frame (x right, y down, z away), in metres.
    """
    figure = new_figure(7.0, 4.0)
    for place, (across, label) in enumerate(((0, "seen by the camera: x in m"), (2, "from the side: depth z in m"))):
        axes = figure.add_subplot(1, 2, place + 1)
        for parent, child in skeleton.bones:
            colour = SINGLE[0][side_of(skeleton, child)]
            ends = [parent, child]
            axes.plot(true_m[ends, across], true_m[ends, 1], color=TRUTH[0], linewidth=5, solid_capstyle="round")
            axes.plot(predicted_m[ends, across], predicted_m[ends, 1], color=colour, linewidth=2)
        axes.set(xlabel=label, xlim=(-1.1, 1.1), ylim=(1.1, -1.1), aspect="equal")
        axes.set_ylabel("y in m, down" if place == 0 else "")
    error_mm = 1000 * np.linalg.norm(predicted_m - true_m, axis=-1).mean()
    figure.suptitle(f"{title}: MPJPE {error_mm:.1f} mm (grey: true)", fontsize=10)
    return figure
