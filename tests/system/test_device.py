"""What a process of the pipeline tells the libraries about the processor, asked of the libraries themselves."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from pipeline.system import device

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="limits are of x86 processors")


def answer(question: str, **variables: str) -> str:
    """What a fresh Python prints, which has no limits but the given ones before it imports `pipeline`."""
    limits = device.LIMITS | device.NUMPY_LIMIT
    kept = {variable: value for variable, value in os.environ.items() if variable not in limits}
    done = subprocess.run(
        [sys.executable, "-c", question], env=kept | variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_torch_and_numpy_are_held_to_avx2():
    question = """
import pipeline, torch
from numpy._core._multiarray_umath import __cpu_features__
print(torch.backends.cpu.get_cpu_capability(), __cpu_features__["AVX512F"], __cpu_features__["AVX512_SKX"])
"""
    assert answer(question) == "AVX2 False False"


def test_a_variable_that_is_set_is_left_alone():
    question = "import pipeline, torch; print(torch.backends.cpu.get_cpu_capability())"
    assert answer(question, ATEN_CPU_CAPABILITY="default") == "DEFAULT"


def test_mkl_is_told_before_it_computes():
    assert answer("import os, pipeline, torch; print(os.environ['MKL_CBWR'])") == "AVX2,STRICT"
