"""Stage real_video: a checkpoint and MediaPipe's own landmarks against the reference -> results.json.

Reads detections.npz, reference.npz and a checkpoint. The keypoints of a person followed through the video are lifted as
`poselift lift` does; frames in which the detector followed nobody or somebody else are empty. Both are scored on the
same frames and joints: Human3.6M's 17, which are the same weighted sums of MediaPipe's landmarks in the reference and
in MediaPipe's poses (pipeline/lift/layouts.py); the model has learnt those of its motion capture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from einops import einsum
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from experiments.real_video.detections import IMAGE_SIZE_PX, PEOPLE, RATE_HZ, VIEWS, Detections, read_detections
from experiments.real_video.records import Errors, Parts, ReferenceScores, Trial, ViewScores
from experiments.real_video.reference import LIMBS, Reference, read_reference, swap_parts
from pipeline.lift.input import build_camera
from pipeline.lift.layouts import DERIVED, MEDIAPIPE_33
from pipeline.lift.lifter import DEPTH_SIGMA_S, Lifter
from pipeline.lift.people import Recording, Track
from pipeline.lift.scene.root_path import fit_root_path, smooth_depth
from pipeline.poses.frames import find_runs
from pipeline.poses.geometry import Camera, RigidTransform, project, rays_from_pixels
from pipeline.poses.metrics import average_over_frames, clip_scores, mpjpe_mm
from pipeline.poses.skeleton import H36M_17
from pipeline.system.errors import UserError

MEDIAPIPE = "mediapipe"
LIFTED = "lifted"
KNOWN_LENS, NO_SWAPS, EXACT, AIMED = "known lens", "no swaps", "exact keypoints", "aimed and upright"
UNSURE_M = 0.06  # standard deviation of a joint of the reference, from which on its frame is not scored
BONES = ((11, 13), (13, 15), (12, 14), (14, 16), (23, 25), (25, 27), (24, 26), (26, 28))
HEIGHT = (("RFoot", "RKnee"), ("RKnee", "RHip"), ("Hip", "Thorax"), ("Thorax", "Head"))

Pose = Float[np.ndarray, "F 17 3"]


@dataclass(frozen=True)
class Scene:
    """One person in one view: what the detector saw, what was true, and the camera.

    `marks_px` are MediaPipe's landmarks, NaN where they are not this person's; `true_m` in the camera frame.
    """

    marks_px: Float[np.ndarray, "F 33 3"]
    marks_m: Float[np.ndarray, "F 33 3"]
    is_swapped: Bool[np.ndarray, "F 3"]
    true_m: Pose
    camera: Camera
    camera_from_world: RigidTransform


def measure(checkpoint: Path, detections: Path, reference: Path) -> Trial:
    """Returns all errors of the checkpoint. Raises UserError if a file is missing or the model has other joints."""
    lifter = Lifter.load(checkpoint)
    skeletons = [skeleton.name for skeleton in lifter.card.skeletons]
    if skeletons != [H36M_17.name] * 2:
        raise UserError(f"{checkpoint}: expected a model from {H36M_17.name} to itself, found {' to '.join(skeletons)}")
    seen, known = read_detections(detections), read_reference(reference)
    return Trial(
        checkpoint=str(checkpoint),
        row=lifter.card.row,
        calibrated_off_px=tuple(known.calibrated_off_px.round(1).tolist()),
        refined_off_px=tuple(known.off_px.round(1).tolist()),
        reference=tuple(score_reference(known, person) for person in range(len(PEOPLE))),
        views=tuple(
            score_view(lifter, seen, known, person, view) for person in range(len(PEOPLE)) for view in range(len(VIEWS))
        ),
    )


def score_reference(reference: Reference, person: int) -> ReferenceScores:
    """Returns how well a person's joints are known, and how much his bones, which are rigid, change their lengths."""
    joints_m = reference.joints_world_m[person]
    lengths_m = [np.linalg.norm(joints_m[:, a] - joints_m[:, b], axis=-1) for a, b in BONES]
    return ReferenceScores(
        person=PEOPLE[person],
        sd_mm=_mm(np.median(reference.sd_m[person][:, LIMBS])),
        left_out_mm=_mm(np.median(reference.left_out_m[person][:, :, LIMBS])),
        bone_sd_mm=_mm(np.median(np.std(lengths_m, axis=1))),
        height_m=round(sum(_bone_m(derive_joints(joints_m), *ends) for ends in HEIGHT), 3),
    )


