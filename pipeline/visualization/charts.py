"""Makes charts of results as Vega-Lite specifications: plain data in, a dictionary out; the page adds all colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # its name; nothing is fetched from there
DECIMALS = 3  # of a number in a chart: micrometres
Spec = dict[str, object]
Means = Mapping[str, int | float | None]  # "mean" and "std" in mm
Curves = Mapping[str, Sequence[Mapping[str, int | float | None]]]  # by label, records of epochs, each with its `run`


class _GroupError(TypedDict):
    row: str
    group: str
    mean: float
    low: float
    high: float


def group_errors(means: Mapping[str, Mapping[str, Means]], *, title: str) -> Spec:
    """Returns a dot with its spread for every row and group (an action, a joint); the first row's worst group on top.

    `means` is row -> group -> {"mean": mm, "std": mm or None}. Groups without a mean are left out.
    """
    values: list[_GroupError] = [
        {
            "row": row,
            "group": group,
            "mean": round(value["mean"], DECIMALS),
            "low": round(value["mean"] - (value["std"] or 0), DECIMALS),
            "high": round(value["mean"] + (value["std"] or 0), DECIMALS),
        }
        for row, groups in means.items()
        for group, value in groups.items()
        if value["mean"] is not None
    ]
    first = [value for value in values if value["row"] == next(iter(means))]
    order = [value["group"] for value in sorted(first, key=lambda value: -value["mean"])]
    encoding = {
        "y": {"field": "group", "type": "nominal", "sort": order, "title": None},
        "tooltip": [_name("row"), _name("group"), *(_number(field) for field in ("mean", "low", "high"))],
    }
    spread = {"type": "rule", "strokeWidth": 3, "opacity": 0.45, "strokeCap": "round"}
    dot = {"type": "point", "filled": True, "size": 70, "opacity": 1}
    x = {"title": title, "scale": {"zero": True}}
    layer: list[Spec] = [
        {"mark": spread, "encoding": {"x": _axis("low", **x), "x2": {"field": "high"}}},
        {"mark": dot, "encoding": {"x": _axis("mean", **x)}},
    ]
    return _spec(values, encoding, layer, height={"step": 26})


def run_curves(curves: Curves, *, columns: Sequence[str]) -> Spec:
    """Returns learning curves: a faint line for every run, their mean, and the band from the lowest run to the highest.

    `curves` is label -> records with `run`, `epoch` and the columns; the label is the field `row` of the chart. Its
    parameter `column` says which of `columns` is drawn. Values that are None are left out.
    """
    values = [
        {"row": label, **{name: record[name] for name in ("run", "epoch", *columns) if record.get(name) is not None}}
        for label, records in curves.items()
        for record in records
    ]
    whole_epochs = {"axis": {"tickMinStep": 1, "format": "d"}, "scale": {"zero": False, "nice": False}}
    y = _axis("value", title=None, scale={"zero": False})
    number = {"field": "value", "format": ".4~g"}
    tooltip = [
        _name("row"),
        _name("epoch"),
        {**number, "aggregate": "mean", "title": "mean of runs"},
        {**number, "aggregate": "min", "title": "lowest run"},
        {**number, "aggregate": "max", "title": "highest run"},
        {"aggregate": "count", "title": "runs"},
    ]
    mean: Spec = {**y, "aggregate": "mean"}
    band: Spec = {"y": {**y, "aggregate": "min"}, "y2": {"field": "value", "aggregate": "max"}}
    layer: list[Spec] = [
        {"mark": {"type": "area", "opacity": 0.16}, "encoding": band},
        {
            "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.45},
            "encoding": {"y": y, "detail": {"field": "run", "type": "nominal"}},
        },
        {
            "mark": {"type": "line", "point": {"size": 22}, "strokeWidth": 2.5},
            "encoding": {"y": mean, "tooltip": tooltip},
        },
    ]
    return _spec(
        values,
        {"x": _axis("epoch", title="epoch", **whole_epochs)},
        layer,
        height=360,
        params=[{"name": "column", "value": columns[0]}],
        transform=[{"filter": "isValid(datum[column])"}, {"calculate": "datum[column]", "as": "value"}],
    )


def scores_of_runs(runs: Mapping[str, Sequence[float]], *, title: str) -> Spec:
    """Returns for every row a tick for each of its runs, and their mean as a dot."""
    values = [
        {"row": row, "run": place, "error": round(error, DECIMALS)}
        for row, errors in runs.items()
        for place, error in enumerate(errors)
    ]
    x = _axis("error", title=title, scale={"zero": False})
    tooltip = [_name("row"), _name("run"), _number("error", "MPJPE, mm")]
    layer = [
        {
            "mark": {"type": "tick", "thickness": 2, "size": 18, "opacity": 0.7},
            "encoding": {"x": x, "tooltip": tooltip},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {"x": {**x, "aggregate": "mean"}},
        },
    ]
    encoding = {"y": {"field": "row", "type": "nominal", "sort": list(runs), "axis": None}}
    return _spec(values, encoding, layer, height={"step": 34})


def distribution(counts: Mapping[str, Sequence[int]], *, edges_mm: Sequence[float], beyond: Mapping[str, int]) -> Spec:
    """Returns the share of each row's frames in every bin of error.

    `beyond` counts the frames after the last edge: they are not drawn, but belong to the whole.
    """
    values = []
    for row, bin_counts in counts.items():
        percent = 100 / (sum(bin_counts) + beyond[row])
        for low, high, count in zip(edges_mm[:-1], edges_mm[1:], bin_counts, strict=True):
            values.append({"row": row, "low": low, "high": high, "share": round(percent * count, DECIMALS + 1)})
    encoding = {
        "x": _axis("low", title="MPJPE of a frame, mm", scale={"nice": False}),
        "y": _axis("share", title="% of frames", stack=None),
        "tooltip": [_name("row"), _name("low"), _name("high"), _number("share", "% of frames")],
    }
    area = {"type": "area", "interpolate": "step-after", "opacity": 0.22, "line": {"strokeWidth": 1.5}}
    return _spec(values, encoding, [{"mark": area}], height=240)


def _spec(
    values: Sequence[Mapping[str, object]],
    encoding: Mapping[str, object],
    layer: Sequence[Mapping[str, object]],
    **parts: object,
) -> Spec:
    """Returns the specification of a chart as wide as its element, in which every row has its colour."""
    colour = {"field": "row", "type": "nominal", "legend": None}
    content = {"data": {"values": values}, "encoding": {**encoding, "color": colour}, "layer": layer}
    return {"$schema": SCHEMA, "width": "container", **content, **parts}


def _axis(field: str, **parts: object) -> Spec:
    return {"field": field, "type": "quantitative", **parts}


def _name(field: str) -> Spec:
    return {"field": field, "type": "nominal"}


def _number(field: str, title: str | None = None) -> Spec:
    return {"field": field, "type": "quantitative", "format": ".2f", "title": title or field}
