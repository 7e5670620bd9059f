"""Draws the parts of films and strips: 3D views, 2D keypoints and errors over time, in axes of a figure.

A part is a function that changes its axes to a frame, so that what does not move is drawn once.
"""

from __future__ import annotations

from collections.abc import Callable
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as PathOfPoints

from pipeline.visualization.framing import SMALLEST_HALF_M, Framing
from pipeline.visualization.palette import SINGLE, TRUTH, Colours, body_colours, side_of
from pipeline.visualization.scene import Body, Scene

DPI = 100
PITCH = 0.16  # radians of the camera above the horizon
LENS = 0.5  # half the picture's height at distance 1
FILLED = 0.86  # of the picture by the bodies
LIMB_M, TRUNK_M, FAINT_M, HEAD_M = 0.055, 0.07, 0.025, 0.17
TEXT, MUTED, PANEL, GRID, SHADOW = "#171b22", "#667085", "#f1f4f8", "#c3cad5", "#dde2ea"
Draw = Callable[[int], list[Artist]]  # changes a part of the picture to a frame; returns what it is made of


class Box(NamedTuple):
    """A part of an image, in pixels from its top left corner."""

    left_px: float
    top_px: float
    width_px: float
    height_px: float


def make_figure(width_px: int, height_px: int) -> Figure:
    """Returns an empty figure to be drawn without a screen."""
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def place_in(
    figure: Figure, left_px: int, bottom_px: int, width_px: int, height_px: int
) -> tuple[float, float, float, float]:
    """Returns left, bottom, width and height as parts of the figure."""
    whole = figure.get_size_inches() * DPI
    return left_px / whole[0], bottom_px / whole[1], width_px / whole[0], height_px / whole[1]


def add_panel(figure: Figure, left_px: int, bottom_px: int, width_px: int, height_px: int) -> Axes:
    """Returns axes whose units are pixels from their top left corner."""
    axes = figure.add_axes(place_in(figure, left_px, bottom_px, width_px, height_px), facecolor=PANEL)
    axes.set(xlim=(0, width_px), ylim=(height_px, 0), xticks=[], yticks=[])
    axes.spines[:].set_color("#dfe3ea")
    return axes


def colours_of(scene: Scene, body: Body) -> Colours:
    """Returns the colours of a body among those of its scene."""
    if body.faint:
        return Colours(TRUTH[0], TRUTH[0], TRUTH[0])
    people = [other for other in scene.bodies if not other.faint]
    return body_colours([other is body for other in people].index(True), people=len(people))


def animate_space(axes: Axes, scene: Scene, view: Framing) -> Draw:
    """Returns what draws a frame in perspective: ground, shadows, and limbs from the farthest to the nearest."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    distance_m = _fit_distance_m(scene, view, width / height)
    ground, shadows, limbs = _add_strokes(axes, GRID, 0.8), _add_strokes(axes, SHADOW, 5.0), add_lines(axes)
    grid_m = _grid_m(max(view.radius_m, view.half_height_m))

    def draw(frame: int) -> list[Artist]:
        def in_panel(points_m: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 4"]:
            size_px = (width, height)
            return _perspective(points_m, view.centre_m[frame], view.yaw, distance_m, size_px)

        lines = in_panel(grid_m + np.round(view.centre_m[frame]) * [1, 1, 0])
        ground.set_path(_strokes(lines[(lines[..., 2] > 0.3).all(1), :, :2]))
        shadow_segments, segments, depths, colours, widths = [], [], [], [], []
        for body in scene.bodies:
            joints_m = body.joints_world_m[frame]
            places, on_ground = in_panel(joints_m), in_panel(joints_m * [1, 1, 0])[:, :2]
            body_colour = colours_of(scene, body)
            for ends in body.skeleton.bones:
                a, b = places[list(ends)]
                if not (np.minimum(a, b)[2] > 0.1):  # NaN is not
                    continue
                side = side_of(body.skeleton, ends[1])
                thick_m = FAINT_M if body.faint else TRUNK_M if side == 2 else LIMB_M
                if body.skeleton.joints[ends[1]] == "Head" and not body.faint:
                    middle = 0.55 * b + 0.45 * a
                    a, b, thick_m = middle, middle + np.array([0.5, 0, 0, 0]), HEAD_M
                shadow_segments.append(on_ground[list(ends)])
                segments.append(np.stack([a[:2], b[:2]]))
                depths.append((a[2] + b[2]) / 2 + 1e3 * body.faint)
                colours.append(body_colour[side])
                widths.append(max(1.0, thick_m * (a[3] + b[3]) / 2 * 72 / DPI))
        order = np.argsort(depths)[::-1]
        shadows.set_path(_strokes(np.reshape(shadow_segments, (-1, 2, 2))))
        # Each limb twice: a light edge sets it off from those behind.
        limbs.set_segments([segments[place] for place in order for _ in range(2)])
        limbs.set_color([colour for place in order for colour in (PANEL, colours[place])])
        limbs.set_linewidth([wide for place in order for wide in (widths[place] + 1.6, widths[place])])
        return [ground, shadows, limbs]

    return draw


def add_lines(axes: Axes, *, width: float | None = None) -> LineCollection:
    """Adds lines with round ends, none as yet; without `width` as wide as matplotlib's."""
    lines = LineCollection([], capstyle="round", linewidths=width, snap=False)  # snapped, a dot can lose its length
    axes.add_collection(lines)
    return lines


