"""Draws a scene on the frames of the video that it was lifted from, beside the 3D view, as a film."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from PIL import Image

from pipeline.poses.geometry import Camera, project
from pipeline.visualization.encoder import encode_film
from pipeline.visualization.framing import frame_scene
from pipeline.visualization.palette import SINGLE, side_of
from pipeline.visualization.panels import (
    DPI,
    MUTED,
    PANEL,
    TEXT,
    Draw,
    add_dots,
    add_lines,
    add_panel,
    animate_space,
    colours_of,
    make_figure,
    wrap_text,
)
from pipeline.visualization.scene import Scene

HEIGHT_PX, WIDEST_PX, SPACE_PX = 720, 1280, 640  # of the film, of the video in it, and, at least, of the 3D view
BLOCK_PX = 16  # films are wide in whole blocks, as all encoders and players want them
LINE_M, LINES_PX = 0.016, (1.8, 4.5)  # how thick a limb is on a person, and at least and at most on the film
EDGE_PX = 1.3  # of white around lines, which sets them off from dark and bright pictures
LINE_PX, MARGIN_PX, TITLE_PX = 14, 18, 28  # between lines of text, beside them, and from the top to the title
Picture = UInt8[np.ndarray, "H W 3"]


def write_overlay(path: Path, scene: Scene, camera: Camera, pictures: Iterable[Picture]) -> None:
    """Writes a film (.mp4) of `pictures`, RGB and one for each frame of the scene, with people drawn on them.

    Dots are the keypoints that people were lifted from, lines their 3D joints as `camera`, placed in the scene's
    world, sees them. Pictures may be of another size than the camera's image, if of the same shape. Raises UserError
    if the film cannot be encoded, ValueError if pictures and frames are not equally many.
    """
    video_px = _fit_video(camera)
    film_px = -(-(video_px[0] + SPACE_PX) // BLOCK_PX) * BLOCK_PX, HEIGHT_PX
    drawn = _draw_film(scene, camera, pictures, video_px, film_px)
    encode_film(path, drawn, size_px=film_px, rate_hz=scene.rate_hz, frames=len(scene.bodies[0].joints_world_m))


def _fit_video(camera: Camera) -> tuple[int, int]:
    """Returns width and height of the video within the film: as high as the film, unless that is too wide."""
    scale = min(HEIGHT_PX / camera.height_px, WIDEST_PX / camera.width_px)
    width, height = (2 * round(scale * side / 2) for side in (camera.width_px, camera.height_px))
    return width, height


def _draw_film(
    scene: Scene, camera: Camera, pictures: Iterable[Picture], video_px: tuple[int, int], film_px: tuple[int, int]
) -> Iterator[memoryview]:
    """Yields the film's pictures, RGBA. What does not move is drawn once."""
    width, height = video_px
    figure = make_figure(*film_px)
    figure.set_facecolor(PANEL)
    canvas = FigureCanvasAgg(figure)
    top = (HEIGHT_PX - height) // 2
    image = add_panel(figure, 0, HEIGHT_PX - height - top, width, height)
    head_px, foot_px = _write_about(figure, scene, width)
    space = add_panel(figure, width, foot_px, film_px[0] - width, HEIGHT_PX - head_px - foot_px)
    draws = [
        animate_space(space, scene, frame_scene(scene)),
        animate_people(image, scene, camera, scale=width / camera.width_px),
    ]
    for axes in (image, space):
        axes.set_axis_off()
    right, up = 1 - MARGIN_PX / film_px[0], 1 - TITLE_PX / HEIGHT_PX
    clock = figure.text(right, up, "", ha="right", va="center", size=13, color=TEXT)
    moving = [artist for draw in draws for artist in draw(0)] + [clock]
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    paper = np.asarray(canvas.buffer_rgba())
    for frame, picture in zip(range(len(scene.bodies[0].joints_world_m)), pictures, strict=True):
        canvas.restore_region(still)
        paper[top : top + height, :width, :3] = Image.fromarray(picture).resize(
            video_px, Image.Resampling.BILINEAR, reducing_gap=1.0
        )
        clock.set_text(f"{frame / scene.rate_hz:.2f} s")
        for artist in [artist for draw in draws for artist in draw(frame)] + [clock]:
            figure.draw_artist(artist)
        yield canvas.buffer_rgba()


