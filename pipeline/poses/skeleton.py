"""Joint layouts: which joints there are, how they hang together and which are left and right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Skeleton:
    """A joint layout. `parents[j]` is the joint that j hangs from (-1 for the root)."""

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]

    @property
    def root(self) -> int:
        """Index of the joint that poses are relative to."""
        return self.parents.index(-1)

    @property
    def mirrored(self) -> tuple[int, ...]:
        """For each joint the index of its mirror image: left and right exchanged, the rest itself."""
        partner = dict(zip(self.left + self.right, self.right + self.left, strict=True))
        return tuple(partner.get(joint, joint) for joint in range(len(self.joints)))

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) pairs, one for each joint but the root."""
        return tuple((parent, child) for child, parent in enumerate(self.parents) if parent >= 0)

    @property
    def bone_from_joint(self) -> tuple[tuple[int, ...], ...]:
        """The matrix that makes `bones`, each child's position less its parent's, from the positions of all joints."""
        return tuple(
            tuple((joint == child) - (joint == parent) for joint in range(len(self.joints)))
            for parent, child in self.bones
        )


# Human3.6M's 32 joints without the 15 that are duplicates or never move (Ionescu et al. 2014).
H36M_17 = Skeleton(
    name="h36m17",
    joints=(
        "Hip", "RHip", "RKnee", "RFoot", "LHip", "LKnee", "LFoot", "Spine", "Thorax", "Neck/Nose", "Head",
        "LShoulder", "LElbow", "LWrist", "RShoulder", "RElbow", "RWrist",
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    left=(4, 5, 6, 11, 12, 13),
    right=(1, 2, 3, 14, 15, 16),
)  # fmt: skip

# The keypoints of COCO (Lin et al. 2014), as detectors of people give them; the tree is for drawing.
COCO_17 = Skeleton(
    name="coco17",
    joints=(
        "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist",
        "LHip", "RHip", "LKnee", "RKnee", "LFoot", "RFoot",
    ),
    parents=(-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    left=(1, 3, 5, 7, 9, 11, 13, 15),
    right=(2, 4, 6, 8, 10, 12, 14, 16),
)  # fmt: skip

# The keypoints of MPII (Andriluka et al. 2014), as the stacked hourglass network gives them. The metadata of public
# archives list the right side from the ankle up beside the left from the hip down, which would mirror hips to ankles.
MPII_16 = Skeleton(
    name="mpii16",
    joints=(
        "RFoot", "RKnee", "RHip", "LHip", "LKnee", "LFoot", "Hip", "Spine", "Thorax", "Head", "RWrist", "RElbow",
        "RShoulder", "LShoulder", "LElbow", "LWrist",
    ),
    parents=(1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 8, 8, 13, 14),
    left=(3, 4, 5, 13, 14, 15),
    right=(2, 1, 0, 12, 11, 10),
)  # fmt: skip

# HumanEva-I (Sigal et al. 2010) reduced to 15 joints, as Pavllo et al. 2019 do.
HUMANEVA_15 = Skeleton(
    name="humaneva15",
    joints=(
        "Pelvis", "Thorax", "LShoulder", "LElbow", "LWrist", "RShoulder", "RElbow", "RWrist", "LHip", "LKnee", "LFoot",
        "RHip", "RKnee", "RFoot", "Head",
    ),
    parents=(-1, 0, 1, 2, 3, 1, 5, 6, 0, 8, 9, 0, 11, 12, 1),
    left=(2, 3, 4, 8, 9, 10),
    right=(5, 6, 7, 11, 12, 13),
)  # fmt: skip

# The 17 joints that MPI-INF-3DHP (Mehta et al. 2017) evaluates, in the order of Human3.6M so that the root comes first.
# They are not the same points of the body: head and head top hang from the neck, as in the dataset.
MPI_INF_3DHP_17 = Skeleton(
    name="mpi_inf_3dhp17",
    joints=(
        "Pelvis", "RHip", "RKnee", "RFoot", "LHip", "LKnee", "LFoot", "Spine", "Neck", "Head", "HeadTop", "LShoulder",
        "LElbow", "LWrist", "RShoulder", "RElbow", "RWrist",
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 8, 8, 11, 12, 8, 14, 15),
    left=(4, 5, 6, 11, 12, 13),
    right=(1, 2, 3, 14, 15, 16),
)  # fmt: skip

SKELETONS = {skeleton.name: skeleton for skeleton in (H36M_17, COCO_17, MPII_16, HUMANEVA_15, MPI_INF_3DHP_17)}