def score_view(lifter: Lifter, detections: Detections, reference: Reference, person: int, view: int) -> ViewScores:
    """Returns the errors of a person in a view, of each method on the same frames."""
    scene = find_scene(detections, reference, person, view)
    poses = lift_scene(lifter, scene)
    is_sure = (reference.sd_m[person][:, LIMBS] < UNSURE_M).all(-1)
    is_found = np.all([np.isfinite(pose_m).all((1, 2)) for pose_m, _ in poses.values()], axis=0)
    scored = is_sure & is_found
    true_m = scene.true_m - scene.true_m[:, :1]
    up = scene.camera_from_world.rotation[:, 2]
    return ViewScores(
        person=PEOPLE[person],
        view=VIEWS[view],
        roll_deg=round(float(np.degrees(np.arctan2(up[0], -up[1]))), 1),
        down_deg=round(float(np.degrees(np.arcsin(-up[2]))), 1),
        frames=int(scored.sum()),
        lost=int((~is_found).sum()),
        unsure=int((is_found & ~is_sure).sum()),
        swapped=round(float(scene.is_swapped[scored, 1:].any(-1).mean()), 3),
        errors={
            name: score_poses(pose_m, root_m, scene.true_m, scored=scored) for name, (pose_m, root_m) in poses.items()
        },
        parts=find_parts(poses[LIFTED][0][scored], true_m[scored]),
    )


def find_scene(detections: Detections, reference: Reference, person: int, view: int) -> Scene:
    """Returns the person in the view; landmarks that are somebody else's are NaN."""
    is_person = reference.is_person[person, view][:, None, None]
    camera_from_world = reference.cameras_from_world[view]
    joints_m = camera_from_world.apply(reference.joints_world_m[person])
    return Scene(
        marks_px=np.where(is_person, detections.followed_px[person, view], np.nan),
        marks_m=np.where(is_person, detections.followed_m[person, view], np.nan),
        is_swapped=reference.is_swapped[person, view],
        true_m=derive_joints(joints_m),
        camera=detections.cameras[view],
        camera_from_world=camera_from_world,
    )


def derive_joints(marks: Float[np.ndarray, "F 33 C"]) -> Float[np.ndarray, "F 17 C"]:
    """Returns Human3.6M's joints as the sums of landmarks that keypoints are derived by, all of them being there."""
    sums = DERIVED[MEDIAPIPE_33.name]
    weights = np.zeros((len(H36M_17.joints), len(MEDIAPIPE_33.joints)))
    for joint, name in enumerate(H36M_17.joints):
        for landmark, weight in sums.get(name, ({name: 1.0},))[0].items():
            weights[joint, MEDIAPIPE_33.joints.index(landmark)] = weight
    return einsum(weights, marks, "joint mark, f mark c -> f joint c")


def lift_scene(lifter: Lifter, scene: Scene) -> dict[str, tuple[Pose, Float[np.ndarray, "F 3"]]]:
    """Returns poses relative to the root and paths of the root, in the camera frame, of each method.

    MediaPipe's poses, which it gives no place, are placed as the lifter places its own. The methods after the first two
    take one thing after the other from the lifter's difficulties: the lens is known, left and right are never
    exchanged, the keypoints are the reference's, and the camera is turned until the person's path is in the middle and
    the world's up is up.
    """
    unswapped_px = swap_parts(scene.marks_px[None], scene.is_swapped[None])[0]
    exact = np.concatenate([project(scene.true_m, scene.camera), np.ones((len(scene.true_m), 17, 1))], axis=-1)
    exact = np.where(np.isfinite(scene.marks_px).all((1, 2))[:, None, None], exact, np.nan)
    camera_from_aimed = aim_camera(scene)
    aimed_m = camera_from_aimed.inverse().apply(scene.true_m)
    aimed_camera = replace(scene.camera, centre_px=(IMAGE_SIZE_PX[0] / 2, IMAGE_SIZE_PX[1] / 2))
    aimed = np.concatenate([project(aimed_m, aimed_camera), exact[..., 2:]], axis=-1)
    pose_m, root_m = lift_keypoints(lifter, aimed, H36M_17.name, aimed_camera)
    return {
        LIFTED: lift_keypoints(lifter, scene.marks_px, MEDIAPIPE_33.name, None),
        MEDIAPIPE: place_mediapipe(scene),
        KNOWN_LENS: lift_keypoints(lifter, scene.marks_px, MEDIAPIPE_33.name, scene.camera),
        NO_SWAPS: lift_keypoints(lifter, unswapped_px, MEDIAPIPE_33.name, scene.camera),
        EXACT: lift_keypoints(lifter, exact, H36M_17.name, scene.camera),
        AIMED: (camera_from_aimed.apply(pose_m), camera_from_aimed.apply(root_m)),
    }


