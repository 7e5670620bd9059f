"""Makes the libraries compute the same bits on unlike x86 processors, at least those of one vendor with AVX2.

numpy, torch and the libraries below them choose their instructions by the processor, and with them the order of sums.
What was measured, and on which processors, stands in docs/reliability.md. A variable that is set already is left alone.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Literal

SameBits = Literal["one_vendor", "x86"]
LIMITS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2,STRICT",  # AMD's processors ignore it and take the same whichever they are
    "OPENBLAS_CORETYPE": "Haswell",
}
NUMPY_LIMIT = {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX"}  # numpy warns if there is nothing to disable
CPU_INFO = Path("/proc/cpuinfo")


def limit_instructions() -> None:
    """Set the limits for this process and those it starts. Has no effect on a library that has begun to compute."""
    if platform.machine() in ("x86_64", "AMD64"):
        has_avx512 = CPU_INFO.exists() and "avx512dq" in CPU_INFO.read_text(encoding="utf-8")
        for variable, value in (LIMITS | NUMPY_LIMIT if has_avx512 else LIMITS).items():
            os.environ.setdefault(variable, value)


def limit_further(same_bits: SameBits) -> None:
    """Where Intel's and AMD's processors are to agree too, keep MKL from what only one of them has; at a cost."""
    if same_bits == "x86" and os.environ.get("MKL_CBWR") == LIMITS["MKL_CBWR"]:
        os.environ["MKL_CBWR"] = "COMPATIBLE"
