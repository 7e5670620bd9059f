"""The figures of a benchmark as a page of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any


def page(found: Mapping[str, Any]) -> str:
    """Markdown of all that `python -m experiments bench` found."""
    own = found["machine"]
    about = f"{own['card'] or own['processor']}, {own['cores']} cores, {own['memory_gb']} GB; torch {own['torch']}"
    peak, bandwidth = found["peak_gflop_per_s"], found["bandwidth_gb_per_s"]
    parts = [
        f"# {own['card'] or own['processor']}",
        f"Written by `python -m experiments bench` on {own['date']}. {about}, {own['threads']} threads,"
        f" {found['precision']}, OMP_WAIT_POLICY {own['omp_wait_policy'] or 'not set'}"
        f"{', compiled' if found['compiled'] else ''}."
        f" Load {own['load']} at the start, {found['load_at_end']} at the end: times are the fastest of several turns;"
        " ratios are of cases in turns, by the fastest turns, in brackets the turns where they were lowest and highest,"
        " and behind these by processor time, which other programs hardly change.",
        f"Measured peak: {peak:.0f} GFLOP/s in float32 products of matrices, {bandwidth:.1f} GB/s copied.",
        "## Training step",
        _table(
            (
                "model",
                "frames",
                "batch",
                "ms",
                "windows/s",
                "output frames/s",
                "% of peak",
                "with optimizer",
                "by processor time",
                "with optimizer",
                "floor",
            ),
            [_step_cells(one) for one in found["training"]],
        ),
        "% of peak: operations of the forward and backward pass over those that the peak allows in the step's time;"
        " with optimizer: those of Muon counted too. Floor: operations over peak or bytes over bandwidth.",
        _table(
            ("model", "frames", "data ms", "forward", "backward", "optimizer", "data %", "refilming gt, det"),
            [_phase_cells(one) for one in found["training"]],
        ),
        "## Against the published loop",
        _table(
            ("PoseFormer's step: frames", "batch", "in parts", "literal ms", "ours ms", "times as fast", "at the peak"),
            [_compared_cells(one, found["training"]) for one in found["published_step"]],
        ),
        "At the peak: how many times as fast as the literal step one would be that did nothing but multiply matrices at"
        " the measured peak, by processor time.",
        _table(
            ("whole clip: frames", "clip", "ours to published", "to window by window", "to 32 at once", "difference m"),
            [
                (
                    o["frames"],
                    o["clip_frames"],
                    _ratio(o["ours_to_whole_clip"]),
                    _ratio(o["ours_to_each_window"]),
                    _ratio(o["ours_to_32_windows"]),
                    f"{o['largest_difference_m']:.1e}",
                )
                for o in found["published_evaluation"]
            ],
        ),
        "Published: all windows of a clip at once. The default model's output frames per second over the literal"
        " loop's:",
        _table(
            ("frames", "evaluation", "training"),
            [
                (o["frames"], f"{o['default_to_whole_clip']['ratio']:.0f}", f"{o['default_training_ratio']:.0f}")
                for o in found["published_evaluation"]
            ],
        ),
        "## An epoch of Human3.6M's size",
        _table(
            ("model", "frames", "windows", "seconds", ""),
            [(o["model"], o["frames"], o["windows"], f"{o['seconds']:.0f}", o["how"]) for o in found["human36m"]],
        ),
        "## Growth",
        _table(
            ("model", "frames", "batch", "ms", "us per frame", "GFLOP"),
            [
                (
                    o["model"],
                    o["frames"],
                    o["batch_windows"],
                    _ms(o["step_ms"]),
                    f"{o['us_per_frame']:.1f}",
                    f"{o['gflop']:.1f}",
                )
                for o in found["growth_with_frames"]
            ],
        ),
        _table(
            ("data", "frames", "prepare s", "peak MB", "epoch s", "steps", "tables MB", "training MB", "mapped MB"),
            [
                (
                    f"x{o['factor']}",
                    o["frames"],
                    f"{o['prepare_s']:.1f}",
                    o["prepare_peak_mb"],
                    f"{o['epoch_s']:.1f}",
                    o["steps"],
                    f"{o['table_mb']:.0f}",
                    o["own_mb"],
                    o["mapped_own_mb"],
                )
                for o in found["growth_with_data"]
            ],
        ),
        "Training and mapped: memory of the process at the end, files not counted, with the data in memory and with the"
        " data mapped from files.",
        "## Memory",
        _table(
            ("model", "frames", "batch", "MB held after epochs", "in use after the first, the last", "peak MB"),
            [
                (
                    o["model"],
                    o["frames"],
                    o["batch_windows"],
                    _by_quarters(o["after_each_epoch_mb"]),
                    ", ".join("?" if value is None else f"{value:.0f}" for value in o["in_use_mb"]),
                    o["peak_mb"] if o["peak_of_card_mb"] is None else f"{o['peak_of_card_mb']:.0f} on the card",
                )
                for o in found["memory"]
            ],
        ),
        f"Means of the quarters of {len(found['memory'][0]['after_each_epoch_mb'])} epochs, in brackets the lowest and"
        " the highest of the last quarter. In use: without what the allocator keeps of memory that was freed.",
        "## Tracking",
        _tracking(found["tracking"]),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _by_quarters(values_mb: Sequence[float]) -> str:
    """The means of four quarters, so that growth shows beside the ups and downs of an allocator."""
    size = len(values_mb) // 4
    quarters = [values_mb[start : start + size] for start in range(0, 4 * size, size)]
    last = quarters[-1]
    return f"{', '.join(f'{mean(quarter):.0f}' for quarter in quarters)} ({min(last):.0f} to {max(last):.0f})"


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _ratio(found: Mapping[str, Any]) -> str:
    return f"{found['ratio']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f}), {found['by_processor_time']:.2f}"


def _step_cells(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        one["model"],
        one["frames"],
        one["batch_windows"],
        _ms(one["step_ms"]),
        f"{one['windows_per_s']:.0f}",
        f"{one['output_frames_per_s']:.0f}",
        f"{one['percent_of_peak']:.0f}",
        f"{one['percent_of_peak_with_optimizer']:.0f}",
        f"{one['by_processor_time']:.0f}",
        f"{one['by_processor_time_with_optimizer']:.0f}",
        f"{_ms(one['floor_ms'])} ms, {one['floor_is']}",
    )


def _compared_cells(one: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    same = [
        step["by_processor_time"]
        for step in steps
        if all(step[key] == value for key, value in (("model", "poseformer"), *_size(one)))
    ]
    limit = f"{one['by_processor_time'] * 100 / same[0]:.2f}" if same else ""
    times = (_ms(one["literal_ms"]), _ms(one["ours_ms"]))
    return one["frames"], one["batch_windows"], one["parts"], *times, _ratio(one), limit


def _size(one: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    return ("frames", one["frames"]), ("batch_windows", one["batch_windows"])


def _phase_cells(one: Mapping[str, Any]) -> tuple[Any, ...]:
    anew = one["refilming_ms"]
    return (
        one["model"],
        one["frames"],
        *(_ms(value) for value in one["phases_ms"].values()),
        f"{one['data_percent']:.1f}",
        "" if anew is None else f"{_ms(anew['gt'])}, {_ms(anew['det'])}",
    )


def _tracking(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "Not measured: wandb is not installed."
    return (
        f"A run of {found['epochs']} epochs of {found['steps_per_epoch']} steps trains for {found['training_s']:.1f} s."
        f" Tracking offline adds {found['percent_of_epochs']:.3f} % of that in its epochs, and"
        f" {found['start_and_finish_s']:.1f} s once to start and to finish, {found['percent_of_run']:.1f} % in all."
    )