def _add_strokes(axes: Axes, colour: str, width: float) -> PathPatch:
    """Adds lines of one colour and width, none as yet; they do not darken where they cross."""
    strokes = PathPatch(_strokes(np.zeros((0, 2, 2))), fill=False, edgecolor=colour, linewidth=width, capstyle="round")
    axes.add_patch(strokes)
    return strokes


def add_dots(axes: Axes, diameter_px: float, *, edge: str) -> PathCollection:
    """Adds dots, none as yet, with an edge that sets them off from what is behind."""
    area = (diameter_px * 72 / DPI) ** 2  # in square points
    return axes.scatter([], [], s=area, edgecolors=edge, linewidths=0.9, zorder=3)


def wrap_text(text: str, width_px: int, *, letter_px: float = 6.5) -> list[str]:
    """Returns text in lines of at most so many pixels, given the width of its letters, or that of small ones."""
    return wrap(text, width=max(12, int(width_px / letter_px)))


def _grid_m(reach_m: float) -> Float[np.ndarray, "L 2 3"]:
    """Returns lines on the ground, 1 m apart, in pieces of 1 m, around the origin."""
    half = int(np.ceil(2 * reach_m))
    across = [[[i, j, 0.0], [i + 1, j, 0.0]] for i in range(-half, half) for j in range(-half, half + 1)]
    return np.array(across + [[[y, x, z] for x, y, z in piece] for piece in across])


def _strokes(segments: Float[np.ndarray, "N 2 2"]) -> PathOfPoints:
    """Returns straight lines, apart from each other, as one path."""
    return PathOfPoints(
        rearrange(segments, "n end c -> (n end) c"), [PathOfPoints.MOVETO, PathOfPoints.LINETO] * len(segments)
    )


def _perspective(
    points_m: Float[np.ndarray, "*N 3"],
    centre_m: Float[np.ndarray, "3"],
    yaw: float,
    distance_m: float,
    size_px: tuple[float, float],
) -> Float[np.ndarray, "*N 4"]:
    """Returns each point's place in the panel (right, down), its depth in m, and pixels per metre there."""
    width, height = size_px
    right, up, depth = _turn(points_m - centre_m, yaw)
    depth = distance_m + depth
    scale = height / (2 * LENS) / np.maximum(depth, 0.05)
    return np.stack([width / 2 + right * scale, height / 2 - up * scale, depth, scale], axis=-1)


def _turn(
    from_centre_m: Float[np.ndarray, "*N 3"], yaw: float
) -> tuple[Float[np.ndarray, "*N"], Float[np.ndarray, "*N"], Float[np.ndarray, "*N"]]:
    """Returns how far points lie to the right, up and away as seen along a view that looks down by PITCH."""
    ahead = from_centre_m @ [-np.sin(yaw), np.cos(yaw), 0]
    level, tilt, up = np.cos(PITCH), np.sin(PITCH), from_centre_m[..., 2]
    return from_centre_m @ [np.cos(yaw), np.sin(yaw), 0], tilt * ahead + level * up, level * ahead - tilt * up


