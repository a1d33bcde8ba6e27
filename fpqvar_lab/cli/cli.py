"""The command line: `fpqvar-lab COMMAND ...`. Mistakes end in one line and exit code 2."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def _labels(text: str) -> list[int]:
    """`0-9`, `3`, `0,2,5-7` -> the numbers, in the order given."""
    labels: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise argparse.ArgumentTypeError(
                f"{part!r} is no label; write for example 0-9 or 1,3,7"
            )
        labels += range(int(first), int(last or first) + 1)
    return labels


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fpqvar-lab",
        description="Take a visual autoregressive image model down to 4 bits, and onto an FPGA.",
        epilog="example: fpqvar-lab sample --model mini --labels 0-9 --seed 1 --out grid.png",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_sample(subparsers)
    _add_train(subparsers)
    _add_synth(subparsers)
    _add_quantize(subparsers)
    _add_evaluate(subparsers)
    _add_simulate(subparsers)
    _add_explore(subparsers)
    return parser


def _command(
    subparsers: argparse._SubParsersAction, name: str, summary: str, examples: str
) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_sample(subparsers: argparse._SubParsersAction) -> None:
    examples = (
        "  fpqvar-lab sample --model mini --labels 0-9 --seed 1 --out grid.png\n"
        "  fpqvar-lab sample --weights var_d16.pth --vqvae vae_ch160v4096z32.pth \\\n"
        "      --labels 207,88,360 --device cuda --dtype float16 --out grid.png"
    )
    sub = _command(
        subparsers, "sample", "sample pictures into one PNG, a row of labels each", examples
    )
    sub.add_argument(
        "--model", choices=("mini", "mini-outlier"), help="a model that comes with the data"
    )
    sub.add_argument("--weights", type=Path, help="a VAR checkpoint (.pth or .safetensors) instead")
    sub.add_argument("--vqvae", type=Path, help="the VQVAE's checkpoint, with --weights")
    sub.add_argument(
        "--labels", type=_labels, default=list(range(10)), help="0-9 or 1,3,7 (default 0-9)"
    )
    sub.add_argument("--rows", type=_positive, default=1, help="pictures of each label (default 1)")
    sub.add_argument("--seed", type=int, default=0, help="default 0")
    sub.add_argument("--cfg", type=float, default=1.5, help="guidance strength (default 1.5)")
    sub.add_argument("--top-k", type=int, default=900, help="codes kept (default 900; 0: all)")
    sub.add_argument(
        "--top-p", type=float, default=0.96, help="probability kept (default 0.96; 0: all)"
    )
    sub.add_argument(
        "--more-smooth", action="store_true", help="mix codes: prettier, not for scores"
    )
    sub.add_argument("--steps", action="store_true", help="show the picture after each step too")
    sub.add_argument("--zoom", type=_positive, default=1, help="enlarge by this whole factor")
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    sub.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    sub.add_argument("--out", type=Path, default=Path("samples.png"), help="default samples.png")
    sub.set_defaults(run="sample")


def _add_train(subparsers: argparse._SubParsersAction) -> None:
    examples = (
        "  fpqvar-lab train vqvae\n"
        "  fpqvar-lab train classifier\n"
        "  fpqvar-lab train var\n"
        "  fpqvar-lab train var --start-from mini --outliers 50 --epochs 1.5 \\\n"
        "      --out data/models/var-mini-outlier.safetensors\n"
        "A run that was interrupted goes on where it stopped when the same command is given again."
    )
    sub = _command(subparsers, "train", "train the mini models on Fashion-MNIST", examples)
    sub.add_argument("what", choices=("vqvae", "classifier", "var"))
    sub.add_argument(
        "--epochs", type=float, metavar="N", help="passes over the 60,000 training pictures"
    )
    sub.add_argument("--batch-size", type=int)
    sub.add_argument("--learning-rate", type=float)
    sub.add_argument("--seed", type=int, default=0, help="default 0")
    sub.add_argument("--float32", action="store_true", help="no bfloat16 in matrix products")
    sub.add_argument("--fashion-mnist", type=Path, help="folder of the original .gz files")
    sub.add_argument("--start-from", help="var: begin from these weights (mini or a file)")
    sub.add_argument("--outliers", type=float, help="var: amplitude of planted outlier channels")
    sub.add_argument("--vqvae", default="mini", help="var: the VQVAE (default mini)")
    sub.add_argument("--out", type=Path, help="default data/models/<what>-mini.safetensors")
    sub.set_defaults(run="train")


def _add_quantize(subparsers: argparse._SubParsersAction) -> None:
    examples = (
        "  fpqvar-lab quantize --model mini-outlier --recipe fp4-fpqvar --out fp4.safetensors\n"
        "  fpqvar-lab quantize --weights var_d30.pth --vqvae vae_ch160v4096z32.pth \\\n"
        "      --recipe fp4-fpqvar --device cuda --dtype float16 --out d30-fp4.safetensors\n"
        "  fpqvar-lab quantize --recipe fp4-fpqvar --show\n"
        "The result is a model for sample --weights and evaluate --quantized."
    )
    sub = _command(subparsers, "quantize", "quantize a model by a recipe", examples)
    sub.add_argument("--model", choices=("mini", "mini-outlier"), help="one of the data's models")
    sub.add_argument("--weights", type=Path, help="a VAR checkpoint (.pth or .safetensors) instead")
    sub.add_argument("--vqvae", type=Path, help="the VQVAE's checkpoint, with --weights")
    sub.add_argument(
        "--recipe", default="fp4-fpqvar", help="a name or a .toml file (default fp4-fpqvar)"
    )
    sub.add_argument("--show", action="store_true", help="print the recipe and stop")
    sub.add_argument(
        "--pictures", type=_positive, default=100, help="drawn for calibration (default 100)"
    )
    sub.add_argument(
        "--tokens", type=_positive, default=1024, help="kept by layer and step (default 1024)"
    )
    sub.add_argument("--seed", type=int, default=0, help="of the calibration (default 0)")
    sub.add_argument(
        "--batch-size", type=_positive, default=10, help="pictures drawn at a time (default 10)"
    )
    sub.add_argument("--spill", type=Path, help="keep calibration in this file, not in memory")
    sub.add_argument("--fc1-factors", type=Path, help="published factors, a .pth list of vectors")
    sub.add_argument("--qkv-factors", type=Path, help="the same for mat_qkv")
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    sub.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    sub.add_argument("--out", type=Path, default=Path("quantized.safetensors"))
    sub.set_defaults(run="quantize")


def _add_evaluate(subparsers: argparse._SubParsersAction) -> None:
    examples = (
        "  fpqvar-lab evaluate --model mini-outlier --recipes fp16,fp4-fpqvar --out scores.json\n"
        "  fpqvar-lab evaluate --model mini --samples 2000 --workers 2 --out scores.json\n"
        "  fpqvar-lab evaluate --weights var_d16.pth --vqvae vae_ch160v4096z32.pth \\\n"
        "      --reference VIRTUAL_imagenet256_labeled.npz --recipes fp16,fp4-fpqvar \\\n"
        "      --samples 50000 --device cuda --scheduler tcp://node1:8786 --out d16.json\n"
        "A run that was interrupted goes on where it stopped if the same command is given again.\n"
        "Rows that the file has already are kept; more recipes add rows."
    )
    sub = _command(
        subparsers, "evaluate", "score recipes: FID, IS, precision, recall, divergence", examples
    )
    _add_subject(sub)
    _add_scoring(sub)
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    sub.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    sub.add_argument("--threads", type=_positive, help="of each process (default: torch's choice)")
    sub.add_argument("--workers", type=_positive, help="run in so many processes here")
    sub.add_argument("--scheduler", metavar="ADDRESS", help="run on the Dask cluster there")
    sub.add_argument(
        "--refresh",
        "--remeasure",
        action="store_true",
        help="measure again the rows whose arithmetic has changed since",
    )
    sub.add_argument(
        "--confirm",
        action="store_true",
        help="compute KL again (no samples) and record which rows still hold",
    )
    sub.add_argument("--out", type=Path, default=Path("scores.json"), help="default scores.json")
    sub.set_defaults(run="evaluate")


def _add_subject(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--model", choices=("mini", "mini-outlier"), help="a model that comes with the data"
    )
    sub.add_argument("--weights", type=Path, help="a VAR checkpoint (.pth or .safetensors) instead")
    sub.add_argument("--vqvae", type=Path, help="the VQVAE's checkpoint, with --weights")
    sub.add_argument(
        "--recipes", metavar="NAMES", help="all (default), or names or .toml files with commas"
    )
    sub.add_argument(
        "--quantized", type=Path, action="append", metavar="FILE", help="a quantized model as a row"
    )
    sub.add_argument(
        "--reference",
        type=Path,
        metavar="PATH",
        help="real side of FID: image folder, .npz batch, or .npz with mu and sigma",
    )
    sub.add_argument(
        "--test-images",
        "--test-pictures",
        type=Path,
        metavar="PATH",
        help="labelled images for KL: a folder for each class, or .npz with arr_0 and arr_1",
    )
    sub.add_argument(
        "--inception-weights", type=Path, metavar="FILE", help="instead of fetching them"
    )


def _add_scoring(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--samples", type=_positive, default=10_000, help="of a row (default 10000)")
    sub.add_argument(
        "--images",
        "--pictures",
        type=_positive,
        default=2000,
        help="for cross-entropy and KL (default 2000)",
    )
    sub.add_argument("--seed", type=int, default=0, help="default 0")
    sub.add_argument("--cfg", type=float, default=1.5, help="guidance strength (default 1.5)")
    sub.add_argument("--top-k", type=int, default=900, help="codes kept (default 900; 0: all)")
    sub.add_argument(
        "--top-p", type=float, default=0.96, help="probability kept (default 0.96; 0: all)"
    )
    sub.add_argument("--batch-size", type=_positive, default=100, help="default 100")
    sub.add_argument(
        "--shard", type=_positive, default=500, help="samples stored at a time (default 500)"
    )
    sub.add_argument(
        "--keep-samples", type=Path, metavar="FOLDER", help="write the samples there (.npz)"
    )


def _add_synth(subparsers: argparse._SubParsersAction) -> None:
    examples = (
        "  fpqvar-lab synth --list\n"
        "  fpqvar-lab synth --unit fp-multiplier --format e2m1\n"
        "  fpqvar-lab synth --unit dot-product --format e2m1 --format int4 --lanes 16\n"
        "  fpqvar-lab synth --unit hadamard --lanes 4 --verilog out/"
    )
    sub = _command(subparsers, "synth", "count what a hardware unit takes of an FPGA", examples)
    sub.add_argument("--unit", default="fp-multiplier", help="default fp-multiplier; see --list")
    sub.add_argument("--format", action="append", help="e2m1 (default), int4, dual-fp4, ...")
    sub.add_argument("--lanes", type=_positive, help="elements a cycle, where the unit has lanes")
    sub.add_argument("--family", default="xcup", help="of synth_xilinx: xcup (default), xc7, ...")
    sub.add_argument("--verilog", type=Path, metavar="FOLDER", help="write Verilog there too")
    sub.add_argument("--list", action="store_true", help="list the units")
    sub.add_argument("--all", action="store_true", help="renew data/results/synthesis.json")
    sub.set_defaults(run="synth")


def _add_simulate(subparsers: argparse._SubParsersAction) -> None:
    examples = (
        "  fpqvar-lab simulate --model d30 --device vck190 --recipe fp4-fpqvar-pow2\n"
        "  fpqvar-lab simulate --model d30 --columns 96 --clock 400 --trace trace.json\n"
        "  fpqvar-lab simulate --model d16 --device u280 --clock 200 --no-coarse"
    )
    sub = _command(
        subparsers, "simulate", "simulate an accelerator for VAR, cycle by cycle", examples
    )
    _add_accelerator(sub)
    numbers = {
        "rows": "tokens of a matrix array's tile",
        "columns": "output channels of a tile",
        "lanes": "products a cycle in each dot product",
        "arrays": "equal matrix arrays",
        "attention-macs": "products a cycle of the attention array",
        "hadamard-lanes": "elements a cycle",
        "quantizer-lanes": "elements a cycle",
        "special-lanes": "elements a cycle (softmax, GELU, normalisation)",
    }
    for name, text in numbers.items():
        sub.add_argument(f"--{name}", type=_positive, metavar="N", help=text)
    sub.add_argument("--weight-buffer", type=_positive, metavar="KIB", help="weights on the chip")
    sub.add_argument("--activation-buffer", type=_positive, metavar="KIB", help="activations on it")
    sub.add_argument("--single-buffered", action="store_true", help="no weights ahead of their use")
    sub.add_argument("--no-fine", action="store_true", help="stages of an operation do not overlap")
    sub.add_argument("--no-coarse", action="store_true", help="operations do not overlap")
    sub.add_argument(
        "--trace", type=Path, metavar="FILE", help="write the timeline for Perfetto (JSON)"
    )
    sub.set_defaults(run="simulate")


def _add_explore(subparsers: argparse._SubParsersAction) -> None:
    examples = (
        "  fpqvar-lab explore --device vck190 --recipe fp4-fpqvar-pow2 --out vck190.json\n"
        "  fpqvar-lab explore --model d30 --batch 2 --recipe fp4-fpqvar-pow2,int4-quarot \\\n"
        "      --limit 500 --workers 4 --out designs.json\n"
        "A run that was interrupted goes on where it stopped if the same command is given again."
    )
    sub = _command(subparsers, "explore", "look for the best accelerators for a device", examples)
    _add_accelerator(sub)
    sub.add_argument(
        "--share", type=_share, default=0.9, help="of the device that may be used (default 0.9)"
    )
    sub.add_argument(
        "--limit", type=_positive, default=200, help="designs to simulate (default 200)"
    )
    sub.add_argument(
        "--at-once", type=_positive, default=4, help="designs given away at a time (default 4)"
    )
    sub.add_argument("--workers", type=_positive, help="run in so many processes here")
    sub.add_argument("--scheduler", metavar="ADDRESS", help="run on the Dask cluster there")
    sub.add_argument("--out", type=Path, default=Path("designs.json"), help="default designs.json")
    sub.add_argument("--all", action="store_true", help="renew data/results/accelerator.json")
    sub.set_defaults(run="explore")


def _add_accelerator(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="d30", help="d16, d20, d24, d30 (default), d36 or mini")
    sub.add_argument("--device", default="vck190", help="vck190 (default), u280 or k26")
    sub.add_argument(
        "--recipe", default="fp4-fpqvar-pow2", help="a name or a .toml file (fp4-fpqvar-pow2)"
    )
    sub.add_argument("--batch", type=_positive, default=1, help="images at a time (default 1)")
    sub.add_argument(
        "--clock", type=_positive, default=300, metavar="MHZ", help="assumed clock (default 300)"
    )
    sub.add_argument(
        "--efficiency", type=_share, default=0.8, help="of the memory's bandwidth (default 0.8)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    options.command_line = shlex.join(["fpqvar-lab", *arguments])
    from fpqvar_lab.cli import commands

    try:
        getattr(commands, options.run)(options)
    except KeyboardInterrupt:
        print("fpqvar-lab: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"fpqvar-lab: {error}", file=sys.stderr)
        return 2
    return 0
