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


@pytest.mark.parametrize(("same_bits", "mode"), [("one_vendor", "AVX2,STRICT"), ("x86", "COMPATIBLE")])
def test_mkl_is_told_before_it_computes(same_bits, mode):
    question = f"""
import os, pipeline, torch
from pipeline.system.device import limit_further
limit_further("{same_bits}")
print(os.environ["MKL_CBWR"])
"""
    assert answer(question) == mode


def test_agreement_of_all_x86_processors_changes_what_mkl_does():
    question = """
import hashlib, pipeline, torch
from pipeline.system.device import limit_further
limit_further("{}")
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
product = torch.randn(300, 300, generator=generator) @ torch.randn(300, 300, generator=generator)
print(hashlib.sha256(product.numpy().tobytes()).hexdigest())
"""
    assert answer(question.format("one_vendor")) != answer(question.format("x86"))
    assert answer(question.format("x86")) == answer(question.format("x86"))
