"""Charts of results as Vega-Lite specifications: plain data in, a dictionary out, no colours of text or ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # its name; nothing is fetched from there
PLACES = 3  # of a number in a chart


def group_errors(means: Mapping[str, Mapping[str, Mapping[str, Any]]], *, title: str) -> dict[str, Any]:
    """A dot with its spread for every row and group, such as an action or a joint; the first row's worst group on top.

    `means` is row -> group -> {"mean": mm, "std": mm or None}. Groups without a mean are left out.
    """
    values = [
        {
            "row": row,
            "group": group,
            "mean": round(value["mean"], PLACES),
            "low": round(value["mean"] - (value["std"] or 0), PLACES),
            "high": round(value["mean"] + (value["std"] or 0), PLACES),
        }
        for row, groups in means.items()
        for group, value in groups.items()
        if value["mean"] is not None
    ]
    first = [value for value in values if value["row"] == next(iter(means))]
    order = [value["group"] for value in sorted(first, key=lambda value: -value["mean"])]
    shared = {
        "y": {"field": "group", "type": "nominal", "sort": order, "title": None},
        "color": _rows(means),
        "tooltip": [_field("row"), _field("group"), _number("mean", "mean, mm"), _number("low"), _number("high")],
    }
    across = {"type": "quantitative", "title": title, "scale": {"zero": True}}
    return _spec(
        values,
        height={"step": 26},
        encoding=shared,
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.45, "strokeCap": "round"},
                "encoding": {"x": {"field": "low", **across}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {"x": {"field": "mean", **across}},
            },
        ],
    )


def learning_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], *, column: str, title: str) -> dict[str, Any]:
    """For every row the mean of its runs over the epochs, in the band from the lowest run to the highest.

    `curves` is row -> records with `epoch` and `column`; records where that is None are left out.
    """
    values = [
        {"row": row, "epoch": record["epoch"], "error": round(record[column], PLACES)}
        for row, records in curves.items()
        for record in records
        if record[column] is not None
    ]
    whole = {"tickMinStep": 1, "format": "d"}
    across = {
        "field": "epoch",
        "type": "quantitative",
        "title": "epoch",
        "axis": whole,
        "scale": {"zero": False, "nice": False},
    }
    up = {"field": "error", "type": "quantitative", "title": title, "scale": {"zero": False}}
    return _spec(
        values,
        height=280,
        encoding={"x": across, "color": _rows(curves)},
        layer=[
            {
                "mark": {"type": "area", "opacity": 0.2},
                "encoding": {"y": {**up, "aggregate": "min"}, "y2": {"field": "error", "aggregate": "max"}},
            },
            {
                "mark": {"type": "line", "point": {"size": 26}, "strokeWidth": 2},
                "encoding": {
                    "y": {**up, "aggregate": "mean"},
                    "tooltip": [
                        _field("row"),
                        _field("epoch"),
                        {"field": "error", "aggregate": "mean", "format": ".2f", "title": "mean, mm"},
                        {"field": "error", "aggregate": "min", "format": ".2f", "title": "lowest run"},
                        {"field": "error", "aggregate": "max", "format": ".2f", "title": "highest run"},
                    ],
                },
            },
        ],
    )


def run_curves(series: Mapping[str, Sequence[Mapping[str, Any]]], *, columns: Sequence[str]) -> dict[str, Any]:
    """As `learning_curves`, with a faint line for every run; the parameter `column` says which of `columns` is drawn.

    `series` is label -> records with `run`, `epoch` and the columns; the label is the field `row` of the chart.
    """
    values = [
        {"row": label, **{name: record[name] for name in ("run", "epoch", *columns) if record[name] is not None}}
        for label, records in series.items()
        for record in records
    ]
    whole = {"tickMinStep": 1, "format": "d"}
    scale = {"zero": False, "nice": False}
    across = {"field": "epoch", "type": "quantitative", "title": "epoch", "axis": whole, "scale": scale}
    up = {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False}}
    number = {"field": "value", "format": ".4~g"}
    return _spec(
        values,
        height=360,
        params=[{"name": "column", "value": columns[0]}],
        transform=[{"filter": "isValid(datum[column])"}, {"calculate": "datum[column]", "as": "value"}],
        encoding={"x": across, "color": _rows(series)},
        layer=[
            {
                "mark": {"type": "area", "opacity": 0.16},
                "encoding": {"y": {**up, "aggregate": "min"}, "y2": {"field": "value", "aggregate": "max"}},
            },
            {
                "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.45},
                "encoding": {"y": up, "detail": {"field": "run", "type": "nominal"}},
            },
            {
                "mark": {"type": "line", "point": {"size": 22}, "strokeWidth": 2.5},
                "encoding": {
                    "y": {**up, "aggregate": "mean"},
                    "tooltip": [
                        _field("row"),
                        _field("epoch"),
                        {**number, "aggregate": "mean", "title": "mean of runs"},
                        {**number, "aggregate": "min", "title": "lowest run"},
                        {**number, "aggregate": "max", "title": "highest run"},
                        {"aggregate": "count", "title": "runs"},
                    ],
                },
            },
        ],
    )


def scores_of_runs(runs: Mapping[str, Sequence[float]], *, title: str) -> dict[str, Any]:
    """For every row a tick for each of its runs, and their mean as a dot."""
    values = [
        {"row": row, "run": place, "error": round(error, PLACES)}
        for row, errors in runs.items()
        for place, error in enumerate(errors)
    ]
    across = {"field": "error", "type": "quantitative", "title": title, "scale": {"zero": False}}
    return _spec(
        values,
        height={"step": 34},
        encoding={"y": {"field": "row", "type": "nominal", "sort": list(runs), "axis": None}, "color": _rows(runs)},
        layer=[
            {
                "mark": {"type": "tick", "thickness": 2, "size": 18, "opacity": 0.7},
                "encoding": {"x": across, "tooltip": [_field("row"), _field("run"), _number("error", "MPJPE, mm")]},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {"x": {**across, "aggregate": "mean"}},
            },
        ],
    )


def distribution(
    counts: Mapping[str, Sequence[int]], *, edges_mm: Sequence[float], beyond: Mapping[str, int]
) -> dict[str, Any]:
    """The share of each row's frames in every bin of error; what lies beyond the last edge counts in the whole."""
    values = []
    for row, own in counts.items():
        whole = sum(own) + beyond[row]
        for low, high, count in zip(edges_mm[:-1], edges_mm[1:], own, strict=True):
            values.append({"row": row, "low": low, "high": high, "share": round(100 * count / whole, PLACES + 1)})
    across = {"field": "low", "type": "quantitative", "title": "MPJPE of a frame, mm", "scale": {"nice": False}}
    up = {"field": "share", "type": "quantitative", "title": "% of frames", "stack": None}
    return _spec(
        values,
        height=240,
        encoding={
            "x": across,
            "y": up,
            "color": _rows(counts),
            "tooltip": [_field("row"), _field("low"), _field("high"), _number("share", "% of frames")],
        },
        layer=[{"mark": {"type": "area", "interpolate": "step-after", "opacity": 0.22, "line": {"strokeWidth": 1.5}}}],
    )


def _spec(values: Sequence[Mapping[str, Any]], **parts: Any) -> dict[str, Any]:
    return {"$schema": SCHEMA, "width": "container", "data": {"values": values}, **parts}


def _rows(rows: Mapping[str, Any]) -> dict[str, Any]:
    legend = {"orient": "top", "direction": "vertical", "title": None, "labelLimit": 320, "symbolOpacity": 1}
    return {"field": "row", "type": "nominal", "sort": list(rows), "legend": legend}


def _field(name: str) -> dict[str, Any]:
    return {"field": name, "type": "nominal"}


def _number(name: str, title: str | None = None) -> dict[str, Any]:
    return {"field": name, "type": "quantitative", "format": ".2f", "title": title or name}