def animate_people(axes: Axes, scene: Scene, camera: Camera, *, scale: float) -> Draw:
    """Returns what draws keypoints and reprojected bodies of a frame, `scale` times as large as the camera's image."""
    lines, dots = add_lines(axes), add_dots(axes, 7.5, edge="white")
    outline = [withStroke(linewidth=2.5, foreground="white")]
    several = sum(not body.faint for body in scene.bodies) > 1
    names = [
        axes.text(0, 0, body.name, ha="center", va="bottom", size=10, weight="semibold", path_effects=outline)
        for body in scene.bodies
    ]

    def draw(frame: int) -> list[Artist]:
        segments, bone_colours, widths, places, dot_colours = [], [], [], [], []
        for body, name in zip(scene.bodies, names, strict=True):
            colours = colours_of(scene, body)
            joints_camera_m = camera.camera_from_world.apply(body.joints_world_m[frame])
            joints = scale * project_visible(joints_camera_m, camera)
            for ends in body.skeleton.bones:
                if np.isfinite(joints[list(ends)]).all():
                    segments.append(joints[list(ends)])
                    bone_colours.append(colours[side_of(body.skeleton, ends[1])])
                    assert camera.focal_px is not None
                    px_per_m = scale * camera.focal_px[0] / joints_camera_m[list(ends), 2].mean()
                    widths.append(float(np.clip(LINE_M * px_per_m, *LINES_PX)))
            if body.pixels is not None and body.in_skeleton is not None:
                for joint in np.flatnonzero(np.isfinite(body.pixels[frame]).all(-1)).tolist():
                    places.append(scale * body.pixels[frame, joint])
                    dot_colours.append(colours[side_of(body.in_skeleton, joint)])
            seen = joints[np.isfinite(joints).all(-1)]
            name.set_visible(several and len(seen) > 0)
            if len(seen):
                name.set_position((seen[:, 0].mean(), seen[:, 1].min() - 10))
                name.set_color(colours.middle)
        both = np.array(widths) * 72 / DPI
        edges = both + 2 * EDGE_PX * 72 / DPI
        lines.set_segments([*segments, *segments])  # all edges first, so that none cuts a line
        lines.set_color(["white"] * len(segments) + bone_colours)
        lines.set_linewidth([*edges, *both])
        dots.set_offsets(np.reshape(places, (-1, 2)))
        dots.set_facecolor(dot_colours)
        return [lines, dots, *names]

    return draw


def project_visible(joints_camera_m: Float[np.ndarray, "J 3"], camera: Camera) -> Float[np.ndarray, "J 2"]:
    """Returns where the camera sees joints, in pixels; NaN for those that are not known or not in front of it."""
    pixels = np.full((len(joints_camera_m), 2), np.nan)
    in_front = joints_camera_m[:, 2] > 0  # NaN is not
    pixels[in_front] = project(joints_camera_m[in_front], camera)
    return pixels


def _write_about(figure: Figure, scene: Scene, left_px: int) -> tuple[int, int]:
    """Writes title, legend and caption beside the video; returns how high they are over and under the 3D view."""
    width = figure.get_size_inches()[0] * DPI
    x, inner_px = (left_px + MARGIN_PX) / width, SPACE_PX - 2 * MARGIN_PX
    title = wrap_text(scene.title, inner_px - 90, letter_px=10.0)
    for line, text in enumerate(title):
        up = 1 - (TITLE_PX + 24 * line) / HEIGHT_PX
        figure.text(x, up, text, va="center", size=13, weight="semibold", color=TEXT)
    head_px = TITLE_PX + 24 * len(title) + 10
    left, right, middle = (partial(Line2D, [], [], color=colour) for colour in SINGLE[0])
    marks = {"3D, as the camera sees it": middle(linewidth=2.5)}
    marks["detected in 2D"] = middle(marker="o", linestyle="", markersize=5)
    if sum(not body.faint for body in scene.bodies) == 1:
        marks |= {"left": left(linewidth=3), "right": right(linewidth=3)}
    else:
        marks["left dark, right light"] = middle(linestyle="")
    place = {"loc": "center left", "bbox_to_anchor": (x, 1 - head_px / HEIGHT_PX), "borderpad": 0, "borderaxespad": 0}
    look = {"frameon": False, "fontsize": 9, "labelcolor": MUTED, "handlelength": 1.4, "columnspacing": 1.6}
    figure.legend(marks.values(), marks.keys(), ncols=len(marks), **place, **look)
    caption = wrap_text(scene.caption, inner_px)
    foot_px = 22 + LINE_PX * len(caption)
    for line, text in enumerate(caption):
        figure.text(x, (foot_px - 16 - LINE_PX * line) / HEIGHT_PX, text, va="center", size=9, color=MUTED)
    return head_px + 14, foot_px
