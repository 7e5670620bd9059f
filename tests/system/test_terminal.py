"""What libraries in C write to stderr is kept, and stderr is the terminal's again afterwards."""

from __future__ import annotations

import os

import pytest

from pipeline.system.terminal import divert_stderr


def fail_noisily(file):
    with divert_stderr(file):
        os.write(2, b"noise")
        raise RuntimeError


def test_stderr_is_diverted_and_comes_back_after_an_error(tmp_path, capfd):
    with (tmp_path / "noise").open("w+b") as file:
        with pytest.raises(RuntimeError):
            fail_noisily(file)
        os.write(2, b"heard")
        file.seek(0)
        assert file.read() == b"noise"
    assert capfd.readouterr().err == "heard"
