"""Digests of files and values, and files that are written wholly or not at all."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sha256(file: Path) -> str:
    """Compute the hexadecimal SHA-256 digest of a file's bytes, as they are now."""
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest(value: object) -> str:
    """Compute the hexadecimal SHA-256 digest of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Write a file atomically: yields a path to write to, which then replaces `file`.

    The new content is on the disk before the name changes, so that after a crash the file is
    the old one or the new one. When the block raises, the old file stays and the new one is
    deleted. Two processes that write the same file do not share a partial one.

    Args:
        file: The file to make or to replace; folders that are missing are made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        yield partial
        _flush(partial)
        # Libraries may create files for their owner alone; these get what other files here have.
        partial.chmod(0o666 & ~_umask())
        partial.replace(file)
        _flush(file.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file atomically, as `replacing` does."""
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return mask
