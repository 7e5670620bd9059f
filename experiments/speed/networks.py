"""What training and evaluating the models cost: their share of the machine's peak, and ratios to the published way.

Models are trained with the optimizers of their recipes, on random keypoints and poses, whose values cost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from experiments.speed.literal_poseformer import make_literal, predict_clip
from experiments.speed.machine import Record, count_operations, fastest_s, matrix_product
from experiments.untrained import untrained_model
from pipeline.config.params import Params, Training, TrainingConfig, architecture_of, recipe_for
from pipeline.config.rows import Row
from pipeline.poses.predict import TrainedModel
from pipeline.poses.skeleton import H36M_17
from pipeline.poses.windows import FrameTable
from pipeline.system.device import torch_device
from pipeline.train.batches import Data
from pipeline.train.loop import STEPS_PER_READING, Setup, State, set_up, train_epochs

LITERAL = "poseformer, literal"
TABLE_FRAMES, CLIP_FRAMES = 119_833, 1000  # the embedded motion capture has so many frames to train on
LIFTED_FRAMES = {27: 300, 81: 120}  # of the clips that are lifted whole; published ones have 1000 to 6000
IN_CACHE = 32  # PoseFormer's windows whose tensors stay in a processor's cache
MOST_STEPS = 1000  # of one training, more than are measured: no epoch ends meanwhile
HUMAN36M_FRAMES = 1_559_752  # of its five training subjects, four cameras, at 50 Hz
WAYS = (("float32", "none"), ("tf32", "none"), ("bf16", "none"), ("bf16", "default"))  # precision, compile


def new_model(name: str, params: Params, *, frames: int) -> TrainedModel:
    """Returns the untrained model for keypoints without confidence, from the same random numbers, on the device."""
    if name == LITERAL:
        return make_literal(new_model("poseformer", params, frames=frames))
    torch.manual_seed(0)
    model = untrained_model(*architecture_of(name, params), frames=frames, in_channels=2)
    model.network.to(torch_device(params.device))
    return model


def set_up_training(
    name: str, params: Params, data: Data, *, frames: int, batch_windows: int | None = None, dataset: str | None = None
) -> tuple[Setup, State]:
    """Returns a training with the model's recipe of a dataset; the batch may be another.

    Without a dataset it is that of Human3.6M for PoseFormer, and that of the motion capture for the others. On a
    CPU our PoseFormer takes a batch in parts that stay in the cache, the literal one takes it whole.
    """
    known = "poseformer" if name == LITERAL else name
    row = Row(dataset or ("h36m" if known == "poseformer" else "mocap"), "gt", frames, known)
    recipe = recipe_for(row, params, where="params.yaml")
    training, batch = recipe.model_dump(include=set(Training.model_fields)), batch_windows or recipe.batch_windows
    in_parts = name == "poseformer" and data.device.type == "cpu"
    model = new_model(name, params, frames=frames)
    config = TrainingConfig(
        **params.model_dump(include={"threads", "device", "precision"}),
        **model.card.model_dump(include=set(TrainingConfig.model_fields)),
        model_code="",
        compile="none" if name == LITERAL else params.compile,
        micro_batches=-(-batch // IN_CACHE) if in_parts else 1,
        training=Training(**training | {"batch_windows": batch, "windows_per_epoch": MOST_STEPS * batch}),
    )
    return set_up(model, data, config, seed=0)


def steps_of(training: tuple[Setup, State]) -> Callable[[], object]:
    """Returns what takes the next STEPS_PER_READING steps of a training, in its own precision, which is torch's."""
    moments = train_epochs(*training)

    def take() -> None:
        tf32 = training[0].config.precision == "tf32"
        torch.set_float32_matmul_precision("high" if tf32 else "highest")  # another training may have set it since
        next(moments)

    return take


def random_data(device: torch.device, *, frames: int | None = None) -> Data:
    """Returns random frames, as many as the embedded motion capture has unless told, and nothing to validate on."""
    table = random_table(frames or TABLE_FRAMES, device)
    return Data(
        train=table,
        clip_names=[str(number) for number in range(len(table.clip_first))],
        clip_weights=torch.ones(len(table.clip_first)),  # windows are drawn with replacement: as many as are wanted
        validation=None,
        validation_clips=[],
        in_skeleton=H36M_17,
        out_skeleton=H36M_17,
    )


def random_table(frames: int, device: torch.device) -> FrameTable:
    """Returns so many frames of random keypoints in the image and poses of about a person's size, in clips of 1000."""
    generator = torch.Generator().manual_seed(0)
    first = torch.arange(0, frames, CLIP_FRAMES, device=device)
    return FrameTable(
        screen=(torch.rand(frames, 17, 2, generator=generator) - 0.5).to(device),
        pose_m=(torch.randn(frames, 17, 3, generator=generator) / 3).to(device),
        scored=torch.ones(frames, dtype=torch.bool, device=device),
        clip_first=first,
        clip_last=(first + CLIP_FRAMES - 1).clamp(max=frames - 1),
    )


