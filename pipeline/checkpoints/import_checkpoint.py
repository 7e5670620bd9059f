"""Tool import-checkpoint: a public PoseFormer checkpoint (.bin) -> a checkpoint folder of this project.

Reads a file that the authors' script saved (torch.save of a dict whose "model_pos" holds the weights) without executing
what it contains. Writes weights.safetensors and card.json.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import build, check_hyperparameters
from pipeline.checkpoints.weight_files import list_names, read_weight_file
from pipeline.config.params import Recipes
from pipeline.config.rows import parse_row
from pipeline.poses.checkpoint import Card, ImportedFrom, write_checkpoint
from pipeline.poses.skeleton import SKELETONS
from pipeline.system.errors import UserError
from pipeline.system.files import new_folder, sha256_of

log = logging.getLogger(__name__)

# Frames per second and focal length in half image widths of the data that public weights were trained on.
PUBLISHED_DATA = {"h36m": (50.0, 2.29), "humaneva": (60.0, None)}
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
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Description:
    """What a public file does not say: what its weights were trained on, the joint layouts, the attention heads."""

    dataset: str
    keypoints: str
    heads: int = 8
    in_skeleton: str = "h36m17"
    out_skeleton: str = "h36m17"


def import_checkpoint(path: Path, out: Path, description: Description) -> Card:
    """Writes the weights in `path` as the new checkpoint folder `out`, and returns its card.

    Frames, joints, widths and depth are read off the tensors. Raises UserError if `out` exists, something described is
    unknown or does not go with the tensors, the file cannot be read without executing it, or its tensors are not
    exactly those of a PoseFormer.
    """
    if out.exists():
        raise UserError(f"{out}: expected a new folder, found one that exists")
    _check_names(description)
    weights, epoch = read_weight_file(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    _refuse_other_models(shapes, path)
    sizes = _sizes(shapes, path)
    for side, skeleton in (("in", description.in_skeleton), ("out", description.out_skeleton)):
        expected, found = len(SKELETONS[skeleton].joints), sizes[f"{side}_joints"]
        if expected != found:
            raise UserError(f"{path}: {side} joints: expected {expected} as in layout {skeleton}, found {found}")
    _check_tensors(shapes, sizes | {"heads": description.heads}, path)
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: tensor {name}: expected finite numbers, found NaN or infinity")
    card = _card(description, sizes, epoch=epoch, path=path)
    with new_folder(out) as partial:
        write_checkpoint(partial, weights, card)
    numbers = sum(tensor.numel() for tensor in weights.values())
    log.info("%s: PoseFormer of %d numbers in %d tensors, for row %s", path, numbers, len(weights), card.row)
    return card


def _check_names(description: Description) -> None:
    known = {"dataset": list(Recipes.model_fields), "in_skeleton": list(SKELETONS), "out_skeleton": list(SKELETONS)}
    for key, names in known.items():
        if (name := getattr(description, key)) not in names:
            raise UserError(f"{key.replace('_', '-')}: expected one of {', '.join(names)}, found '{name}'")


def _card(description: Description, sizes: Mapping[str, Any], *, epoch: int | None, path: Path) -> Card:
    rate_hz, focal = PUBLISHED_DATA.get(description.dataset, (None, None))
    return Card(
        row=str(parse_row(f"{description.dataset}-{description.keypoints}-f{sizes['frames']}-poseformer")),
        seed=None,
        model="poseformer",
        hyperparameters=check_hyperparameters("poseformer", _hyperparameters(sizes) | {"heads": description.heads}),
        frames=sizes["frames"],
        in_skeleton=description.in_skeleton,
        out_skeleton=description.out_skeleton,
        in_channels=sizes["in_channels"],
        rate_hz=rate_hz,
        focal=focal,
        epoch=epoch,
        validation_mpjpe_mm=None,
        run_key=None,
        torch=None,
        imported_from=ImportedFrom(file=path.name, sha256=sha256_of(path)),
    )


def _sizes(shapes: Shapes, path: Path) -> dict[str, Any]:
    """Returns what the model is built with, read off its tensors. Raises UserError if those are not there."""
    patterns = {
        "Spatial_patch_to_embedding.weight": ("embed_dim_ratio", "in_channels"),
        "Spatial_pos_embed": (None, "in_joints", None),
        "Temporal_pos_embed": (None, "frames", None),
        "Spatial_blocks.0.mlp.fc1.weight": ("hidden", None),
        "head.1.bias": ("outputs",),
    }
    sizes: dict[str, Any] = {}
    for name, parts in patterns.items():
        shape = shapes.get(name)
        if shape is None or len(shape) != len(parts) or 0 in shape:
            found = f"none; the file has {list_names(shapes)}" if shape is None else f"shape {shape}"
            raise UserError(f"{path}: expected a PoseFormer with the tensor {name}, found {found}")
        sizes |= {part: length for part, length in zip(parts, shape, strict=True) if part}
    sizes["mlp_ratio"] = sizes.pop("hidden") / sizes["embed_dim_ratio"]
    sizes["out_joints"] = sizes.pop("outputs") // 3
    # Blocks are counted: the number in the name of one is no reason to build so many.
    sizes["depth"] = len({match[1] for name in shapes if (match := re.match(r"blocks\.(\d+)\.", name))}) or 1
    return sizes


def _refuse_other_models(shapes: Shapes, path: Path) -> None:
    for part, (model, repository) in OTHER_MODELS.items():
        if (name := next((name for name in shapes if part in name), None)) is not None:
            raise UserError(
                f"{path}: expected a PoseFormer, found a {model} by the name of {name[:80]}; "
                f"the code of its authors reads it: github.com/{repository}"
            )


def _hyperparameters(sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: sizes[key] for key in ("embed_dim_ratio", "depth", "mlp_ratio")}


def _check_tensors(found: Shapes, sizes: Mapping[str, Any], path: Path) -> None:
    """Raises UserError listing the differences unless the tensors are exactly those of the model of these sizes."""
    built = {key: sizes[key] for key in ("frames", "in_joints", "out_joints", "in_channels", "heads")}
    try:
        with torch.device("meta"):
            model = build("poseformer", **built, **_hyperparameters(sizes))
    except (ValueError, RuntimeError, OverflowError) as error:  # the latter two for sizes that no tensor can have
        raise UserError(f"{path}: {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    differences = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {found[name]} for {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ],
    }
    texts = [f"{len(names)} {kind}: {list_names(names)}" for kind, names in differences.items() if names]
    if texts:
        raise UserError(f"{path}: expected the {len(expected)} tensors of a PoseFormer, found {'; '.join(texts)}")
