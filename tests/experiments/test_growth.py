"""What the benchmark of growth computes and makes: exponents, other people, rows under other names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.speed.growth import ROW, copy_row, exponent, measure_command, page, write_takes
from pipeline.prepare_data.motion_capture import read_takes

RECORD = Path(__file__).parents[2] / "reports" / "benchmarks" / "growth.json"


@pytest.mark.parametrize("sizes", [(1, 10, 100), (2, 10, 50)])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_growth_whatever_the_start_costs(sizes, power):
    costs = [5 + 0.01 * size**power for size in (1000 * size for size in sizes)]
    assert exponent(costs, sizes) == pytest.approx(power)


@pytest.mark.parametrize("costs", [(5.0, 5.1, 5.2), (5.0, 4.0, 6.0), (5.0, 7.0, 6.0)])
def test_costs_that_do_not_grow_have_no_exponent(costs):
    assert exponent(costs, (1, 10, 100)) is None


def test_takes_are_repeated_as_other_people_with_other_bodies(takes, tmp_path):
    few = [take for take in takes.values() if len(take) < 100][:2]
    write_takes(few, tmp_path / "grown", times=3)
    grown = list(read_takes(tmp_path / "grown"))
    assert len(grown) == len({take.name for take in grown}) == 6
    assert len({take.subject for take in grown}) == 3 * len({take.subject for take in few})
    np.testing.assert_allclose(grown[0].joints_world_m, few[0].joints_world_m, atol=1e-6)
    thighs_m = [np.linalg.norm(take.joints_world_m[0, 2] - take.joints_world_m[0, 1]) for take in grown[::2]]
    assert np.ptp(thighs_m) > 0.001


def test_a_copied_row_has_the_files_of_the_row_under_its_own_name(tmp_path):
    name = ROW.replace("f27", "f29")
    for file in (f"data/prepared/{ROW}/manifest.json", f"reports/metrics/{ROW}.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(f'{{"row": "{ROW}"}}', encoding="utf-8")
    copy_row(tmp_path, name)
    for file in (f"data/prepared/{name}/manifest.json", f"reports/metrics/{name}.json"):
        assert json.loads((tmp_path / file).read_text(encoding="utf-8")) == {"row": name}


def test_a_command_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="No such file"):
        measure_command("ls nothing", tmp_path)


def test_the_page_says_what_the_record_says():
    assert RECORD.with_suffix(".md").read_text(encoding="utf-8") == page(json.loads(RECORD.read_text(encoding="utf-8")))
