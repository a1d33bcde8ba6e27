"""The command line, `fpqvar-lab`: one module per command, whose options are the arguments of a
function and whose help is that function's docstring.
"""

from fpqvar_lab.cli.app import main

__all__ = ["main"]
