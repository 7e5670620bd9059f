"""Recognises whose network a file's tensors are, and reads off them what it is built with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoints.weight_files import list_names
from pipeline.system.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]

# Part of a tensor's name that gives each of these models away, and the repository whose code reads its weights.
OTHER_MODELS = {
    "backbone.": ("network of MMPose, or one like it,", "open-mmlab/mmpose"),
    "expand_conv.": ("VideoPose3D", "facebookresearch/VideoPose3D"),
    "Freq_embedding.": ("PoseFormerV2", "QitaoZhao/PoseFormerV2"),
    "STEblocks.": ("MixSTE, or a model built on it,", "JinluZhang1126/MixSTE"),
    "blocks_st.": ("MotionBERT", "Walter0807/MotionBERT"),
    "Transformer_encoder_1.": ("MHFormer", "Vegetebird/MHFormer"),
    "stc_block.": ("STCFormer", "zhenhuat/STCFormer"),
    "linear_stages.": ("simple baseline", "weigq/3d_pose_baseline_pytorch"),
}
POSEFORMER_AXES: dict[str, tuple[str, ...]] = {  # of each tensor what the lengths of its axes say; "": nothing
    "Spatial_patch_to_embedding.weight": ("embed_dim_ratio", "in_channels"),
    "Spatial_pos_embed": ("", "in_joints", ""),
    "Temporal_pos_embed": ("", "frames", ""),
    "Spatial_blocks.0.mlp.fc1.weight": ("hidden", ""),
    "head.1.bias": ("outputs",),
}
MOTIONAGFORMER_AXES: dict[str, tuple[str, ...]] = {
    "joints_embed.weight": ("width", "in_channels"),
    "pos_embed": ("", "in_joints", ""),
    "layers.0.graph_temporal.mixer.batch_norm.weight": ("frames",),
    "layers.0.att_spatial.mlp.fc1.weight": ("hidden", ""),
}


@dataclass(frozen=True)
class PublicModel:
    """A network of models/ by its title and its `name` there, and what its tensors say that it is built with.

    The file calls the tensors as the model does, except that its blocks may begin with another word.
    """

    title: str
    name: str
    sizes: dict[str, int]
    hyperparameters: dict[str, Any]
    blocks: str = "blocks."

    def name_in_file(self, name: str) -> str:
        """Returns what the file calls a tensor of the model."""
        return self.blocks + name.removeprefix("blocks.") if name.startswith("blocks.") else name


def recognise_model(shapes: Shapes, path: Path) -> PublicModel:
    """Returns the network of these tensors. Raises UserError if it is none of ours, saying which it is or has."""
    for part, (model, repository) in OTHER_MODELS.items():
        if (name := next((name for name in shapes if part in name), None)) is not None:
            raise UserError(
                f"{path}: expected a PoseFormer or a MotionAGFormer, found a {model} by the name of {name[:80]}; "
                f"the code of its authors reads it: github.com/{repository}"
            )
    if next(iter(POSEFORMER_AXES)) in shapes:
        return _poseformer(shapes, path)
    if next(iter(MOTIONAGFORMER_AXES)) in shapes:
        return _motionagformer(shapes, path)
    names = " or ".join(f"a {title} ({next(iter(axes))})" for title, axes in
                        (("PoseFormer", POSEFORMER_AXES), ("MotionAGFormer", MOTIONAGFORMER_AXES)))  # fmt: skip
    raise UserError(f"{path}: expected {names}, found {list_names(shapes)}")


def _poseformer(shapes: Shapes, path: Path) -> PublicModel:
    found = _read_lengths(shapes, POSEFORMER_AXES, where=f"{path}: expected a PoseFormer with the tensor")
    width = found["embed_dim_ratio"]
    sizes = {key: found[key] for key in ("frames", "in_joints", "in_channels")}
    depth = _count_blocks(shapes, "blocks.")
    hyperparameters = {"embed_dim_ratio": width, "depth": depth, "mlp_ratio": found["hidden"] / width}
    return PublicModel("PoseFormer", "poseformer", sizes | {"out_joints": found["outputs"] // 3}, hyperparameters)


def _motionagformer(shapes: Shapes, path: Path) -> PublicModel:
    found = _read_lengths(shapes, MOTIONAGFORMER_AXES, where=f"{path}: expected a MotionAGFormer with the tensor")
    width = found["width"]
    sizes = {key: found[key] for key in ("frames", "in_joints", "in_channels")}
    depth = _count_blocks(shapes, "layers.")
    hyperparameters = {"width": width, "depth": depth, "mlp_ratio": found["hidden"] / width}
    sizes["out_joints"] = found["in_joints"]
    return PublicModel("MotionAGFormer", "motionagformer", sizes, hyperparameters, "layers.")


def _read_lengths(shapes: Shapes, axes: Mapping[str, tuple[str, ...]], *, where: str) -> dict[str, int]:
    """Returns the lengths that have a name. Raises UserError if a tensor is not there or has other axes."""
    lengths: dict[str, int] = {}
    for name, parts in axes.items():
        shape = shapes.get(name)
        if shape is None or len(shape) != len(parts) or 0 in shape:
            found = f"none; the file has {list_names(shapes)}" if shape is None else f"shape {shape}"
            raise UserError(f"{where} {name}, found {found}")
        lengths |= {part: length for part, length in zip(parts, shape, strict=True) if part}
    return lengths


def _count_blocks(shapes: Shapes, prefix: str) -> int:
    """Returns how many blocks there are: the number in the name of one is no reason to build so many."""
    return len({match[1] for name in shapes if (match := re.match(rf"{re.escape(prefix)}(\d+)\.", name))}) or 1
