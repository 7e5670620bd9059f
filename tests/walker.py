"""A walker in closed form, filmed by cameras without distortion: clips and prepared folders in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from models import check_hyperparameters
from pipeline.clips import Clip, write_split
from pipeline.geometry import Camera, camera_from_world_looking_at, project
from pipeline.params import Evaluation, EvaluationConfig, Refilming, Training, TrainingConfig
from pipeline.skeleton import H36M_17

RATE_HZ = 30.0
# For each joint but the root its rest position from its parent in metres, (to the person's right, forward, up), and how
# far its bone swings forward and back, in radians; left and right swing in turn.
BONES = {
    "RHip": ((0.13, 0, 0), 0.0), "RKnee": ((0, 0, -0.45), 0.5), "RFoot": ((0, 0, -0.45), 0.6),
    "LHip": ((-0.13, 0, 0), 0.0), "LKnee": ((0, 0, -0.45), -0.5), "LFoot": ((0, 0, -0.45), -0.6),
    "Spine": ((0, 0, 0.23), 0.0), "Thorax": ((0, 0.02, 0.25), 0.0),
    "Neck/Nose": ((0, 0.05, 0.1), 0.0), "Head": ((0, 0, 0.12), 0.1),
    "LShoulder": ((-0.17, 0, -0.02), 0.0), "LElbow": ((0, 0, -0.28), 0.6), "LWrist": ((0, 0.05, -0.25), 0.7),
    "RShoulder": ((0.17, 0, -0.02), 0.0), "RElbow": ((0, 0, -0.28), -0.6), "RWrist": ((0, 0.05, -0.25), -0.7),
}  # fmt: skip

SMALL_MODELS: dict[str, dict[str, Any]] = {
    "linear": {},
    "poseformer": {"embed_dim_ratio": 4, "depth": 2, "heads": 2, "drop_path": 0.4},
    "mixste": {"width": 16, "depth": 1, "heads": 2, "drop_path": 0.4},
    "stcformer": {"width": 16, "depth": 1, "heads": 2},
    "rayformer": {"width": 16, "depth": 1, "heads": 2},
}
TRAINING: dict[str, Any] = {
    "optimizer": "adamw",
    "epochs": 2,
    "lr": 0.003,
    "muon_lr": 0.02,
    "lr_decay": 0.9,
    "warmup_steps": 2,
    "weight_decay": 0.05,
    "batch_windows": 8,
    "windows_per_epoch": 24,
    "action_balance": 0.5,
    "clip_grad_norm": 1.0,
    "flip_augmentation": True,
    "selection": "last",
    "validation_step": 1,
}
HOW: dict[str, Any] = {"precision": "float32", "compile": "none", "micro_batches": 1, "memory_share": 0.5}
REFILMING: dict[str, Any] = {
    "new_cameras": True,
    "height_m": (1.5, 1.8),
    "distance_m": (4.5, 6.0),
    "roll_degrees": 5.0,
    "new_noise": True,
    "detector_level": (0.5, 2.0),
    "missing_joints": 0.1,
    "body_scale": 0.1,
    "limb_scale": 0.2,
    "speed": 0.3,
    "other_legs": 0.5,
    "other_arms": 0.5,
}
EVALUATION: dict[str, Any] = {
    "flip_averaging": True,
    "window_stride": 3,
    "frame_step": 1,
    "predicted_root": "zeroed",
    "averaging": "actions",
}


def walker_joints_world_m(
    frames: int, *, steps_hz: float = 1.0, start: float = 0.0, scale: float = 1.0
) -> Float[np.ndarray, "F 17 3"]:
    """Joints of a person who walks on a circle about the origin; `start` is his phase, `scale` his size."""
    time_s = start + np.arange(frames) / RATE_HZ
    heading = 0.8 * time_s + start
    hip_m = np.stack([np.sin(heading), -np.cos(heading), 0.95 + 0.02 * np.sin(4 * np.pi * steps_hz * time_s)], -1)
    joints_m = np.zeros((frames, len(H36M_17.joints), 3))
    for joint, name in enumerate(H36M_17.joints):
        if name not in BONES:
            continue
        (right, forward, up), swing = BONES[name]
        angle = swing * np.sin(2 * np.pi * steps_hz * time_s)
        along = forward * np.cos(angle) - up * np.sin(angle)
        bone_m = np.stack(
            [
                right * np.sin(heading) + along * np.cos(heading),
                -right * np.cos(heading) + along * np.sin(heading),
                forward * np.sin(angle) + up * np.cos(angle),
            ],
            -1,
        )
        joints_m[:, joint] = joints_m[:, H36M_17.parents[joint]] + bone_m
    return scale * (joints_m + hip_m[:, None])


def camera_at(angle: float, *, distance_m: float = 5.0) -> Camera:
    """A camera on a circle about the walker, a little above him."""
    position_m = np.array([distance_m * np.cos(angle), distance_m * np.sin(angle), 1.6])
    return Camera(
        name=f"at_{angle:g}",
        width_px=1000,
        height_px=900,
        focal_px=(1145.0, 1145.0),
        centre_px=(500.0, 450.0),
        camera_from_world=camera_from_world_looking_at(position_m, np.array([0.0, 0.0, 0.9])),
    )


def walker_clip(
    frames: int,
    *,
    take: str = "walk",
    action: str = "walking",
    steps_hz: float = 1.0,
    start: float = 0.0,
    angle: float = 0.5,
    with_confidence: bool = False,
) -> Clip:
    """The walker seen by one camera, keypoints exact."""
    camera = camera_at(angle)
    joints_world_m = walker_joints_world_m(frames, steps_hz=steps_hz, start=start)
    joints_camera_m = camera.camera_from_world.apply(joints_world_m)
    confidence = 0.5 + 0.5 * np.sin(np.arange(frames * 17.0)).reshape(frames, 17) ** 2
    return Clip(
        take=take,
        subset="synthetic",
        subject=f"person {take[-1]}",
        action=action,
        camera=camera,
        rate_hz=RATE_HZ,
        first_frame=0,
        pixels=project(joints_camera_m, camera).astype(np.float32),
        joints_camera_m=joints_camera_m.astype(np.float32),
        confidence=confidence.astype(np.float32) if with_confidence else None,
    )


def walker_clips(lengths: Sequence[int], *, with_confidence: bool = False, start: float = 0.0) -> list[Clip]:
    """Clips of these lengths: takes of two actions and three cameras in turn, no two alike."""
    return [
        walker_clip(
            frames,
            take=f"walk_{number}",
            action=("walking", "running")[number % 2],
            steps_hz=(1.0, 1.6)[number % 2],
            start=start + 0.7 * number,
            angle=0.5 + 2.0 * (number % 3),
            with_confidence=with_confidence,
        )
        for number, frames in enumerate(lengths)
    ]


def write_prepared(
    folder: Path,
    *,
    model: str = "rayformer",
    frames: int = 9,
    with_confidence: bool = False,
    evaluation: dict[str, Any] | None = None,
    lengths: Sequence[int] = (40, 31, 50),
    refilming: dict[str, Any] | None = None,
    how: dict[str, Any] | None = None,
    **training: Any,
) -> Path:
    """A folder as the stage prepare_data writes it, but for the manifest; `training` changes TRAINING, `how` HOW."""
    row = f"walker-{'det' if with_confidence else 'gt'}-f{frames}-{model}"
    for number, (split, own) in enumerate({"train": lengths, "validation": (20, 14), "test": (25, 7, 1, 12)}.items()):
        write_split(folder / split, walker_clips(own, with_confidence=with_confidence, start=11.3 * number))
    in_training = TrainingConfig(
        row=row,
        frames=frames,
        model=model,
        hyperparameters=check_hyperparameters(model, SMALL_MODELS[model]),
        in_skeleton=H36M_17.name,
        out_skeleton=H36M_17.name,
        in_channels=3 if with_confidence else 2,
        threads=1,
        same_bits="one_vendor",
        device="cpu",
        **HOW | (how or {}),
        training=Training(**TRAINING | training),
        refilming=None if refilming is None else Refilming(**REFILMING | refilming),
    )
    in_evaluation = EvaluationConfig(
        row=row,
        dataset="walker",
        keypoints="det" if with_confidence else "gt",
        target="joints of a walker in closed form",
        in_skeleton=H36M_17.name,
        out_skeleton=H36M_17.name,
        pck_joints=(),
        frames=frames,
        threads=1,
        same_bits="one_vendor",
        device="cpu",
        selection=in_training.training.selection,
        evaluation=Evaluation(**EVALUATION | (evaluation or {})),
    )
    (folder / "training.json").write_text(in_training.model_dump_json(indent=2), encoding="utf-8")
    (folder / "evaluation.json").write_text(in_evaluation.model_dump_json(indent=2), encoding="utf-8")
    return folder


def change_json(path: Path, **changes: Any) -> None:
    """Replace values of a JSON file; a dictionary is merged into the one that is there."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(content), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under the folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
