"""What each further frame of a long recording takes in memory while people are lifted and written."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.lift.body.bones import hold_bones
from pipeline.lift.outputs import DEFAULT_OUTPUTS, OUTPUTS
from pipeline.lift.people import LiftedPerson
from pipeline.poses.skeleton import H36M_17
from tests.fixtures.lifted_walker import lifted_person, lifted_walkers

MOST_BYTES = 4000  # for a frame, of which a lifted person's arrays have 860


def measure_bytes_per_frame(work: Callable[[LiftedPerson], object], *, few: int, many: int) -> float:
    """Returns by how much the peak of what `work` allocates grows from a person of `few` frames to one of `many`."""
    work(lifted_person(2))  # what it loads is loaded once
    peaks = []
    for frames in (few, many):
        person = lifted_person(frames)
        tracemalloc.start()
        work(person)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return (peaks[1] - peaks[0]) / (many - few)


def write(person: LiftedPerson, *, output: str, folder: Path) -> None:
    file, write_file = OUTPUTS[output]
    write_file(folder / file, replace(lifted_walkers(person, frames=len(person)), card={"rate_hz": 30.0}))


def test_to_hold_the_bones_of_a_longer_recording_takes_little_more_than_its_arrays():
    assert measure_bytes_per_frame(lambda one: hold_bones([one], H36M_17), few=1024, many=2048) < MOST_BYTES


@pytest.mark.parametrize("output", DEFAULT_OUTPUTS)
def test_to_write_a_longer_recording_takes_little_more_than_its_arrays(output, tmp_path):
    one = partial(write, output=output, folder=tmp_path)
    assert measure_bytes_per_frame(one, few=100, many=250) < MOST_BYTES