def measure_steps(
    names: Sequence[str], params: Params, *, frames: int, turns: int, batch_windows: int | None = None
) -> list[Record]:
    """Returns the speed of the models' training steps, and the share of the peak that their operations make up.

    The steps are measured in turns with a product of large matrices, which is the peak. `floor_ms` is what the
    operations of the forward and backward pass would take at the peak.
    """
    device = torch_device(params.device)
    data, steps = random_data(device), STEPS_PER_READING[device.type]
    trainings = {
        name: set_up_training(name, params, data, frames=frames, batch_windows=batch_windows) for name in names
    }
    product, product_operations = matrix_product(device, params.precision)
    cases = {name: steps_of(training) for name, training in trainings.items()}
    fastest = fastest_s({**cases, "peak": product}, turns=turns)
    peak = product_operations / fastest["peak"]
    return [_step_record(name, setup, params, fastest[name] / steps, peak) for name, (setup, _) in trainings.items()]


def _step_record(name: str, setup: Setup, params: Params, step_s: float, peak: float) -> Record:
    passes, optimizers = count_step_operations(name, setup, params)
    windows, frames = setup.config.training.batch_windows, setup.config.frames
    return {
        "model": name,
        "frames": frames,
        "batch_windows": windows,
        "parts": setup.config.micro_batches,
        "step_ms": 1000 * step_s,
        "floor_ms": 1000 * passes / peak,
        "predicted_frames_per_s": windows * (frames if setup.every_frame else 1) / step_s,
        "percent_of_peak": 100 * passes / step_s / peak,
        "percent_of_peak_with_optimizer": 100 * (passes + optimizers) / step_s / peak,
    }


def count_step_operations(name: str, setup: Setup, params: Params) -> tuple[int, int]:
    """Returns the operations of a step's forward and backward pass, and of its optimizers, in products of matrices."""
    frames = setup.config.frames
    network = new_model(name, params, frames=frames).network.to("meta")
    example = torch.zeros(setup.config.training.batch_windows, frames, 17, 2, device="meta")
    passes = count_operations(lambda: network(example).sum().backward())
    for weight in setup.network.parameters():
        weight.grad = torch.zeros_like(weight)
    return passes, count_operations(lambda: [optimizer.step() for optimizer in setup.optimizers])


def measure_epochs(
    names: Sequence[str], params: Params, *, frames: int, recorded: int = HUMAN36M_FRAMES, turns: int
) -> list[Record]:
    """Returns what an epoch of so many recorded frames takes each model in each of WAYS, with Human3.6M's recipe.

    The keypoints and poses are random and on the device. A few steps are measured, in turns, and multiplied.
    """
    device = torch_device(params.device)
    data, steps = random_data(device, frames=recorded), STEPS_PER_READING[device.type]
    trainings: dict[tuple[str, str], tuple[Setup, State]] = {}
    for precision, compiled in WAYS:
        how = f"{precision}, compiled" if compiled != "none" else precision
        chosen = params.model_copy(update={"precision": precision, "compile": compiled})
        for name in names:
            trainings[name, how] = set_up_training(name, chosen, data, frames=frames, dataset="h36m")
    fastest = fastest_s({case: steps_of(training) for case, training in trainings.items()}, turns=turns)
    return [_epoch_record(*case, setup, recorded, fastest[case] / steps) for case, (setup, _) in trainings.items()]


def _epoch_record(name: str, how: str, setup: Setup, recorded: int, step_s: float) -> Record:
    """Returns a line of the table. Each window comes plain and mirrored; PoseFormer has one around every frame."""
    config = setup.config
    windows = 2 * (recorded // config.frames if setup.every_frame else recorded)
    steps = -(-windows // config.training.batch_windows)
    return {
        "model": name,
        "frames": config.frames,
        "precision": how,
        "batch_windows": config.training.batch_windows,
        "step_ms": 1000 * step_s,
        "steps_per_epoch": steps,
        "epoch_minutes": steps * step_s / 60,
        "predicted_frames_per_s": 2 * recorded / (steps * step_s),
    }


def measure_evaluation(names: Sequence[str], params: Params, *, frames: int, turns: int) -> list[Record]:
    """Returns how fast each model predicts every frame of a clip, plain and mirrored.

    The literal PoseFormer is given the windows of the clip all at once, as published, one by one, and 32 at a time.
    """
    clip = random_table(LIFTED_FRAMES[frames], torch_device(params.device))
    ways = {"whole clip": len(clip), "window by window": 1, f"{IN_CACHE} at a time": IN_CACHE}
    models = {name: new_model(name, params, frames=frames) for name in (*names, LITERAL)}
    cases: dict[str, Callable[[], Tensor]] = {
        f"{LITERAL}, {way}": partial(predict_clip, models[LITERAL], clip.screen, batch_windows=batch)
        for way, batch in ways.items()
    }
    stride = params.datasets.mocap.window_stride
    for name in names:
        cases[name] = partial(models[name].predict, clip, flip_averaging=True, stride=stride)
    fastest = fastest_s(cases, turns=turns)
    return [
        {"model": name, "frames": frames, "clip_frames": len(clip), "predicted_frames_per_s": len(clip) / seconds}
        for name, seconds in fastest.items()
    ]
