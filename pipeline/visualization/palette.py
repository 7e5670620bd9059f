"""The colours of bodies, charts and rows, the same in pages, films and 3D files."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.poses.skeleton import Skeleton


class Colours(NamedTuple):
    """A body's colours on its left, on its right and in its middle, as #rrggbb."""

    left: str
    right: str
    middle: str


# A single person is blue on the left and orange on the right. Of several people each has a colour, dark on the left and
# light on the right; rows of a chart take their middle. The second of each pair is for a dark ground.
SINGLE = Colours("#2a6be0", "#ea6a24", "#454f60"), Colours("#5b98ff", "#ff8a4a", "#c3cad6")
PEOPLE = (
    (Colours("#174fb8", "#86b1f7", "#2f6fe0"), Colours("#3f7ff0", "#b8d2ff", "#6ea3ff")),
    (Colours("#b3470c", "#f7ac7c", "#e8681f"), Colours("#e0641f", "#ffc7a6", "#ff8a4a")),
    (Colours("#08705f", "#7cd3c2", "#13a089"), Colours("#149a83", "#a0ebdc", "#2fc5ab")),
    (Colours("#97146b", "#f08fca", "#cf2f98"), Colours("#c93196", "#ffb5e2", "#ef5fbb")),
    (Colours("#7a5c00", "#e5c357", "#b98d0a"), Colours("#b28a12", "#f6de94", "#deb42f")),
    (Colours("#5220b0", "#b99af5", "#7c46e0"), Colours("#7a48e0", "#d3c0ff", "#a27bff")),
    (Colours("#2d6a10", "#9ed274", "#4c9a20"), Colours("#4d9224", "#bfe8a1", "#77c244")),
    (Colours("#a3122a", "#f592a0", "#dc3049"), Colours("#d63a52", "#ffbac3", "#ff6b80")),
)
TRUTH = "#a3abb8", "#778294"  # the true pose behind a prediction, on a light and on a dark ground


def body_colours(number: int, *, people: int) -> Colours:
    """Returns the colours, on a light ground, of person `number` among so many people."""
    return SINGLE[0] if people == 1 else PEOPLE[number % len(PEOPLE)][0]


def side_of(skeleton: Skeleton, joint: int) -> int:
    """Returns the place in `Colours` of the colour of a joint, and of the bone that ends in it."""
    return 0 if joint in skeleton.left else 1 if joint in skeleton.right else 2


def palette_css() -> str:
    """Returns the colours as variables of CSS, such as --pl-p0-left, for a light and for a dark ground."""
    light, dark = (_variables(ground) for ground in (0, 1))
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def linear_rgb(colour: str) -> tuple[float, float, float]:
    """Returns #rrggbb as linear light from 0 to 1. Source: IEC 61966-2-1, the definition of sRGB."""
    parts = (int(colour[first : first + 2], 16) / 255 for first in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def _variables(ground: int) -> str:
    bodies = {"one": SINGLE[ground]} | {f"p{number}": person[ground] for number, person in enumerate(PEOPLE)}
    variables = [f"--pl-{name}-{side}: {c}" for name, body in bodies.items() for side, c in body._asdict().items()]
    return "; ".join([*variables, f"--pl-faint: {TRUTH[ground]};"])
