"""Fits a rig of constant limb lengths, and the rotations that move it, to joint positions, for animation files.

Y up, metres: the world's (x, y, z) becomes (x, z, -y). At rest the person stands in a T, faces +z, his left is +x. One
rotation cannot aim a joint at several children at once, as hips and shoulders have them; so a joint is aimed at one
child, turned about that bone to fit the others, and each of those hangs from a helper at the same place, which aims at
it: the collarbones, which move with the chest, and the halves of the pelvis. That way every bone points exactly where
it was lifted to; only its length is made constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from einops import einsum, rearrange
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from pipeline.poses.skeleton import Skeleton

# The bones of Mixamo's characters, without their prefix: names that programs know which transfer motion. Each is named
# after the joint that it begins at, a helper after the joint that it points at.
BONES = {
    "Hip": "Hips", "Pelvis": "Hips", "Spine": "Spine", "Thorax": "Neck", "Neck": "Neck", "Neck/Nose": "Head",
    "HeadTop": "HeadTop_End", "LShoulder": "LeftArm", "LElbow": "LeftForeArm", "LWrist": "LeftHand",
    "LHip": "LeftUpLeg", "LKnee": "LeftLeg", "LFoot": "LeftFoot", "RShoulder": "RightArm", "RElbow": "RightForeArm",
    "RWrist": "RightHand", "RHip": "RightUpLeg", "RKnee": "RightLeg", "RFoot": "RightFoot",
}  # fmt: skip
HELPERS = {
    "LShoulder": "LeftShoulder", "RShoulder": "RightShoulder", "LHip": "LeftPelvis", "RHip": "RightPelvis",
}  # fmt: skip
SIDEWAYS = ("Hip", "Shoulder", "Elbow", "Wrist")  # at rest the bones to these joints of a side point to that side,
DOWN = ("Knee", "Foot")  # to these down, and all others up


@dataclass(frozen=True)
class Rig:
    """Nodes, parents before children. `aims[n]` is the joint of `skeleton` that node n points at, or -1; `joints[n]`
    the one that stands there, or -1 for a helper."""

    skeleton: Skeleton
    names: tuple[str, ...]
    parents: tuple[int, ...]
    joints: tuple[int, ...]
    aims: tuple[int, ...]
    offsets_m: Float[np.ndarray, "N 3"]

    def children(self, node: int) -> list[int]:
        """Returns the nodes that hang from `node`."""
        return [child for child, parent in enumerate(self.parents) if parent == node]

    def end_of(self, node: int) -> int:
        """Returns the node at the end of the bone that `node` aims along."""
        return next(child for child in self.children(node) if self.joints[child] == self.aims[node])

    @property
    def rest_m(self) -> Float[np.ndarray, "N 3"]:
        """The places of the nodes at rest, the root at zero."""
        rest_m = np.zeros_like(self.offsets_m)
        for node, parent in enumerate(self.parents):
            rest_m[node] = self.offsets_m[node] + (rest_m[parent] if parent >= 0 else 0)
        return rest_m


def turn_y_up(points_world_m: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """Returns points of the world, whose Z is up, in the frame of animation files, whose Y is up."""
    return np.stack([points_world_m[..., 0], points_world_m[..., 2], -points_world_m[..., 1]], axis=-1)


def build_rig(joints_m: Float[np.ndarray, "F J 3"], skeleton: Skeleton) -> Rig:
    """Returns the rig of a person: each bone is as long as its median over the frames, all of which must be whole."""
    nodes: list[tuple[str, int, int, int, Float[np.ndarray, "3"]]] = []

    def add(name: str, parent: int, joint: int, aim: int, offset_m: Float[np.ndarray, "3"]) -> int:
        nodes.append((name, parent, joint, aim, offset_m))
        return len(nodes) - 1

    def grow(joint: int, parent: int, offset_m: Float[np.ndarray, "3"]) -> None:
        children = _children(skeleton, joint)
        node = add(name_bone(skeleton, joint), parent, joint, children[0] if children else -1, offset_m)
        for place, child in enumerate(children):
            length_m = np.median(np.linalg.norm(joints_m[:, child] - joints_m[:, joint], axis=-1))
            from_node = node
            if place > 0:
                above, offset = (node, np.zeros(3)) if parent < 0 else (parent, offset_m)
                helper = HELPERS.get(skeleton.joints[child], f"to_{name_bone(skeleton, child)}")
                from_node = add(helper, above, -1, child, offset)
            grow(child, from_node, length_m * _rest_direction(skeleton, child))

    grow(skeleton.root, -1, np.zeros(3))
    names, parents, joints, aims, offsets_m = zip(*nodes, strict=True)
    return Rig(skeleton, names, parents, joints, aims, np.stack(offsets_m))


def fit_rotations(joints_m: Float[np.ndarray, "F J 3"], rig: Rig) -> Float[np.ndarray, "F N 4"]:
    """Returns each node's rotation relative to its parent, as quaternions (x, y, z, w) without jumps of sign.

    Each is the least rotation that aims the node, plus, where several bones meet, the turn about the aimed bone that
    fits the others best; so there is no roll that the joints do not show. A bone without length in a frame keeps its
    parent's direction. All frames must be whole.
    """
    identity = Rotation.from_quat(np.tile([0.0, 0.0, 0.0, 1.0], (len(joints_m), 1)))
    in_world: list[Rotation] = []
    local = np.zeros((len(joints_m), len(rig.names), 4))
    for node, parent in enumerate(rig.parents):
        above = in_world[parent] if parent >= 0 else identity
        rotated = above
        if rig.aims[node] >= 0:
            rotated = _swing(above.apply(rig.offsets_m[rig.end_of(node)]), _bone(joints_m, rig, node)) * above
            if rig.joints[node] >= 0:
                rotated = _twist(rotated, joints_m, rig, node) * rotated
        in_world.append(rotated)
        local[:, node] = (above.inv() * rotated).as_quat()
    jumps = einsum(local[1:], local[:-1], "f n c, f n c -> f n") < 0
    signs = np.cumprod(np.where(jumps, -1.0, 1.0), axis=0)
    local[1:] *= rearrange(signs, "f n -> f n 1")
    return local


def _children(skeleton: Skeleton, joint: int) -> list[int]:
    """Returns the joints that hang from `joint`; the one to aim at, which is of neither side, comes first."""
    children = [child for child, parent in enumerate(skeleton.parents) if parent == joint]
    return sorted(children, key=lambda child: child in skeleton.left + skeleton.right)


def name_bone(skeleton: Skeleton, joint: int) -> str:
    """Returns the name in the rig of the bone that begins at a joint."""
    name = skeleton.joints[joint]
    if name == "Head":  # which begins at the joint below, where there is one
        return "HeadTop_End" if "Neck/Nose" in skeleton.joints else "Head"
    return BONES.get(name, name.replace("/", "_").replace(" ", "_"))


def _rest_direction(skeleton: Skeleton, joint: int) -> Float[np.ndarray, "3"]:
    kind = skeleton.joints[joint][1:] if joint in skeleton.left + skeleton.right else ""
    if kind in SIDEWAYS:
        return np.array([1.0 if joint in skeleton.left else -1.0, 0.0, 0.0])
    return np.array([0.0, -1.0 if kind in DOWN else 1.0, 0.0])


def _bone(joints_m: Float[np.ndarray, "F J 3"], rig: Rig, node: int) -> Float[np.ndarray, "F 3"]:
    """Returns in each frame the bone that a node aims along."""
    end = rig.aims[node]
    return joints_m[:, end] - joints_m[:, rig.skeleton.parents[end]]


def _swing(source: Float[np.ndarray, "F 3"], target: Float[np.ndarray, "F 3"]) -> Rotation:
    """Returns the least rotation from the direction of `source` to that of `target`; none where one has no length."""
    lengths = np.linalg.norm(source, axis=1), np.linalg.norm(target, axis=1)
    known = (lengths[0] > 1e-6) & (lengths[1] > 1e-6)
    source = source / np.where(known, lengths[0], 1)[:, None]
    target = target / np.where(known, lengths[1], 1)[:, None]
    axis = np.cross(source, target)
    cosine = einsum(source, target, "f c, f c -> f")
    quaternions = np.concatenate([axis, 1 + cosine[:, None]], axis=1)
    opposite = known & (cosine < -1 + 1e-9)  # any axis across will do
    across = np.cross(source, np.eye(3)[np.abs(source).argmin(1)])
    quaternions[opposite] = np.concatenate([across, np.zeros((len(across), 1))], axis=1)[opposite]
    quaternions[~known] = [0, 0, 0, 1]
    return Rotation.from_quat(quaternions)


def _twist(rotated: Rotation, joints_m: Float[np.ndarray, "F J 3"], rig: Rig, node: int) -> Rotation:
    """Returns the turn about the bone that a joint aims along which best fits the other bones that begin there."""
    axis = rotated.apply(rig.offsets_m[rig.end_of(node)])
    length_m = np.linalg.norm(axis, axis=1, keepdims=True)
    axis = np.divide(axis, length_m, out=np.zeros_like(axis), where=length_m > 1e-6)
    sine = cosine = np.zeros(len(joints_m))
    for helper in rig.children(node):
        if rig.joints[helper] >= 0:
            continue
        source, target = rotated.apply(rig.offsets_m[rig.end_of(helper)]), _bone(joints_m, rig, helper)
        along = einsum(axis, source, "f c, f c -> f") * einsum(axis, target, "f c, f c -> f")
        sine = sine + einsum(axis, np.cross(source, target), "f c, f c -> f")
        cosine = cosine + einsum(source, target, "f c, f c -> f") - along
    return Rotation.from_rotvec(axis * np.arctan2(sine, cosine)[:, None])
