"""Answers questions about a training and writes nothing: can it learn, where is its first NaN, what takes its time.

Each answer is yielded line by line. The nan and profile answers watch the training loop itself from hooks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from models.layers import DropPath
from models.linear import Linear
from pipeline.config.params import TrainingConfig
from pipeline.poses.predict import TrainedModel
from pipeline.system.device import torch_device
from pipeline.system.errors import UserError
from pipeline.system.resume import load_state
from pipeline.train import losses
from pipeline.train.batches import Batch, Data, batches_from, draw_epoch, read_data
from pipeline.train.job import Job, plan_job, read_training_config
from pipeline.train.loop import Moment, Setup, State, restore_state, set_up, train_epochs
from pipeline.train.optimization import schedule, take_step
from pipeline.train.stage import untrained_model
from pipeline.visualization.tables import markdown_table

OVERFIT_WINDOWS = 8
OVERFIT_STEPS = 400
NEAR_ZERO_MM = 10.0
WARM_UP_STEPS, PHASE_STEPS, OPERATOR_STEPS = 3, 20, 5
OPERATORS = 10
PHASES = ("data", "forward", "backward", "optimizer")


def debug(question: str, prepared: Path, *, seed: int, work_folder: Path) -> Iterator[str]:
    """Yields the lines of the answer to a question of QUESTIONS about the run of a seed.

    Raises UserError if the prepared data are missing or damaged, or the answer is bad: a batch that cannot be learned,
    a value that is not finite.
    """
    config = read_training_config(prepared)
    torch.set_num_threads(config.threads)
    data = read_data(prepared, config, torch_device(config.device))
    job = plan_job(prepared, prepared, seed=seed, work_folder=work_folder)
    model = untrained_model(job, config, data)
    if isinstance(model.network, Linear):
        where = prepared / "training.json"
        raise UserError(
            f"{where}: model: expected one that gradient descent trains, found 'linear', which is solved for"
        )
    yield from QUESTIONS[question](model, data, config, job)


def overfit(model: TrainedModel, data: Data, config: TrainingConfig, job: Job) -> Iterator[str]:
    """Trains on a few windows of the first batch alone until their error is near zero, without what would hinder that.

    The recipe's optimizer and learning rates, warmed up and brought to zero; no weight decay and no dropped paths.
    """
    changes = {"batch_windows": OVERFIT_WINDOWS, "weight_decay": 0.0, "lr_decay": "linear", "epochs": 1}
    training = config.training.model_copy(update=changes)
    in_one_part = config.model_copy(update={"training": training, "micro_batches": 1, "compile": "none"})
    setup, state = set_up(model, data, in_one_part, seed=job.seed)
    part = _next_batch(setup, state).parts[0]
    setup.network.train()
    for module in setup.network.modules():
        if isinstance(module, (DropPath, nn.Dropout)):
            module.eval()
    yield "   step    error in mm"
    for step in range(OVERFIT_STEPS):
        loss_m = losses.mpjpe(setup.network(part.screen), part.pose_m, frame_weights=part.counted)
        take_step(
            setup.network,
            setup.optimizers,
            loss_m,
            lr_factor=schedule(training, step, OVERFIT_STEPS),
            clip_grad_norm=training.clip_grad_norm,
        )
        error_mm = 1000 * loss_m.item()
        if step == 0 or (step + 1) % (OVERFIT_STEPS // 10) == 0 or error_mm < NEAR_ZERO_MM:
            yield f"{step + 1:7}    {error_mm:11.1f}"
        if error_mm < NEAR_ZERO_MM:
            yield f"it learns: {len(part.screen)} windows are known by heart after {step + 1} steps"
            return
    raise UserError(
        f"expected an error below {NEAR_ZERO_MM:g} mm on {len(part.screen)} windows alone, found {error_mm:.1f} mm "
        f"after {OVERFIT_STEPS} steps; look at the learning rates, the keypoints and where gradients get lost"
    )


def find_nan(model: TrainedModel, data: Data, config: TrainingConfig, job: Job) -> Iterator[str]:
    """Trains as the stage does, from the run's saved state if there is one, and looks at every tensor on the way.

    Raises UserError that names the step, its clips and the first tensor that is not finite: keypoints, true poses, a
    weight, the output of a module or the gradient of a weight.
    """
    setup, state = set_up(model, data, config.model_copy(update={"compile": "none"}), seed=job.seed)
    if saved := load_state(job.state):
        state = restore_state(saved, setup)
        yield f"goes on from the state saved in epoch {state.epoch + 1}, after step {state.step}"
    _refuse_not_finite(setup.network)
    try:
        for moment in train_epochs(setup, state):
            if moment.record is not None:
                error_mm = moment.record["train_mpjpe_mm"]
                yield f"epoch {state.epoch} of {config.training.epochs}: all is finite, {error_mm:.1f} mm"
    except _NotFiniteError as error:
        batch = _next_batch(setup, state)
        true_poses = [part.pose_m for part in batch.parts if not part.pose_m.isfinite().all()]
        what = _describe("the true poses", true_poses[0]) if true_poses else str(error)
        clips = ", ".join(data.clip_names[clip] for clip in torch.unique(batch.clips).tolist())
        where = f"epoch {state.epoch + 1}, step {state.step + 1}"
        raise UserError(f"{where}: expected finite values, found first {what}; clips: {clips}") from None
    yield "every value was finite"


def profile(model: TrainedModel, data: Data, config: TrainingConfig, job: Job) -> Iterator[str]:
    """Measures the phases of some steps, and in a few more, which the profiler slows down, the longest operators.

    "backward" has the loss and the clipping of the gradient. Nothing is validated.
    """
    endless = config.training.model_copy(update={"epochs": 10**6, "selection": "last"})
    unvalidated = replace(data, validation=None)
    setup, state = set_up(model, unvalidated, config.model_copy(update={"training": endless}), seed=job.seed)
    clock, moments = _PhaseClock(setup), train_epochs(setup, state)
    clock.measure(WARM_UP_STEPS, moments)
    clock.measure(PHASE_STEPS, moments)
    total_s = sum(clock.seconds.values())
    yield f"{clock.steps} steps of {config.training.batch_windows} windows, {1000 * total_s / clock.steps:.1f} ms each"
    rows = [(phase, clock.seconds[phase]) for phase in PHASES]
    yield _table("phase", rows, clock.steps, total_s)
    on_gpu = setup.device.type == "cuda"
    with torch.profiler.profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as profiler:
        clock.measure(OPERATOR_STEPS, moments)
    own = [e for e in profiler.key_averages() if e.device_type == DeviceType.CPU and not e.is_user_annotation]
    operators = [(e.key, (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / 1e6) for e in own]
    total_s = sum(seconds for _, seconds in operators)
    longest = sorted(operators, key=lambda operator: -operator[1])[:OPERATORS]
    yield _table("operator", longest, clock.steps, total_s)


QUESTIONS = {"overfit": overfit, "nan": find_nan, "profile": profile}


class _PhaseClock:
    """Measures from hooks on the network and the optimizers what the phases of training steps take."""

    def __init__(self, setup: Setup) -> None:
        self.device = setup.device
        setup.forward.register_forward_pre_hook(lambda *_: self._end("backward" if self.in_step else "data"))
        setup.forward.register_forward_hook(lambda *_: self._end("forward"))
        setup.optimizers[0].register_step_pre_hook(lambda *_: self._end("backward"))
        setup.optimizers[-1].register_step_post_hook(lambda *_: self._end("optimizer"))

    def measure(self, steps: int, moments: Iterator[Moment]) -> None:
        """Trains so many steps, or as many more as there are between two moments, and measures them alone."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.steps = 0
        self.in_step = False
        self._begin()
        while self.steps < steps:
            if next(moments).record is not None:  # what ended an epoch belongs to no phase
                self._begin()

    def _begin(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.began_s = time.perf_counter()

    def _end(self, phase: str) -> None:
        before_s = self.began_s
        self._begin()
        self.seconds[phase] += self.began_s - before_s
        self.in_step = phase != "optimizer"
        self.steps += int(phase == "optimizer")


def _table(name: str, seconds: Sequence[tuple[str, float]], steps: int, total_s: float) -> str:
    """Returns what each entry takes of a step and of the total."""
    rows = [(what, f"{1000 * s / steps:.2f}", f"{100 * s / total_s:.1f}") for what, s in seconds]
    return "\n" + markdown_table([name, "ms per step", "%"], rows)


class _NotFiniteError(Exception):
    """Names the first tensor that is not finite."""


def _describe(name: str, values: Tensor) -> str:
    nan, infinite = int(values.isnan().sum()), int(values.isinf().sum())
    return f"{name}: {nan} NaN and {infinite} infinite of {tuple(values.shape)} values"


def _refuse_not_finite(network: nn.Module) -> None:
    """Hooks the network so that the first tensor that is not finite raises _NotFiniteError."""

    def check(name: str, values: object) -> None:
        if isinstance(values, Tensor) and values.is_floating_point() and not values.isfinite().all():
            raise _NotFiniteError(_describe(name, values))

    def before_forward(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for name, parameter in network.named_parameters():
            check(f"the weight {name}", parameter.detach())
        check("the keypoints", inputs[0])

    def after_forward(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda module, _, output: check(f"the output of {name} ({type(module).__name__})", output)

    def after_backward(name: str) -> Callable[[Tensor], None]:
        return lambda parameter: check(f"the gradient of {name}", parameter.grad)

    network.register_forward_pre_hook(before_forward)
    for name, module in network.named_modules():
        module.register_forward_hook(after_forward(name or "the network"))
    for name, parameter in network.named_parameters():
        parameter.register_post_accumulate_grad_hook(after_backward(name))


def _next_batch(setup: Setup, state: State) -> Batch:
    """Returns the batch that the run's next step is made of."""
    generator = torch.Generator()
    generator.set_state(state.generator)
    every_frame, seed = setup.every_frame, setup.seed
    epoch = draw_epoch(setup.data, setup.config, every_frame=every_frame, number=state.epoch, generator=generator)
    return next(batches_from(state.step, setup.data, setup.config, epoch, every_frame=every_frame, seed=seed))