def lift_keypoints(
    lifter: Lifter, keypoints: Float[np.ndarray, "F J 3"], layout: str, camera: Camera | None
) -> tuple[Pose, Float[np.ndarray, "F 3"]]:
    """Returns the pose and the root's path that `poselift lift` writes; without a camera it assumes a lens."""
    track = Track("0", layout, 0, keypoints[..., :2], np.nan_to_num(keypoints[..., 2]))
    recording = Recording("trial", len(track), (track,), RATE_HZ, IMAGE_SIZE_PX, camera)
    (person,) = lifter.lift(recording).people
    return person.joints_camera_m, person.root_camera_m


def place_mediapipe(scene: Scene) -> tuple[Pose, Float[np.ndarray, "F 3"]]:
    """Returns MediaPipe's poses, and where they project onto its keypoints through the lens that lift assumes."""
    pose_m = derive_joints(scene.marks_m)
    pose_m = pose_m - pose_m[:, :1]
    camera, _ = build_camera(IMAGE_SIZE_PX)
    rays = rays_from_pixels(derive_joints(scene.marks_px)[..., :2], camera)
    confidence = np.isfinite(rays).all(-1).astype(float)
    root_m = fit_root_path(pose_m, rays, confidence)
    return pose_m, smooth_depth(root_m, sigma_frames=DEPTH_SIGMA_S * RATE_HZ)


def aim_camera(scene: Scene) -> RigidTransform:
    """Returns the rotation from a camera that looks at the middle of the person's path, without roll."""
    forward = scene.true_m[:, 0].mean(0)
    up = scene.camera_from_world.rotation[:, 2]
    right = np.cross(forward, up)
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    return RigidTransform(axes / np.linalg.norm(axes, axis=0))


def score_poses(
    pose_m: Pose, root_m: Float[np.ndarray, "F 3"], true_m: Pose, *, scored: Bool[np.ndarray, " F"]
) -> Errors:
    """Returns the mean errors over the scored frames, velocities between those that follow each other."""
    relative_m = true_m - true_m[:, :1]
    means = average_over_frames([clip_scores(pose_m[run], relative_m[run]) for run in find_runs(scored)])
    root_mm = _mm(np.linalg.norm(root_m[scored] - true_m[scored, 0], axis=-1).mean())
    return Errors(**{name: round(mean, 2) for name, mean in means.items() if mean is not None}, root_mm=root_mm)


def find_parts(pose_m: Pose, true_m: Pose) -> Parts:
    """Returns what is left of the error without one scale, without one rotation, and without both of all frames."""
    flat, flat_true = pose_m.reshape(1, -1, 3), true_m.reshape(1, -1, 3)
    factor = float((flat * flat_true).sum() / (flat**2).sum())
    rotation, _ = Rotation.align_vectors(flat_true[0], flat[0])
    pitch_deg, yaw_deg, roll_deg = rotation.inv().as_rotvec(degrees=True).tolist()
    turned_m = rotation.apply(flat[0]).reshape(pose_m.shape)
    turned_factor = float((turned_m * true_m).sum() / (pose_m**2).sum())
    lefts = [factor * pose_m, turned_m, turned_factor * turned_m]
    scaled_mm, turned_mm, aligned_mm = (round(float(mpjpe_mm(left_m, true_m).mean()), 1) for left_m in lefts)
    return Parts(
        scaled_mm=scaled_mm,
        turned_mm=turned_mm,
        aligned_mm=aligned_mm,
        size=round(1 / turned_factor, 3),
        pitch_deg=round(pitch_deg, 1),
        yaw_deg=round(yaw_deg, 1),
        roll_deg=round(roll_deg, 1),
    )


def _bone_m(joints_m: Pose, one: str, other: str) -> float:
    """Returns the median distance of two joints."""
    ends_m = (joints_m[:, H36M_17.joints.index(name)] for name in (one, other))
    return float(np.median(np.linalg.norm(np.subtract(*ends_m), axis=-1)))


def _mm(metres: float) -> float:
    return round(1000 * float(metres), 1)
