"""The figures of a benchmark as a page of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


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
