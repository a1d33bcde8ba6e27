"""The command line: `fpqvar-lab COMMAND ...`. Mistakes end in one line and exit code 2.

The commands import what they work with when they run, so that help and mistakes need no torch.
"""

import inspect
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from functools import partial

from cyclopts import App, CycloptsError, Parameter

import fpqvar_lab
from fpqvar_lab.cli.evaluate import evaluate
from fpqvar_lab.cli.explore import explore
from fpqvar_lab.cli.export import export
from fpqvar_lab.cli.quantize import quantize
from fpqvar_lab.cli.sample import sample
from fpqvar_lab.cli.simulate import simulate
from fpqvar_lab.cli.synth import synth
from fpqvar_lab.cli.train import train

COMMANDS = (sample, train, quantize, export, evaluate, synth, simulate, explore)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `fpqvar-lab`; those of the process if None.

    Returns:
        0, or 2 after a mistake, or 130 when interrupted, for the shell.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        parse(arguments)()
    except KeyboardInterrupt:
        print("fpqvar-lab: interrupted", file=sys.stderr)
        return 130
    except (CycloptsError, ValueError, OSError) as error:
        print(f"fpqvar-lab: {_message(error)}", file=sys.stderr)
        return 2
    return 0


def parse(arguments: Sequence[str]) -> partial[object]:
    """What the arguments ask for, ready to be called.

    Raises:
        CycloptsError: for a command, option or value that does not exist.
        ValueError: when there is no command.
    """
    if not arguments:
        names = ", ".join(command.__name__ for command in COMMANDS)
        raise ValueError(f"no command is given; use one of {names}, or --help")
    command, bound, internal = _app().parse_args(
        list(arguments), exit_on_error=False, print_error=False
    )
    line = shlex.join(["fpqvar-lab", *arguments])
    return partial(command, *bound.args, **bound.kwargs, **dict.fromkeys(internal, line))


def _app() -> App:
    app = App(
        name="fpqvar-lab",
        help="Take a visual autoregressive image model down to 4 bits, and onto an FPGA.",
        help_epilogue=(
            "example:\n  fpqvar-lab sample --model mini --labels 0-9 --seed 1 --out grid.png"
        ),
        help_format="plaintext",
        version=fpqvar_lab.__version__,
        # The last of repeated values counts, and a flag has no --no-flag unless it says so.
        default_parameter=Parameter(negative=(), allow_repeating=True, show_default=_shown),
    )
    for command in COMMANDS:
        app.command(command, help_epilogue=_examples(command))
    return app


def _examples(command: Callable[..., None]) -> str:
    _, _, examples = (inspect.getdoc(command) or "").partition("\nExamples:\n")
    return "examples:\n" + textwrap.indent(textwrap.dedent(examples), "  ")


def _shown(default: object) -> str | None:
    """A default as the help shows it; that an option is not given goes without saying."""
    return None if default is None or default is False or default == () else str(default)


def _message(error: Exception) -> str:
    text = " ".join(str(error).split()) if isinstance(error, CycloptsError) else str(error)
    return text[:1].lower() + text[1:].rstrip(".") if isinstance(error, CycloptsError) else text
