"""Draws scenes as films (MP4, GIF) and as strips of pictures (PNG), without a screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from imageio_ffmpeg import count_frames_and_secs, write_frames
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from pipeline.system.errors import UserError
from pipeline.system.files import new_file
from pipeline.visualization.framing import Framing, frame_scene
from pipeline.visualization.palette import SINGLE, TRUTH, Colours, body_colours, side_of
from pipeline.visualization.scene import Body, Scene

WIDTH_PX, HEIGHT_PX, DPI = 1280, 720, 100
FASTEST_GIF_HZ = 50  # the fastest that browsers play a GIF; faster films are thinned out to it
LENGTH_TOLERANCE_S = 0.1  # a GIF holds its frames for whole hundredths of a second
PITCH = 0.16  # radians of the camera above the horizon
LENS = 0.5  # half the picture's height at distance 1
MARGIN = 1.12  # of the picture around the bodies
LIMB_M, TRUNK_M, FAINT_M, HEAD_M = 0.055, 0.07, 0.025, 0.17
TEXT, MUTED, PANEL, GRID, SHADOW = "#171b22", "#667085", "#f1f4f8", "#c3cad5", "#dde2ea"
Box = tuple[float, float, float, float]  # left, bottom, width, height as parts of the figure
Draw = Callable[[int], list[Artist]]  # changes a part of the picture to a frame; returns what it is made of


def write_movie(path: Path, scene: Scene) -> None:
    """Writes the scene as a film at its own rate: .mp4 (H.264, 1280 x 720) or .gif (640 x 360).

    Raises UserError if the suffix is another one or the encoder fails; then there is no file.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise UserError(f"{path}: expected a film's name to end in .mp4 or .gif, found '{path.suffix}'")
    rate = Fraction(scene.rate_hz).limit_denominator(1001)  # 30000/1001 is the rate of NTSC
    how: dict[str, Any]
    if path.suffix == ".mp4":
        how = {"codec": "libx264", "output_params": ["-threads", "1", "-crf", "20", "-movflags", "+faststart"]}
    else:
        thinned = f"fps={FASTEST_GIF_HZ}," if rate > FASTEST_GIF_HZ else ""
        colours = "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none"
        filters = f"{thinned}scale={WIDTH_PX // 2}:-1:flags=area,{colours}"
        how = {"codec": "gif", "pix_fmt_out": "pal8", "output_params": ["-vf", filters]}
    # The writer itself would round the rate to 0.01 Hz, choose a quality, and let the encoder talk to the terminal.
    how |= {"pix_fmt_in": "rgba", "input_params": ["-r", str(rate)], "quality": None, "ffmpeg_log_level": "quiet"}
    with new_file(path) as partial:
        try:
            with closing(write_frames(partial, (WIDTH_PX, HEIGHT_PX), **how)) as encoder:
                encoder.send(None)  # starts it
                for picture in _pictures(scene):
                    encoder.send(picture)
            _, seconds = count_frames_and_secs(str(partial))
        except (OSError, RuntimeError) as error:  # the encoder has ended early, or left nothing that can be read
            raise UserError(f"{path}: expected the film to be encoded, found: {str(error).splitlines()[0]}") from error
        expected_s = _frames(scene) / scene.rate_hz
        if abs(seconds - expected_s) > LENGTH_TOLERANCE_S:  # a full disk, for example
            raise UserError(f"{path}: expected a film of {expected_s:.2f} s, the encoder wrote {seconds:.2f} s")


def write_strip(path: Path, scene: Scene, *, pictures: int = 8) -> None:
    """Writes a PNG of `pictures` frames side by side, evenly over the scene's time.

    Raises UserError if the name does not end in .png.
    """
    if path.suffix != ".png":
        raise UserError(f"{path}: expected a picture's name to end in .png, found '{path.suffix}'")
    frames = np.unique(np.linspace(0, _frames(scene) - 1, pictures).round().astype(int)).tolist()
    width_px, height_px, head_px, foot_px = 230, 330, 74, 44
    figure = _figure(len(frames) * width_px + 20, height_px + head_px + foot_px)
    view = frame_scene(scene)
    for place, frame in enumerate(frames):
        axes = _panel(figure, 10 + place * width_px + 3, foot_px, width_px - 6, height_px)
        _space(axes, scene, view)(frame)
        error_mm = np.nan if scene.error_mm is None else scene.error_mm[frame]
        error = "" if np.isnan(error_mm) else f"   {error_mm:.0f} mm"
        label = f"{frame / scene.rate_hz:.2f} s{error}"
        axes.text(0.5, -0.04, label, transform=axes.transAxes, ha="center", va="top", size=9, color=MUTED)
    _heading(figure, scene)
    with new_file(path) as partial:
        figure.savefig(partial)


