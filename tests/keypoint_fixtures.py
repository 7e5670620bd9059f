"""Two walkers as each 2D detector would write them: real structures, made-up people.

`people[number][frame]` are joints x, y, confidence. Frame EMPTY has nobody; from frame LOST on the second has no id.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lifting import SIZE, walker_keypoints

from pipeline.keypoint_layouts import LAYOUTS
from pipeline.skeleton import H36M_17

FRAMES, EMPTY, LOST = 12, 5, 8
SAME = {"Pelvis": "Hip", "MidHip": "Hip", "Neck": "Thorax", "HeadTop": "Head", "Nose": "Neck/Nose"}
People = list[np.ndarray]


def in_layout(keypoints: np.ndarray, layout: str) -> np.ndarray:
    """Human3.6M's joints as another layout has them; what they do not tell (eyes, toes) lies near what they do."""
    own = dict(zip(H36M_17.joints, np.moveaxis(keypoints, 1, 0), strict=True))
    joints = []
    for name in LAYOUTS[layout].joints:
        known = own.get(name, own.get(SAME.get(name, "")))
        if known is None:
            side = "R" if name.startswith("R") else "L"
            near = "Foot" if any(part in name for part in ("Toe", "Heel")) else "Wrist"
            known = own["Head"] if "E" in name or "Mouth" in name else own[side + near]
        joints.append(known)
    return np.stack(joints, axis=1)


def walkers(layout: str) -> People:
    """Two people side by side, the second half a step behind."""
    first = walker_keypoints(FRAMES)
    second = walker_keypoints(FRAMES, start=0.4)
    first[..., 0] -= 150
    second[..., 0] += 150
    return [in_layout(first, layout), in_layout(second, layout)]


def present(people: People) -> list[tuple[int, int, np.ndarray]]:
    """(frame, person, joints) of each detection, frame by frame."""
    return [(f, n, people[n][f]) for f in range(FRAMES) if f != EMPTY for n in range(len(people))]


def has_id(frame: int, person: int) -> bool:
    return not (person == 1 and frame >= LOST)


