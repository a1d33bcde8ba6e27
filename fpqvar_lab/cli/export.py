"""`fpqvar-lab export`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fpqvar_lab.cli.checks import writable


def export(
    *,
    weights: Annotated[Path, Parameter(metavar="FILE")],
    to: Literal["public"] = "public",
    dtype: Literal["float16", "bfloat16", "float32"] = "float16",
    out: Path = Path("exported.pth"),
) -> None:
    r"""Write a quantized model for other people's code.

    The file has the public checkpoints' names, and the quantized weights, decoded. The public VAR
    code and its evaluators take it. There activations are not quantized: what they measure is
    what the weights alone cost.

    Args:
        weights: a model that quantize wrote
        to: public: a .pth state dict for the public VAR code
        dtype: of the tensors
        out: the file to write

    Examples:
        fpqvar-lab export --weights d30-fp4.safetensors --to public --out var_d30_fp4.pth
    """
    del to  # the only one so far
    writable(out)
    import torch

    from fpqvar_lab.method import export_public, load_quantized

    if out.suffix != ".pth":
        raise ValueError(f"--out {out}: the public code reads .pth files")
    export_public(load_quantized(weights), out, getattr(torch, dtype))
    print(out)