def _pictures(scene: Scene) -> Iterator[memoryview]:
    """Yields the film's pictures, RGBA. What does not move is drawn once."""
    figure = _figure(WIDTH_PX, HEIGHT_PX)
    canvas = FigureCanvasAgg(figure)
    draws: list[Draw] = []
    foot_px = 130 if scene.error_mm is not None else 50
    height_px = HEIGHT_PX - 90 - foot_px
    flat = any(body.pixels is not None for body in scene.bodies)
    wide_px = 760 if flat else WIDTH_PX - 40
    draws.append(_space(_panel(figure, 20, foot_px, wide_px, height_px), scene, frame_scene(scene)))
    if flat:
        panel = _panel(figure, wide_px + 32, foot_px, WIDTH_PX - wide_px - 52, height_px)
        draws.append(_keypoints(panel, scene))
    if scene.error_mm is not None:
        draws.append(_error(figure.add_axes(_place(figure, 70, 40, WIDTH_PX - 90, 74)), scene, scene.error_mm))
    _heading(figure, scene)
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


def _figure(width_px: int, height_px: int) -> Figure:
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _place(figure: Figure, left_px: int, bottom_px: int, width_px: int, height_px: int) -> Box:
    whole = figure.get_size_inches() * DPI
    return left_px / whole[0], bottom_px / whole[1], width_px / whole[0], height_px / whole[1]


def _panel(figure: Figure, left_px: int, bottom_px: int, width_px: int, height_px: int) -> Axes:
    """Returns axes whose units are pixels from their top left corner."""
    axes = figure.add_axes(_place(figure, left_px, bottom_px, width_px, height_px), facecolor=PANEL)
    axes.set(xlim=(0, width_px), ylim=(height_px, 0), xticks=[], yticks=[])
    axes.spines[:].set_color("#dfe3ea")
    return axes


def _heading(figure: Figure, scene: Scene) -> None:
    width, height = figure.get_size_inches() * DPI
    figure.text(20 / width, 1 - 26 / height, scene.title, va="center", size=13, weight="semibold", color=TEXT)
    people = sum(not body.faint for body in scene.bodies)
    sides = "left blue, right orange" if people == 1 else "left dark, right light"
    figure.text(1 - 20 / width, 1 - 52 / height, sides, ha="right", va="center", size=9, color=MUTED)
    longest = int((width - 200) / 6.5)  # letters of 6.5 pixels, beside the word on sides
    caption = scene.caption if len(scene.caption) <= longest else scene.caption[: longest - 1] + "…"
    figure.text(20 / width, 1 - 52 / height, caption, va="center", size=9, color=MUTED)


def _colours(scene: Scene, body: Body) -> Colours:
    if body.faint:
        return Colours(TRUTH[0], TRUTH[0], TRUTH[0])
    people = [other for other in scene.bodies if not other.faint]
    return body_colours([other is body for other in people].index(True), people=len(people))