def openpose(folder: Path, layout: str) -> Path:
    out = folder / "openpose"
    out.mkdir()
    for frame in range(FRAMES):
        people = [
            {"person_id": [-1], "pose_keypoints_2d": joints.ravel().tolist(), "hand_left_keypoints_2d": []}
            for own, _, joints in present(walkers(layout))
            if own == frame
        ]
        (out / f"walk_{frame:012d}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))
    return out


def coco_results(folder: Path, layout: str) -> Path:
    entries = [
        {"image_id": 100 + frame, "category_id": 1, "keypoints": joints.ravel().tolist(), "score": 0.9}
        | ({"track_id": 3 + person} if has_id(frame, person) else {})
        for frame, person, joints in present(walkers(layout))
    ]
    return written(folder / "results.json", entries)


def coco_annotations(folder: Path, layout: str) -> Path:
    images = [
        {"id": 7 * frame, "file_name": f"{frame:06d}.jpg", "width": SIZE[0], "height": SIZE[1]}
        for frame in range(FRAMES)
    ]
    annotations = []
    for frame, _, joints in present(walkers(layout)):
        flagged = np.concatenate([joints[:, :2], np.full((len(joints), 1), 2)], axis=1)
        annotations.append({"id": len(annotations), "image_id": 7 * frame, "keypoints": flagged.ravel().tolist()})
    return written(folder / "annotations.json", {"images": images, "annotations": annotations})


def alphapose(folder: Path, layout: str) -> Path:
    entries = [
        {"image_id": f"{frame}.jpg", "category_id": 1, "keypoints": joints.ravel().tolist(), "score": 2.9,
         "box": [0, 0, 9, 9], "idx": [float(person)]}
        for frame, person, joints in present(walkers(layout))
    ]  # fmt: skip
    return written(folder / "alphapose-results.json", entries)


def mmpose(folder: Path, layout: str) -> Path:
    frames: list[dict[str, Any]] = [{"frame_id": frame + 1, "instances": []} for frame in range(FRAMES)]
    for frame, _, joints in present(walkers(layout)):
        frames[frame]["instances"].append(
            {"keypoints": joints[:, :2].tolist(), "keypoint_scores": joints[:, 2].tolist(), "bbox_score": 0.8}
        )
    return written(folder / "mmpose.json", {"meta_info": {"dataset_name": "x"}, "instance_info": frames})


def mmpose_list(folder: Path, layout: str) -> Path:
    return written(folder / "list.json", json.loads(mmpose(folder, layout).read_text())["instance_info"])


def ultralytics(folder: Path, layout: str) -> Path:
    frames: list[list[Any]] = [[] for _ in range(FRAMES)]
    for frame, person, joints in present(walkers(layout)):
        x, y, visible = joints.T.tolist()
        marks = {"x": x, "y": y, "visible": visible}
        found = {"name": "person", "class": 0, "confidence": 0.9, "box": {"x1": 0}, "keypoints": marks}
        frames[frame].append(found | ({"track_id": person + 1} if has_id(frame, person) else {}))
    return written(folder / "yolo.json", frames)


def ultralytics_labels(folder: Path, layout: str) -> Path:
    out = folder / "labels"
    out.mkdir()
    lines: dict[int, list[str]] = {}
    for frame, person, joints in present(walkers(layout)):
        shares = (joints / [*SIZE, 1]).ravel()
        ids = [f"{person + 1}"] if has_id(frame, person) else []
        values = ["0", "0.5", "0.5", "0.2", "0.4", *(repr(float(v)) for v in shares), *ids]
        lines.setdefault(frame, []).append(" ".join(values))
    for frame, own in lines.items():
        (out / f"walk_{frame + 1}.txt").write_text("\n".join(own) + "\n")
    return out


def mediapipe(folder: Path, layout: str) -> Path:
    frames: list[dict[str, Any]] = [{"landmarks": []} for _ in range(FRAMES)]
    for frame, _, joints in present(walkers(layout)):
        marks = [
            {"x": x / SIZE[0], "y": y / SIZE[1], "z": 0.0, "visibility": c, "presence": 1.0}
            for x, y, c in joints.tolist()
        ]
        frames[frame]["landmarks"].append(marks)
    return written(folder / "mediapipe.json", frames)


def videopose3d(folder: Path, layout: str) -> Path:
    people = [np.where(np.arange(FRAMES)[:, None, None] == EMPTY, np.nan, one)[..., :2] for one in walkers(layout)]
    about = {"layout_name": "coco", "num_joints": 17, "video_metadata": {"clip.mp4": {"w": SIZE[0], "h": SIZE[1]}}}
    positions: Any = {"clip.mp4": {"custom": [one.astype("float32") for one in people]}}
    np.savez(folder / "data_2d_custom.npz", positions_2d=np.array(positions), metadata=np.array(about))
    return folder / "data_2d_custom.npz"


def detectron(folder: Path, layout: str) -> Path:
    boxes, keypoints = np.empty((FRAMES, 2), object), np.empty((FRAMES, 2), object)
    for frame in range(FRAMES):
        people = [joints for own, _, joints in present(walkers(layout)) if own == frame]
        boxes[frame, 0], keypoints[frame, 0] = [], []
        boxes[frame, 1] = np.zeros((len(people), 5))
        keypoints[frame, 1] = np.array([[j[:, 0], j[:, 1], 0 * j[:, 2], j[:, 2]] for j in people])
    size: Any = {"w": SIZE[0], "h": SIZE[1]}
    np.savez(
        folder / "clip.mp4.npz", boxes=boxes, keypoints=keypoints, segments=np.array(None), metadata=np.array(size)
    )
    return folder / "clip.mp4.npz"


def csv_per_joint(folder: Path, layout: str) -> Path:
    lines = ["layout,frame,person,joint,x,y,confidence"]
    for frame, person, joints in present(walkers(layout)):
        names = zip(LAYOUTS[layout].joints, joints.tolist(), strict=True)
        lines += [f"{layout},{frame},{'ab'[person]},{name},{x!r},{y!r},{c!r}" for name, (x, y, c) in names]
    (folder / "joints.csv").write_text("\n".join(lines) + "\n")
    return folder / "joints.csv"


def csv_per_frame(folder: Path, layout: str) -> Path:
    names = LAYOUTS[layout].joints
    lines = [",".join(["layout", "frame", "person", *(f"{n}_{c}" for n in names for c in ("x", "y", "confidence"))])]
    for frame, person, joints in present(walkers(layout)):
        lines.append(",".join([layout, str(frame), "ab"[person], *(repr(float(v)) for v in joints.ravel())]))
    (folder / "frames.csv").write_text("\n".join(lines) + "\n")
    return folder / "frames.csv"


def npz(folder: Path, layout: str) -> Path:
    people = np.stack(walkers(layout))
    people[:, EMPTY] = np.nan
    np.savez(folder / "walk.npz", pixels=people[..., :2], confidence=people[..., 2], layout=layout, rate_hz=30.0)
    return folder / "walk.npz"


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


# Format, layout, who writes it, whether it has confidence.
CASES: list[tuple[str, str, Callable[[Path, str], Path], bool]] = [
    ("openpose", "body25", openpose, True),
    ("openpose", "openpose18", openpose, True),
    ("coco", "coco17", coco_results, True),
    ("coco", "coco17", coco_annotations, False),
    ("alphapose", "coco17", alphapose, True),
    ("alphapose", "halpe26", alphapose, True),
    ("mmpose", "coco17", mmpose, True),
    ("mmpose", "mpii16", mmpose_list, True),
    ("ultralytics", "coco17", ultralytics, True),
    ("ultralytics-labels", "coco17", ultralytics_labels, True),
    ("mediapipe", "mediapipe33", mediapipe, True),
    ("npz", "coco17", videopose3d, False),
    ("npz", "coco17", detectron, True),
    ("npz", "3dhp17", npz, True),
    ("csv", "humaneva15", csv_per_joint, True),
    ("csv", "h36m17", csv_per_frame, True),
]
