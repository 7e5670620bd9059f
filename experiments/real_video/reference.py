"""Stage reference: detections.npz -> reference.npz, where both people were in 3D, and how well that is known.

The calibration is refined on the keypoints first. Then each landmark is triangulated from all views, in which those
that disagree count little, left and right of a detection are exchanged where that fits the other views better, and the
paths are filtered over time as is usual in biomechanics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.signal import butter, sosfiltfilt

from experiments.real_video.detections import RATE_HZ, Detections, read_arrays, read_detections, write_arrays
from experiments.real_video.views import FOCAL_PX, TINY, information_of, offsets_px, refine_cameras, triangulate, weigh
from pipeline.lift.layouts import MEDIAPIPE_33
from pipeline.poses.geometry import RigidTransform, rays_from_pixels

LIMBS = tuple(range(11, 17)) + tuple(range(23, 29))  # shoulders, elbows, wrists, hips, knees, ankles
STEADY = tuple(joint for joint in LIMBS if joint not in (15, 16))  # wrists are too quick for the coarse path
PART_OF = np.repeat([0, 1, 2], [11, 12, 10])  # of each landmark: face, arms or legs, which are exchanged independently
ROUNDS = 10  # of exchanging left and right; three or four suffice
GAIN_PX = 5.0  # by which an exchange must bring a part nearer to the other views
OTHER_PX = 60.0  # median distance of joints from which on a detection is of somebody else
FOLLOWED_TRUST = 0.5  # of a landmark followed through the video, which lags, beside one found in the picture alone
CUT_OFF_HZ = 6.0  # of the filter over time: Butterworth, fourth order forwards and backwards
COARSE_HZ = 3.0  # of the path that is compared with while left and right are exchanged
EVERY = 5  # frames between those that the calibration is refined on

Sightings = Float[np.ndarray, "S F 33 2"]  # rays x / z and y / z of one person, for each view and kind of detection
Trust = Float[np.ndarray, "S F 33"]


@dataclass(frozen=True)
class Reference:
    """Both people in the world, in metres, their cameras, and how far off that may be.

    `sd_m` is the standard deviation of a landmark, from the spread of its keypoints about it and the angles between
    the views that agree; `left_out_m` how far it moves if a view is left out. `is_person` says whether the detector
    followed the right person, `is_swapped` whether it took its left for its right, in face, arms and legs.
    """

    joints_world_m: Float[np.ndarray, "P F 33 3"]
    sd_m: Float[np.ndarray, "P F 33"]
    left_out_m: Float[np.ndarray, "P V F 33"]
    is_person: Bool[np.ndarray, "P V F"]
    is_swapped: Bool[np.ndarray, "P V F 3"]
    rotation: Float[np.ndarray, "V 3 3"]
    translation_m: Float[np.ndarray, "V 3"]
    off_px: Float[np.ndarray, " V"]
    calibrated_off_px: Float[np.ndarray, " V"]

    @property
    def cameras_from_world(self) -> list[RigidTransform]:
        """Where the cameras were."""
        return [RigidTransform(*place) for place in zip(self.rotation, self.translation_m, strict=True)]


def make_reference(source: Path, out: Path) -> None:
    """Writes the reference of the detections in `source` to `out`."""
    detections = read_detections(source)
    rays, trust = _find_sightings(detections)
    calibrated = detections.cameras_from_world
    frames = np.s_[:, :, ::EVERY, LIMBS]
    refined, off_px, calibrated_off_px = refine_cameras(rays[frames], trust[frames], calibrated)
    people = [triangulate_person(rays[person], trust[person], refined) for person in range(len(rays))]
    points_m, sd_m, left_out_m, is_person, is_swapped = (np.stack(part) for part in zip(*people, strict=True))
    reference = Reference(
        joints_world_m=points_m,
        sd_m=sd_m,
        left_out_m=left_out_m,
        is_person=is_person,
        is_swapped=is_swapped,
        rotation=np.stack([camera.rotation for camera in refined]),
        translation_m=np.stack([camera.translation_m for camera in refined]),
        off_px=off_px,
        calibrated_off_px=calibrated_off_px,
    )
    write_arrays(out, asdict(reference))


def read_reference(path: Path) -> Reference:
    """Reads what make_reference wrote. Raises UserError if there is nothing."""
    return Reference(**read_arrays(path, stage="reference"))


def _find_sightings(detections: Detections) -> tuple[Float[np.ndarray, "P S F 33 2"], Float[np.ndarray, "P S F 33"]]:
    """Returns the rays of all landmarks and how far to trust them: first the views alone, then those followed."""
    kinds = ((detections.alone_px, 1.0), (detections.followed_px, FOLLOWED_TRUST))
    rays, trust = [], []
    for marks_px, weight in kinds:
        for view, camera in enumerate(detections.cameras):
            marks = marks_px[:, view]
            is_seen = np.isfinite(marks).all(-1)
            rays.append(rays_from_pixels(np.where(is_seen[..., None], marks[..., :2], 0.0), camera))
            trust.append(np.where(is_seen, weight * marks[..., 2], 0.0))
    return np.stack(rays, axis=1), np.stack(trust, axis=1)


def triangulate_person(
    rays: Sightings, trust: Trust, cameras: Sequence[RigidTransform]
) -> tuple[
    Float[np.ndarray, "F 33 3"],
    Float[np.ndarray, "F 33"],
    Float[np.ndarray, "V F 33"],
    Bool[np.ndarray, "V F"],
    Bool[np.ndarray, "V F 3"],
]:
    """Returns what Reference says of one person: where, how sure, moved how far, is it he, and is he swapped."""
    views = len(cameras)
    both = [*cameras, *cameras]
    is_swapped = np.zeros((*rays.shape[:2], 3), dtype=bool)
    used, is_person = trust, np.ones(rays.shape[:2], dtype=bool)
    for _ in range(ROUNDS):
        coarse_m = filter_path(triangulate(rays, used, both), cut_off_hz=COARSE_HZ)
        gains = find_swaps(coarse_m, rays, both)
        rays, trust = swap_parts(rays, gains), swap_parts(trust, gains)
        is_swapped ^= gains
        off_px = np.linalg.norm(offsets_px(coarse_m, rays, both), axis=-1)
        is_person = (np.median(off_px[..., STEADY], axis=-1) < OTHER_PX) & (trust > 0).any(-1)
        used = np.where(is_person[..., None], trust, 0.0)
        if not gains.any():
            break
    points_m = triangulate(rays, used, both)
    path_m = filter_path(points_m, cut_off_hz=CUT_OFF_HZ)
    left_out_m = []
    for view in range(views):
        others = [sighting for sighting in range(2 * views) if sighting % views != view]
        without_m = triangulate(rays[others], used[others], [both[sighting] for sighting in others])
        left_out_m.append(np.linalg.norm(filter_path(without_m, cut_off_hz=CUT_OFF_HZ) - path_m, axis=-1))
    sd_m = find_spread(points_m, rays, used, both)
    return path_m, sd_m, np.stack(left_out_m), is_person[views:], is_swapped[views:]


def filter_path(path_m: Float[np.ndarray, "F *N 3"], *, cut_off_hz: float) -> Float[np.ndarray, "F *N 3"]:
    """Returns the path without its quick changes, not delayed. Source: Winter 2009, section 2.2.4."""
    return sosfiltfilt(butter(2, cut_off_hz, fs=RATE_HZ, output="sos"), path_m, axis=0)


def find_swaps(
    path_m: Float[np.ndarray, "F 33 3"], rays: Sightings, cameras: Sequence[RigidTransform]
) -> Bool[np.ndarray, "S F 3"]:
    """Returns of which parts left and right lie nearer to the path if exchanged, by GAIN_PX on average over joints."""
    mirrored = list(MEDIAPIPE_33.mirrored)
    as_seen, exchanged = (
        np.minimum(np.linalg.norm(offsets_px(path_m, seen, cameras), axis=-1), 100.0)
        for seen in (rays, rays[:, :, mirrored])
    )
    gain_px = as_seen - exchanged
    paired = [[joint for joint in np.flatnonzero(part == PART_OF) if mirrored[joint] != joint] for part in range(3)]
    return np.stack([gain_px[..., joints].mean(-1) > GAIN_PX for joints in paired], axis=-1)


def swap_parts(values: Float[np.ndarray, "S F 33 *C"], is_swapped: Bool[np.ndarray, "S F 3"]) -> np.ndarray:
    """Returns values of landmarks with left and right exchanged in the parts marked."""
    chosen = is_swapped[..., PART_OF]
    chosen = chosen.reshape(*chosen.shape, *[1] * (values.ndim - chosen.ndim))
    return np.where(chosen, values[:, :, list(MEDIAPIPE_33.mirrored)], values)


def find_spread(
    points_m: Float[np.ndarray, "F 33 3"], rays: Sightings, trust: Trust, cameras: Sequence[RigidTransform]
) -> Float[np.ndarray, "F 33"]:
    """Returns the standard deviation of each point, the root of the sum of its variances along the three axes.

    The variance in the image is that of the keypoints about the points, weighted as they count, of all frames of the
    landmark. Both kinds of detection of a view err together, so a view counts once, with the more trusted.
    """
    views = len(cameras) // 2
    weight = weigh(points_m, rays, trust, cameras)
    square_px = (offsets_px(points_m, rays, cameras) ** 2).mean(-1)
    counts = weight * np.stack([camera.apply(points_m)[..., 2] for camera in cameras])
    variance_px = (counts * square_px).sum((0, 1)) / np.maximum(counts.sum((0, 1)), TINY)
    best = np.where(weight[:views] >= weight[views:], weight[:views], weight[views:])
    matrix, _ = information_of(rays[:views], best, cameras[:views])
    covariance = np.linalg.inv(matrix) * (variance_px / FOCAL_PX**2)[:, None, None]
    return np.sqrt(np.trace(covariance, axis1=-2, axis2=-1))
