"""The kernels in C, compiled by the system's compiler at their first use and loaded with `ctypes`.

They are compiled for the processor at hand, in about two seconds, and kept in the user's cache.
Where that fails, or `FPQVAR_LAB_KERNELS=0` is set, callers run the same operations in PyTorch.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from fpqvar_lab.files import replacing

_log = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent
_SOURCES = ("input_pass.c", "unpacking.c")
# The two last let loops be vectorized and change no result; fused multiply-adds would.
_FLAGS = (
    *("-O3", "-march=native", "-fPIC", "-ffp-contract=off"),
    *("-fno-math-errno", "-fno-trapping-math"),
)

FLOAT32, BFLOAT16, INT8 = range(3)
DTYPES = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.int8: INT8}


class Half(ctypes.Structure):
    """`Half` of `input_pass.c`: the magnitudes of a format, or of one half of a dual format."""

    _fields_ = (
        ("largest", ctypes.c_float),
        ("lowest", ctypes.c_float),
        ("highest", ctypes.c_float),
        ("fraction", ctypes.c_float),
        ("entries", ctypes.c_int32),
        ("thresholds", ctypes.c_float * 127),
        ("levels", ctypes.c_float * 128),
    )


class Pass(ctypes.Structure):
    """`Pass` of `input_pass.c`: what the input pass does, all but the tensors."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("transform", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("input_dtype", ctypes.c_int32),
        ("output_dtype", ctypes.c_int32),
        ("halves", ctypes.c_int32),
        ("scale_storage", ctypes.c_int32),
        ("ratio", ctypes.c_float),
        ("normaliser", ctypes.c_float),
        ("quantum", ctypes.c_float),
        ("half", Half * 2),
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there is no compiler that makes them."""
    if os.environ.get("FPQVAR_LAB_KERNELS") == "0":
        return None
    try:
        return _declared(ctypes.CDLL(str(_built())))
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("the C kernels do not compile here, using PyTorch's: %s", error)
        return None


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's elements begin, for a kernel; None for none."""
    return None if tensor is None else tensor.data_ptr()


def _declared(kernels: ctypes.CDLL) -> ctypes.CDLL:
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    kernels.quantize_rows.argtypes = [ctypes.POINTER(Pass), *[pointer] * 7]
    kernels.find_amax.argtypes = [ctypes.POINTER(Pass), *[pointer] * 5]
    kernels.unpack_groups.argtypes = [pointer, integer, integer, ctypes.c_int32, pointer, pointer]
    kernels.unpack_groups.argtypes += [ctypes.c_int32, pointer]
    kernels.unpack_groups.restype = None
    return kernels


def _built() -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("there is no C compiler (cc); install one, or name it in CC")
    target = _cache_folder() / f"kernels-{_fingerprint(compiler)}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder, replacing(target) as partial:
            shutil.copyfile(_compiled(compiler, Path(folder)), partial)
    return target


def _compiled(compiler: str, folder: Path) -> Path:
    """A shared library in a folder, with OpenMP if the compiler has it."""
    sources = [str(_FOLDER / name) for name in _SOURCES]
    result = folder / "kernels.so"
    try:
        _run([compiler, *_FLAGS, "-fopenmp", "-c", *sources], folder)
    except subprocess.CalledProcessError:
        _run([compiler, *_FLAGS, "-c", *sources], folder)
    objects = [str(path) for path in sorted(folder.glob("*.o"))]
    # Not linked with OpenMP's library: the one that PyTorch has loaded serves, and with it
    # PyTorch's threads and `torch.set_num_threads`. A second one would compete for the cores.
    _run([compiler, "-shared", "-o", str(result), *objects, "-lm"], folder)
    return result


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fpqvar-lab"


def _fingerprint(compiler: str) -> str:
    """Of everything the result depends on: sources, flags, compiler, processor."""
    digest = hashlib.sha256()
    for name in ("kernels.h", *_SOURCES):
        digest.update((_FOLDER / name).read_bytes())
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=60)
    digest.update(version.stdout + " ".join(_FLAGS).encode())
    digest.update(f"{platform.machine()} {_processor()}".encode())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """What tells processors apart that differ in their instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
