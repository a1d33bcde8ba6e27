"""What is checked before long work starts, and refused in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def writable(file: Path, option: str = "--out") -> Path:
    """`file`, if it can be written; its folders are made when it is.

    Args:
        file: the file that a command will write.
        option: the option that asked for it, for the message.

    Raises:
        OSError: when it is a folder, lies below a file, or may not be written.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{option} {file}: is a folder; give a file")
    if file.exists() and not os.access(file, os.W_OK):
        raise PermissionError(f"{option} {file}: is read-only")
    _check_parents(file, option)
    return file


def writable_folder(folder: Path, option: str) -> Path:
    """`folder`, if files can be written there; it is made when they are.

    Raises:
        OSError: as `writable`.
    """
    _check_parents(folder / "file", option)
    return folder


def _check_parents(file: Path, option: str) -> None:
    folder = next(found for found in file.parents if found.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{option} {file}: cannot be made, since {folder} is a file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{option} {file}: cannot be made, since {folder} is read-only")


def usable(device: str) -> str:
    """`device`, if torch can compute on it here.

    Raises:
        ValueError: when there is no such device.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        message = f"--device {device!r} cannot be used here; there are {', '.join(there)}"
        raise ValueError(message) from error
    return device


@contextmanager
def hardware_extra() -> Iterator[None]:
    """Says what to install when the packages for hardware are missing.

    Raises:
        ValueError: when an import in the block finds no module.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        message = f"no module {missing.name}; install the extra with pip install '.[hardware]'"
        raise ValueError(message) from missing
