"""Draws scenes as films (MP4, GIF) and as strips of pictures (PNG), without a screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.system.errors import UserError
from pipeline.system.files import new_file
from pipeline.visualization.encoder import encode_film
from pipeline.visualization.framing import frame_scene
from pipeline.visualization.panels import (
    DPI,
    MUTED,
    TEXT,
    Draw,
    add_panel,
    animate_error,
    animate_keypoints,
    animate_space,
    keypoints_box,
    make_figure,
    place_in,
    wrap_text,
)
from pipeline.visualization.scene import Scene

WIDTH_PX, HEIGHT_PX = 1280, 720
LINE_PX = 14  # between lines of the caption


def write_movie(path: Path, scene: Scene) -> None:
    """Writes the scene as a film at its own rate: .mp4 (H.264, 1280 x 720) or .gif (640 x 360).

    Raises UserError if the suffix is another one or the encoder fails; then there is no file.
    """
    encode_film(path, _pictures(scene), size_px=(WIDTH_PX, HEIGHT_PX), rate_hz=scene.rate_hz, frames=_frames(scene))


def write_strip(path: Path, scene: Scene, *, pictures: int = 8) -> None:
    """Writes a PNG of `pictures` frames side by side, evenly over the scene's time.

    Raises UserError if the name does not end in .png.
    """
    if path.suffix != ".png":
        raise UserError(f"{path}: expected a picture's name to end in .png, found '{path.suffix}'")
    frames = np.unique(np.linspace(0, _frames(scene) - 1, pictures).round().astype(int)).tolist()
    width_px, height_px, foot_px = 230, 330, 44
    whole_px = len(frames) * width_px + 20
    title, caption = wrap_text(scene.title, whole_px - 40, letter_px=10.0), wrap_text(_caption(scene), whole_px - 40)
    head_px = 34 + 26 * len(title) + LINE_PX * len(caption)
    figure = make_figure(whole_px, height_px + head_px + foot_px)
    view = frame_scene(scene)
    for place, frame in enumerate(frames):
        axes = add_panel(figure, 10 + place * width_px + 3, foot_px, width_px - 6, height_px)
        animate_space(axes, scene, view)(frame)
        error_mm = np.nan if scene.error_mm is None else scene.error_mm[frame]
        error = "" if np.isnan(error_mm) else f"   {error_mm:.0f} mm"
        label = f"{frame / scene.rate_hz:.2f} s{error}"
        axes.text(0.5, -0.04, label, transform=axes.transAxes, ha="center", va="top", size=9, color=MUTED)
    _heading(figure, title, caption)
    with new_file(path) as partial:
        figure.savefig(partial)


def _pictures(scene: Scene) -> Iterator[memoryview]:
    """Yields the film's pictures, RGBA. What does not move is drawn once."""
    figure = make_figure(WIDTH_PX, HEIGHT_PX)
    canvas = FigureCanvasAgg(figure)
    draws: list[Draw] = []
    title, caption = wrap_text(scene.title, WIDTH_PX - 160, letter_px=10.0), wrap_text(_caption(scene), WIDTH_PX - 40)
    foot_px = 130 if scene.error_mm is not None else 50
    height_px = HEIGHT_PX - 50 - 26 * len(title) - LINE_PX * len(caption) - foot_px
    box = keypoints_box(scene)
    flat_px = 0 if box is None else int(np.clip(height_px * box.width_px / box.height_px, 320, 560))
    wide_px = WIDTH_PX - 40 if box is None else WIDTH_PX - 52 - flat_px
    draws.append(animate_space(add_panel(figure, 20, foot_px, wide_px, height_px), scene, frame_scene(scene)))
    if box is not None:
        panel = add_panel(figure, wide_px + 32, foot_px, flat_px, height_px)
        draws.append(animate_keypoints(panel, scene, box))
    if scene.error_mm is not None:
        draws.append(animate_error(figure.add_axes(place_in(figure, 70, 40, WIDTH_PX - 90, 74)), scene, scene.error_mm))
    _heading(figure, title, caption)
    clock = figure.text(1 - 20 / WIDTH_PX, 1 - 26 / HEIGHT_PX, "", ha="right", va="center", size=13, color=TEXT)
    moving = [artist for draw in draws for artist in draw(0)] + [clock]
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for frame in range(_frames(scene)):
        canvas.restore_region(still)
        clock.set_text(f"{frame / scene.rate_hz:.2f} s")
        for draw in draws:
            draw(frame)
        for artist in moving:
            figure.draw_artist(artist)
        yield canvas.buffer_rgba()


def _frames(scene: Scene) -> int:
    return len(scene.bodies[0].joints_world_m)


def _heading(figure: Figure, title: Sequence[str], caption: Sequence[str]) -> None:
    """Writes lines of text over the panels."""
    width, height = figure.get_size_inches() * DPI
    for line, text in enumerate(title):
        down = 1 - (26 + 26 * line) / height
        figure.text(20 / width, down, text, va="center", size=13, weight="semibold", color=TEXT)
    for line, text in enumerate(caption):
        down = 1 - (26 + 26 * len(title) + LINE_PX * line) / height
        figure.text(20 / width, down, text, va="center", size=9, color=MUTED)


def _caption(scene: Scene) -> str:
    people = sum(not body.faint for body in scene.bodies)
    return f"{scene.caption} {'Left blue, right orange.' if people == 1 else 'Left dark, right light.'}"
