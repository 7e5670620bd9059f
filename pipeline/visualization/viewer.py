"""Makes an interactive 3D viewer of scenes: one HTML file that needs nothing else, or parts for another page.

Another page takes `viewer_parts()` once, style and script, and `viewer_element(scene)` wherever a scene is to be. The
script turns every such element into a viewer when the page has loaded; `mountViewers()` does it for elements that come
later, and `mountViewer(element, scene)` for any element.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jaxtyping import Float
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.poses.skeleton import Skeleton
from pipeline.visualization.framing import frame_scene
from pipeline.visualization.palette import palette_css
from pipeline.visualization.scene import Body, Scene

TEMPLATES = Environment(
    loader=PackageLoader("pipeline.visualization", "assets"),
    autoescape=True,
    trim_blocks=True,
    undefined=StrictUndefined,
)
PIXEL_STEPS, MM_STEPS, METRE_STEPS = 10, 10, 1000  # stored steps per unit: pixels and errors in tenths, metres in mm


@dataclass(frozen=True)
class ViewerParts:
    """What a page needs once, however many viewers it has: the content of a <style> and of a <script>."""

    css: Markup
    js: Markup


def viewer_parts() -> ViewerParts:
    """Returns style and script of the viewer. Both are free of `</script` and `</style`, and of any address."""
    return ViewerParts(css=Markup(palette_css() + viewer_asset("viewer.css")), js=Markup(viewer_asset("viewer.js")))


def viewer_page(scenes: Sequence[Scene], *, title: str) -> str:
    """Returns one HTML file with a viewer for every scene; it needs no network. A single scene starts to play."""
    elements = [viewer_element(scene, autoplay=len(scenes) == 1) for scene in scenes]
    return TEMPLATES.get_template("page.html").render(title=title, viewer=viewer_parts(), elements=elements)


def viewer_element(scene: Scene, *, autoplay: bool = False) -> Markup:
    """Returns a viewer as HTML with its data. With `autoplay` it plays at once, unless the reader wants less motion."""
    template, data = TEMPLATES.get_template("viewer.html"), Markup(scene_json(scene))
    return Markup(template.render(title=scene.title, data=data, autoplay=autoplay))


def scene_json(scene: Scene) -> str:
    """Returns a scene as JSON that may stand inside a <script>. Positions are rounded to 1 mm, pixels to 0.1.

    Raises ValueError if the bodies, or the error, are not of equally many frames.
    """
    lengths = {len(body.joints_world_m) for body in scene.bodies}
    lengths |= set() if scene.error_mm is None else {len(scene.error_mm)}
    if len(lengths) != 1:
        raise ValueError(f"scene {scene.title}: expected bodies and errors of equally many frames, found {lengths}")
    view = frame_scene(scene)
    content = {
        "title": scene.title,
        "caption": scene.caption,
        "rate": scene.rate_hz,
        "frames": lengths.pop(),
        "image": scene.image_size_px,
        "yaw": round(view.yaw, 4),
        "radius": round(view.radius_m, 3),
        "halfHeight": round(view.half_height_m, 3),
        "centre": _packed(view.centre_m, METRE_STEPS),
        "error": None if scene.error_mm is None else _packed(scene.error_mm, MM_STEPS),
        "bodies": [_body(body) for body in scene.bodies],
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")


def _body(body: Body) -> dict[str, object]:
    content = {
        "name": body.name,
        "faint": body.faint,
        "skeleton": skeleton_tree(body.skeleton),
        "joints": _packed(body.joints_world_m, METRE_STEPS),
    }
    if body.pixels is not None and body.in_skeleton is not None:
        content |= {"inSkeleton": skeleton_tree(body.in_skeleton), "pixels": _packed(body.pixels, PIXEL_STEPS)}
    return content


def skeleton_tree(skeleton: Skeleton) -> dict[str, object]:
    """Returns what the viewer's script has to know of a skeleton."""
    return {key: getattr(skeleton, key) for key in ("joints", "parents", "left", "right")}


def _packed(values: Float[np.ndarray, "*N"], steps: int) -> dict[str, object]:
    """Returns numbers in whole steps per unit, little-endian, in base64; the type's lowest number stands for NaN."""
    whole = np.round(np.asarray(values, dtype=np.float64) * steps)
    largest = np.abs(whole[np.isfinite(whole)]).max(initial=0)
    kind = "i2" if largest <= np.iinfo("i2").max else "i4"
    numbers = np.where(np.isfinite(whole), whole, np.iinfo(kind).min).astype(f"<{kind}")
    return {"steps": steps, "type": kind, "data": b64encode(numbers.tobytes()).decode("ascii")}


def viewer_asset(name: str) -> str:
    """Returns the text of a file in pipeline/visualization/assets."""
    return (files("pipeline.visualization") / "assets" / name).read_text(encoding="utf-8")