def _space(axes: Axes, scene: Scene, view: Framing) -> Draw:
    """Returns what draws a frame in perspective: ground, shadows, and limbs from the farthest to the nearest."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    ground = _lines(axes, colors=GRID, linewidths=0.8)
    shadows = _lines(axes, colors=SHADOW, linewidths=5)
    limbs = _lines(axes)
    grid_m = _grid_m(max(view.radius_m, view.half_height_m))

    def draw(frame: int) -> list[Artist]:
        def in_panel(points_m: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 4"]:
            return _perspective(points_m, view, frame, width, height)

        lines = in_panel(grid_m + np.round(view.centre_m[frame]) * [1, 1, 0])
        ground.set_segments(list(lines[(lines[..., 2] > 0.3).all(1), :, :2]))
        shadow_segments, segments, depths, colours, widths = [], [], [], [], []
        for body in scene.bodies:
            joints_m = body.joints_world_m[frame]
            places, on_ground = in_panel(joints_m), in_panel(joints_m * [1, 1, 0])[:, :2]
            body_colour = _colours(scene, body)
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
        shadows.set_segments(shadow_segments)
        # Each limb twice: a light edge sets it off from those behind.
        limbs.set_segments([segments[place] for place in order for _ in range(2)])
        limbs.set_color([colour for place in order for colour in (PANEL, colours[place])])
        limbs.set_linewidth([wide for place in order for wide in (widths[place] + 1.6, widths[place])])
        return [ground, shadows, limbs]

    return draw


def _lines(axes: Axes, **look: Any) -> LineCollection:
    lines = LineCollection([], capstyle="round", snap=False, **look)  # snapped, a dot can lose its length
    axes.add_collection(lines)
    return lines


def _grid_m(reach_m: float) -> Float[np.ndarray, "L 2 3"]:
    """Returns lines on the ground, 1 m apart, in pieces of 1 m, around the origin."""
    half = int(np.ceil(2 * reach_m))
    across = [[[i, j, 0.0], [i + 1, j, 0.0]] for i in range(-half, half) for j in range(-half, half + 1)]
    return np.array(across + [[[y, x, z] for x, y, z in piece] for piece in across])


def _perspective(
    points_m: Float[np.ndarray, "*N 3"], view: Framing, frame: int, width: float, height: float
) -> Float[np.ndarray, "*N 4"]:
    """Returns each point's place in the panel (right, down), its depth in m, and pixels per metre there."""
    aspect = min(width, 2.2 * height) / height
    fits_m = max(MARGIN * view.half_height_m / LENS, 1.05 * view.radius_m / (LENS * aspect))
    from_centre_m = points_m - view.centre_m[frame]
    right = from_centre_m @ [np.cos(view.yaw), np.sin(view.yaw), 0]
    ahead = from_centre_m @ [-np.sin(view.yaw), np.cos(view.yaw), 0]
    up = from_centre_m[..., 2]
    depth = fits_m + 0.8 * (view.radius_m - 0.5) + np.cos(PITCH) * ahead - np.sin(PITCH) * up
    scale = height / (2 * LENS) / np.maximum(depth, 0.05)
    down = height / 2 - (np.sin(PITCH) * ahead + np.cos(PITCH) * up) * scale
    return np.stack([width / 2 + right * scale, down, depth, scale], axis=-1)


def _keypoints(axes: Axes, scene: Scene) -> Draw:
    """Returns what draws the 2D keypoints of a frame, as large as all of them fit over the whole time."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    known = [body.pixels[np.isfinite(body.pixels).all(-1)] for body in scene.bodies if body.pixels is not None]
    pixels = np.concatenate([*known, np.zeros((0, 2))])
    lowest, highest = (pixels.min(0), pixels.max(0)) if len(pixels) else (np.zeros(2), np.ones(2))
    scale = 0.86 * min(np.array([width, height]) / np.maximum(highest - lowest, 1))
    shift = np.array([width, height]) / 2 - scale * (lowest + highest) / 2
    limbs = _lines(axes, linewidths=2.2)

    def draw(frame: int) -> list[Artist]:
        segments, colours = [], []
        for body in scene.bodies:
            if body.pixels is None or body.in_skeleton is None:
                continue
            places = body.pixels[frame] * scale + shift
            for ends in body.in_skeleton.bones:
                if np.isfinite(places[list(ends)]).all():
                    segments.append(places[list(ends)])
                    colours.append(_colours(scene, body)[side_of(body.in_skeleton, ends[1])])
        limbs.set_segments(segments)
        limbs.set_color(colours)
        return [limbs]

    return draw


def _error(axes: Axes, scene: Scene, error_mm: Float[np.ndarray, " F"]) -> Draw:
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
