"""Tool import-checkpoint: public weights of PoseFormer or MotionAGFormer -> a checkpoint folder of this project.

Reads a file that the authors' scripts or others saved with torch.save, without executing what it contains. Writes
weights.safetensors and card.json.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from models import build, check_hyperparameters
from pipeline.checkpoints.public_models import PublicModel, Shapes, recognise_model
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
SCREEN = "x / width * 2 - 1 and y / width * 2 - height / width of the pixels"
METRES = "metres in the camera frame, relative to the root"
IN_THE_IMAGE = "half image widths relative to the root, the depth in the image's scale at the root"


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
    exactly those of a PoseFormer or a MotionAGFormer.
    """
    if out.exists():
        raise UserError(f"{out}: expected a new folder, found one that exists")
    _check_names(description)
    weights, epoch = read_weight_file(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    model = recognise_model(shapes, path)
    for side, skeleton in (("in", description.in_skeleton), ("out", description.out_skeleton)):
        expected, found = len(SKELETONS[skeleton].joints), model.sizes[f"{side}_joints"]
        if expected != found:
            raise UserError(f"{path}: {side} joints: expected {expected} as in layout {skeleton}, found {found}")
    names = _check_tensors(shapes, model, description.heads, path)
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: tensor {name}: expected finite numbers, found NaN or infinity")
    card = _card(description, model, epoch=epoch, path=path)
    with new_folder(out) as partial:
        write_checkpoint(partial, {name: weights[model.name_in_file(name)] for name in names}, card)
    numbers = sum(tensor.numel() for tensor in weights.values())
    log.info("%s: %s of %d numbers in %d tensors, for row %s", path, model.title, numbers, len(weights), card.row)
    return card


def _check_names(description: Description) -> None:
    known = {"dataset": list(Recipes.model_fields), "in_skeleton": list(SKELETONS), "out_skeleton": list(SKELETONS)}
    for key, names in known.items():
        if (name := getattr(description, key)) not in names:
            raise UserError(f"{key.replace('_', '-')}: expected one of {', '.join(names)}, found '{name}'")


def _card(description: Description, model: PublicModel, *, epoch: int | None, path: Path) -> Card:
    """Returns the card. Raises UserError for a MotionAGFormer that was not trained on Human3.6M.

    Its authors normalise by the width of the image whatever the lens, and train on poses in the image: x and y in
    pixels, and the depth in pixels as long as they are at the root, in half image widths. Their weights for
    MPI-INF-3DHP have joints in an order and poses in a unit of their own. Source: TaatiTeam/MotionAGFormer,
    data/reader/h36m.py and motion_dataset.py.
    """
    in_image = model.name == "motionagformer"
    layouts = (description.dataset, description.in_skeleton, description.out_skeleton)
    if in_image and layouts != ("h36m", "h36m17", "h36m17"):
        expected = "dataset h36m and layouts h36m17, which alone are known of MotionAGFormer's weights"
        raise UserError(f"{path}: expected {expected}, found {', '.join(layouts)}")
    rate_hz, focal = PUBLISHED_DATA.get(description.dataset, (None, None))
    sizes = model.sizes
    confidence = ", with the confidence from 0 to 1 as third channel" if sizes["in_channels"] == 3 else ""
    convention = f"in: {description.in_skeleton} at {SCREEN}{confidence}; out: {IN_THE_IMAGE if in_image else METRES}"
    hyperparameters = model.hyperparameters | {"heads": description.heads}
    return Card(
        row=str(parse_row(f"{description.dataset}-{description.keypoints}-f{sizes['frames']}-{model.name}")),
        seed=None,
        model=model.name,
        hyperparameters=check_hyperparameters(model.name, hyperparameters),
        frames=sizes["frames"],
        in_skeleton=description.in_skeleton,
        out_skeleton=description.out_skeleton,
        in_channels=sizes["in_channels"],
        rate_hz=rate_hz,
        focal=None if in_image else focal,
        epoch=epoch,
        validation_mpjpe_mm=None,
        run_key=None,
        torch=None,
        imported_from=ImportedFrom(file=path.name, sha256=sha256_of(path), convention=convention),
        output_unit="half_image_widths" if in_image else "m",
    )


def _check_tensors(found: Shapes, model: PublicModel, heads: int, path: Path) -> list[str]:
    """Returns the names of the model's tensors.

    Raises UserError listing the differences unless the file's are exactly those.
    """
    try:
        with torch.device("meta"):
            network = build(model.name, **model.sizes, **model.hyperparameters, heads=heads)
    except (ValueError, RuntimeError, OverflowError) as error:  # the latter two for sizes that no tensor can have
        raise UserError(f"{path}: {error}") from error
    names = list(network.state_dict())
    expected = {model.name_in_file(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    differences = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {found[name]} for {shape}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ],
    }
    texts = [f"{len(those)} {kind}: {list_names(those)}" for kind, those in differences.items() if those]
    if texts:
        raise UserError(f"{path}: expected the {len(expected)} tensors of a {model.title}, found {'; '.join(texts)}")
    return names
