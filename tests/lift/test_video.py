"""Without the detector for videos a line says what to install."""

from __future__ import annotations

import sys

import pytest

from pipeline.lift.formats import read_recording
from pipeline.lift.people import InputOptions
from pipeline.system.errors import UserError


def test_without_the_detector_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    (tmp_path / "walk.mp4").touch()
    with pytest.raises(UserError, match=r"walk\.mp4: expected the optional detector .* pip install \.\[video\]"):
        read_recording(tmp_path / "walk.mp4", InputOptions())
