"""Where what the tools made is kept, so that it need not be made again."""

from pathlib import Path

import platformdirs

_ROOT = Path(__file__).resolve().parents[3]


def cache_folder(name: str) -> Path:
    """The folder for one kind of results; it may not exist yet.

    Args:
        name: The kind, which becomes the folder's name.

    Returns:
        `_build/name` in a checkout, and a folder in the user's cache for an installed package.
    """
    if (_ROOT / "pyproject.toml").exists():
        return _ROOT / "_build" / name
    return platformdirs.user_cache_path("fpqvar-lab", appauthor=False) / name
