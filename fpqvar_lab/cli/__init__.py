"""The command line, `fpqvar-lab`."""

from fpqvar_lab.cli.cli import main

__all__ = ["main"]
