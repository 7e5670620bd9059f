"""What the figures of the experiments share: axes without a frame, and files of the same bytes for the same numbers."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.system.files import new_file


def hide_frame(axes: Axes) -> None:
    """Leaves the axes their left and lower line alone."""
    axes.spines[["top", "right"]].set_visible(False)


def save_svg(figure: Figure, path: Path) -> None:
    """Writes the figure. Identifiers do not depend on chance and there is no date, so that its bytes stay the same."""
    with new_file(path) as unfinished, mpl.rc_context({"svg.hashsalt": "poselift", "svg.fonttype": "path"}):
        figure.savefig(unfinished, format="svg", metadata={"Date": None})
