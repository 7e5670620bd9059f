"""The device that torch computes on, and the instructions that libraries may use on an x86 processor.

numpy, torch and the libraries below them choose their instructions by the processor, and with them the order of sums.
They are limited to AVX2, so that unlike processors of one vendor compute the same bits (docs/reliability.md).
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.system.errors import UserError

if TYPE_CHECKING:
    import torch

LIMITS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2,STRICT",  # AMD's processors ignore it and take the same whichever they are
    "OPENBLAS_CORETYPE": "Haswell",
}
NUMPY_LIMIT = {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX"}  # numpy warns if there is nothing to disable
CPU_INFO = Path("/proc/cpuinfo")


def limit_instructions() -> None:
    """Limits this process and those it starts; a variable that is set already is left alone.

    Has no effect on a library that has begun to compute.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        has_avx512 = CPU_INFO.exists() and "avx512dq" in CPU_INFO.read_text(encoding="utf-8")
        for variable, value in (LIMITS | NUMPY_LIMIT if has_avx512 else LIMITS).items():
            os.environ.setdefault(variable, value)


def torch_device(name: str) -> torch.device:
    """Returns the device called `name`; "auto" is the GPU if there is one. Raises UserError if "cuda" is missing.

    From then on convolutions on a GPU are not TF32, which is torch's default.
    """
    import torch  # here, since the limits have to be set before it is loaded

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: expected a GPU for 'cuda', found none that torch can use")
    torch.backends.cudnn.allow_tf32 = False  # convolutions compute in float32, as products of matrices do
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
