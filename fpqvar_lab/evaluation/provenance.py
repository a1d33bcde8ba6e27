"""What a result file says of how it came about: versions of libraries and the processor."""

import importlib.metadata
import platform
from pathlib import Path

import torch


def versions() -> dict[str, str]:
    """The versions of Python and of the packages whose arithmetic counts."""
    packages = ("torch", "numpy", "torch-fidelity")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }


def machine(device: str) -> str:
    """The name that its maker gives to the processor which does the work."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def instructions(device: str) -> str:
    """The widest vector instructions that torch uses there: two CPUs of one name can differ."""
    if device.startswith("cuda"):
        return "sm_{}{}".format(*torch.cuda.get_device_capability(device))
    return torch.backends.cpu.get_cpu_capability()
