"""`fpqvar-lab sample`."""

from pathlib import Path
from typing import Annotated, Any

from fpqvar_lab.cli.checks import writable
from fpqvar_lab.cli.options import Computation, Execution, Labels, Sampling, Size, Source, between


def sample(
    *,
    source: Source = Source(),
    sampling: Sampling = Sampling(),
    computation: Computation = Computation(),
    execution: Execution = "auto",
    labels: Labels = tuple(range(10)),
    rows: Size = 1,
    more_smooth: bool = False,
    steps: bool = False,
    zoom: Annotated[int, between(1, 64)] = 1,
    out: Path = Path("samples.png"),
) -> None:
    r"""Sample images into one PNG, a row of labels each.

    Args:
        source: which model
        sampling: how
        computation: where
        execution: of a quantized model: auto (what is fastest here) or reference (step by step)
        labels: 0-9 or 1,3,7
        rows: images per label
        more_smooth: mix codes: prettier, not for scores
        steps: show the image after each step too
        zoom: enlarge by this whole factor
        out: the PNG to write

    Examples:
        fpqvar-lab sample --model mini --labels 0-9 --seed 1 --out grid.png
        fpqvar-lab sample --weights var_d16.pth --vqvae vae_ch160v4096z32.pth \
            --labels 207,88,360 --device cuda --dtype float16 --out grid.png
    """
    writable(out)
    import torch
    from torchvision.utils import save_image  # works only beside its own release of torch

    from fpqvar_lab import var
    from fpqvar_lab.cli.models import load_models
    from fpqvar_lab.files import replacing

    model, vqvae = load_models(source, computation, execution)
    device = computation.device
    options: dict[str, Any] = {
        "cfg": sampling.cfg,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "more_smooth": more_smooth,
        "generator": torch.Generator(device).manual_seed(sampling.seed),
    }
    drawn = torch.tensor(labels * rows, device=device)
    # Decoding the image of each step would take longer than the steps.
    images = (
        torch.cat(var.sample(model, vqvae, drawn, return_steps=True, **options)[1])
        if steps
        else var.sample(model, vqvae, drawn, **options)
    )
    for side in (2, 3):
        images = images.repeat_interleave(zoom, dim=side)
    with replacing(out) as partial:
        save_image(images.float(), partial, nrow=len(labels), format="png")
    print(out)