def _fit_distance_m(scene: Scene, view: Framing, aspect: float) -> float:
    """Returns how far from the middle of the picture to look, so that all but the farthest joints are in it."""
    joints_m = np.concatenate([body.joints_world_m for body in scene.bodies], axis=1)
    right, up, away = _turn(joints_m - rearrange(view.centre_m, "f c -> f 1 c"), view.yaw)
    needed_m = np.maximum(np.abs(right) / aspect, np.abs(up)) / (LENS * FILLED) - away
    known_m = needed_m[np.isfinite(needed_m)]
    least_m = SMALLEST_HALF_M / (LENS * FILLED)
    return max(least_m, float(np.percentile(known_m, 99.5))) if len(known_m) else least_m


def keypoints_box(scene: Scene) -> Box | None:
    """Returns the part of the image in which the scene's keypoints are over the whole time, None without any."""
    known = [body.pixels[np.isfinite(body.pixels).all(-1)] for body in scene.bodies if body.pixels is not None]
    pixels = np.concatenate([*known, np.zeros((0, 2))])
    if not len(pixels):
        return None
    (left, top), (right, bottom) = pixels.min(0), pixels.max(0)
    margin = 0.08 * max(right - left, bottom - top, 1)
    return Box(left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin)


def animate_keypoints(axes: Axes, scene: Scene, box: Box) -> Draw:
    """Returns what draws the 2D keypoints of a frame, as large as `box` fits, on the image that they are in."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    scale = min(width / box.width_px, height / box.height_px)
    left, top = (width - box.width_px * scale) / 2 - box.left_px * scale, (height - box.height_px * scale) / 2
    shift = np.array([left, top - box.top_px * scale])
    if scene.image_size_px is not None:  # its edges, where they come into view
        across, down = np.array(scene.image_size_px) * scale
        axes.add_patch(Rectangle(tuple(shift), across, down, facecolor="white", edgecolor=GRID, linewidth=0.8))
    limbs, joints = add_lines(axes, width=2.2), add_dots(axes, 5.5, edge=PANEL)

    def draw(frame: int) -> list[Artist]:
        segments, bone_colours, places, joint_colours = [], [], [], []
        for body in scene.bodies:
            if body.pixels is None or body.in_skeleton is None:
                continue
            body_places, colours = body.pixels[frame] * scale + shift, colours_of(scene, body)
            for ends in body.in_skeleton.bones:
                if np.isfinite(body_places[list(ends)]).all():
                    segments.append(body_places[list(ends)])
                    bone_colours.append(colours[side_of(body.in_skeleton, ends[1])])
            for joint in np.flatnonzero(np.isfinite(body_places).all(-1)).tolist():
                places.append(body_places[joint])
                joint_colours.append(colours[side_of(body.in_skeleton, joint)])
        limbs.set_segments(segments)
        limbs.set_color(bone_colours)
        joints.set_offsets(np.reshape(places, (-1, 2)))
        joints.set_facecolor(joint_colours)
        return [limbs, joints]

    return draw


def animate_error(axes: Axes, scene: Scene, error_mm: Float[np.ndarray, " F"]) -> Draw:
    """Returns what draws the error over time, and a line at the frame."""
    time_s = np.arange(len(error_mm)) / scene.rate_hz
    axes.fill_between(time_s, error_mm, color="#5b6b86", alpha=0.15, linewidth=0)
    axes.plot(time_s, error_mm, color="#5b6b86", linewidth=1.1)
    top = float(np.nanmax(error_mm, initial=1))
    axes.set(xlim=(0, max(time_s[-1], 1 / scene.rate_hz)), ylim=(0, 1.1 * top), yticks=[0, round(top)])
    axes.set_ylabel("MPJPE mm", size=8, color=MUTED)
    axes.tick_params(labelsize=8, colors=MUTED, length=2)
    axes.spines[:].set_visible(False)
    now = axes.axvline(0, color=SINGLE[0].left, linewidth=1.5)

    def draw(frame: int) -> list[Artist]:
        now.set_xdata([time_s[frame]] * 2)
        return [now]

    return draw
