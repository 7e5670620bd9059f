"""Scales lifted people to the height that they are known to have, which one camera cannot see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pipeline.lift.people import BodyHeights, LiftedPerson
from pipeline.poses.skeleton import Skeleton
from pipeline.system.errors import UserError

HEIGHT_LIMITS_M = (0.5, 2.75)  # the shortest and the tallest adult on record: 0.55 and 2.72 m
# Legs from hip to knee to ankle, as a share of the height: 0.471 of 4082 men and 0.480 of 1986 women, trochanterion to
# mid patella to lateral malleolus, in the ANSUR II survey of 2012.
LEGS_OF_HEIGHT = 0.476
# The trunk from the hips over the spine to the thorax, as a share of the legs: the mean of 24 bodies of the CMU
# database and 6 of UI-PRMD. The thorax joint lies below the cervicale, to which ANSUR measures 0.726.
TRUNK_OF_LEGS = 0.611
CHAIN_OF_HEIGHT = LEGS_OF_HEIGHT * (1 + TRUNK_OF_LEGS)  # varies by 1 % among ANSUR's people, the legs alone by 3 %
LEGS = (("LHip", "LKnee", "LFoot"), ("RHip", "RKnee", "RFoot"))
THORAX = ("Thorax", "Neck")  # what the layouts call it


def estimate_height_m(joints_m: Float[np.ndarray, "F J 3"], skeleton: Skeleton) -> float:
    """Returns how tall an adult of these limbs stands, in metres, whatever his posture; NaN if no frame has the limbs.

    Each limb counts by the median of its length over the frames: thighs, shins, and the trunk from the root to the
    thorax. `joints_m` are in any frame. Raises ValueError if the skeleton has no legs or no thorax.
    """
    joint_of = {name: joint for joint, name in enumerate(skeleton.joints)}
    thorax = next((joint_of[name] for name in THORAX if name in joint_of), None)
    if thorax is None or not all(name in joint_of for leg in LEGS for name in leg):
        raise ValueError(f"skeleton {skeleton.name}: expected legs and a thorax, found {', '.join(skeleton.joints)}")
    trunk = [thorax]
    while trunk[-1] != skeleton.root:
        trunk.append(skeleton.parents[trunk[-1]])
    legs_m = [_measure_chain(joints_m, [joint_of[name] for name in leg]) for leg in LEGS]
    return (sum(legs_m) / len(legs_m) + _measure_chain(joints_m, trunk)) / CHAIN_OF_HEIGHT


def match_heights(heights_m: BodyHeights, persons: Sequence[str], source: str) -> dict[str, float]:
    """Returns the stated height of each of the persons for whom one is stated: one number is everybody's.

    Raises UserError if a height is not a person's, or is stated for somebody else.
    """
    if heights_m is None:
        return {}
    by_person = dict(heights_m) if isinstance(heights_m, Mapping) else dict.fromkeys(persons, heights_m)
    low, high = HEIGHT_LIMITS_M
    for person, height_m in by_person.items():
        if not low <= height_m <= high:
            raise UserError(f"body height: expected {low:g} to {high:g} metres, found {height_m:g}")
        if person not in persons:
            raise UserError(f"{source}: body height: expected one of {', '.join(persons)}, found '{person}'")
    return by_person


def parse_heights(texts: Sequence[str]) -> BodyHeights:
    """Returns the height in metres of everybody, as in "1.78", or of each person, as in "0=1.78".

    Raises UserError if a text is neither, or there are several heights of the same people.
    """
    if len(texts) == 1 and "=" not in texts[0]:
        return _parse_metres(texts[0])
    by_person: dict[str, float] = {}
    for text in texts:
        person, equals, number = text.rpartition("=")
        if not equals or person in by_person:
            raise UserError(f"body height: expected one of everybody or one of each person, found {', '.join(texts)}")
        by_person[person] = _parse_metres(number)
    return by_person or None


def scale_people(
    people: Sequence[LiftedPerson], heights_m: Mapping[str, float], skeleton: Skeleton, *, unstated: str
) -> tuple[tuple[LiftedPerson, ...], list[str]]:
    """Returns the people, those with a stated height scaled to it, and how tall everybody is in words.

    Poses and paths are scaled about the camera, so that they lie on the same keypoints as before. Somebody who was
    not lifted in any frame stays as he is. `unstated` says where the size of the others comes from.
    """
    scaled, stated, predicted = [], [], []
    for person in people:
        height_m = estimate_height_m(person.joints_camera_m, skeleton)
        scale = heights_m.get(person.person, height_m) / height_m
        if np.isnan(scale):
            scaled.append(person)
        elif person.person in heights_m:
            scaled.append(_scale(person, scale))
            height_m = heights_m[person.person]
            stated.append(f"person {person.person} {height_m:.2f} m tall ({scale:.3f} times the model's size)")
        else:
            scaled.append(person)
            predicted.append(f"person {person.person} about {height_m:.2f} m tall")
    words = [f"body size: scaled to the stated height, {', '.join(stated)}"] if stated else []
    if predicted:
        words.append(f"body size: {unstated}, {', '.join(predicted)}")
    return tuple(scaled), words


def _parse_metres(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"body height: expected metres, as in 1.78 or PERSON=1.78, found '{text}'") from None


def _scale(person: LiftedPerson, scale: float) -> LiftedPerson:
    return replace(
        person,
        joints_camera_m=person.joints_camera_m * scale,
        root_camera_m=person.root_camera_m * scale,
        scale=person.scale * scale,
    )


def _measure_chain(joints_m: Float[np.ndarray, "F J 3"], joints: Sequence[int]) -> float:
    """Returns the sum of the median distances from each joint to the next; NaN if one is in no frame."""
    lengths_m = np.linalg.norm(np.diff(joints_m[:, joints], axis=1), axis=-1)
    lengths_m = lengths_m[np.isfinite(lengths_m).all(1)]
    return float(np.median(lengths_m, axis=0).sum()) if len(lengths_m) else np.nan
