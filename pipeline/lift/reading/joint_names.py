"""Finds the layout that joints of given names make, whatever way a tool or a user writes the names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.lift.layouts import LAYOUTS
from pipeline.system.errors import UserError

LIMBS = ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Foot")
FEWEST_LIMB_JOINTS = 8  # of the twelve, for names that nobody said are a known layout's
WORDS = {
    "ankle": "Foot", "ank": "Foot", "foot": "Foot", "footindex": "Toe", "sho": "Shoulder", "elb": "Elbow",
    "wri": "Wrist", "wr": "Wrist", "kne": "Knee", "root": "Hip", "pelvis": "Hip", "midhip": "Hip", "hipcenter": "Hip",
    "hips": "Hip", "centerhip": "Hip", "hipmid": "Hip", "hiproot": "Hip", "tophead": "HeadTop", "headtop": "HeadTop",
    "topofhead": "HeadTop", "neckbase": "NeckBase", "upperneck": "UpperNeck", "neckupper": "UpperNeck",
    "neckorhead": "Neck", "neckornose": "NeckNose", "neckslashnose": "NeckNose", "eyeinner": "EyeInner",
    "eyeouter": "EyeOuter", "bigtoe": "BigToe", "smalltoe": "SmallToe", "chest": "Thorax",
}  # fmt: skip
# Joints of a layout that public tools call otherwise than the layout does.
OTHER_NAMES: dict[str, tuple[dict[str, str], ...]] = {
    "h36m17": ({"Neck/Nose": "NeckBase"}, {"Neck/Nose": "Nose"}, {"Neck/Nose": "Neck"}),
    "mpii16": ({"Spine": "Thorax", "Thorax": "UpperNeck", "Head": "HeadTop"},),
}


@dataclass(frozen=True)
class NamedLayout:
    """A layout found by the names of joints: the column that holds each of its joints, None where there is none."""

    layout: str
    columns: tuple[int | None, ...]
    unused: tuple[str, ...]


def find_layout(names: Sequence[str], *, stated: str | None, where: str) -> NamedLayout | None:
    """Returns the layout that joints of these names make, or how they make the `stated` one; None if they name none.

    Without a stated layout it is the one with most of its joints among the names. Then UserError, naming `where`, is
    raised if the names have fewer than FEWEST_LIMB_JOINTS of the limbs of any; and with one, if some names are joints,
    but none of its.
    """
    known: dict[str, int] = {}
    for column, name in sorted(enumerate(names), key=lambda item: "ank" not in item[1].lower()):  # before "foot"
        known.setdefault(normalize_name(name), column)
    best: NamedLayout | None = None
    for layout in [stated] if stated else LAYOUTS:
        for other in ({}, *OTHER_NAMES.get(layout, ())):
            joints = [normalize_name(other.get(joint, joint)) for joint in LAYOUTS[layout].joints]
            columns = tuple(known.get(joint) for joint in joints)
            unused = tuple(name for column, name in enumerate(names) if column not in columns)
            if best is None or _rank(columns) > _rank(best.columns):
                best = NamedLayout(layout, columns, unused)
    limbs = sum(side + limb in known for side in "LR" for limb in LIMBS)
    if best is not None and _rank(best.columns)[0] and (stated or limbs >= FEWEST_LIMB_JOINTS):
        return best
    every = {normalize_name(joint) for skeleton in LAYOUTS.values() for joint in skeleton.joints}
    if stated and len(names) >= len(LAYOUTS[stated].joints) and not every & known.keys():
        return None
    expected = f"the joints of '{stated}'" if stated else "joints such as left_shoulder and right_knee"
    found = f"{', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"
    hint = "" if stated else "; a --layout reads joints by their number"
    raise UserError(f"{where}: joint names: expected {expected}, found {found}{hint}")


def normalize_name(name: str) -> str:
    """Returns the name of a joint as the layouts write it: left_ankle, "L Ankle" and ankleL are LFoot."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]
    side = next((word[0].upper() for word in words if word in ("l", "r", "left", "right")), "")
    rest = "".join(word for word in words if word not in ("l", "r", "left", "right"))
    bases = {base.lower(): base for base in (*LIMBS, *WORDS.values(), "Eye", "Ear", "Heel")}
    for prefix in () if side else ("left", "right", "l", "r"):  # without a mark between side and joint
        if rest.startswith(prefix) and (rest[len(prefix) :] in WORDS or rest[len(prefix) :] in bases):
            side, rest = prefix[0].upper(), rest[len(prefix) :]
            break
    return side + WORDS.get(rest, bases.get(rest, rest.capitalize()))


def _rank(columns: Sequence[int | None]) -> tuple[int, int]:
    """Returns how well a layout fits: how many of its joints there are, then how few are missing."""
    missing = sum(column is None for column in columns)
    return len(columns) - missing, -missing
