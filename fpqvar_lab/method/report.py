"""NEW."""

from dataclasses import dataclass

from torch import nn

from fpqvar_lab.method.linear import QuantLinear
from fpqvar_lab.method.quantized_var import QuantizedVAR


@dataclass(frozen=True)
class LayerReport:
    """What became of one linear layer.

    Args:
        name: of the layer.
        shape: of its weight (out_channels, in_channels).
        bytes_before: of the weight in 16 bits.
        bytes_after: of the weight as it is stored now, scales included.
        weight: its quantizer as text, None where the layer was skipped.
        input: the input's quantizer as text.
    """

    name: str
    shape: tuple[int, int]
    bytes_before: int
    bytes_after: int
    weight: str | None = None
    input: str | None = None

    @property
    def quantized(self) -> bool:
        return self.weight is not None


@dataclass(frozen=True)
class Report:
    """What quantization did, layer by layer; every linear layer of the model is listed."""

    recipe: str
    layers: tuple[LayerReport, ...]

    def nbytes(self, *, before: bool = False, quantized_only: bool = True) -> int:
        """Bytes of the linear layers' weights, after quantization or before (in 16 bits)."""
        layers = [layer for layer in self.layers if layer.quantized or not quantized_only]
        return sum(layer.bytes_before if before else layer.bytes_after for layer in layers)

    @property
    def bits_per_value(self) -> float:
        """Stored bits for each weight of the quantized layers, scales counted; 16 without any."""
        before = self.nbytes(before=True)
        return 16 * self.nbytes() / before if before else 16.0

    def table(self) -> str:
        """A text table, a line for each layer and a sum."""
        width = max(len(layer.name) for layer in self.layers)
        lines = [
            f"{layer.name:{width}}  {layer.bytes_before:>12,}  {layer.bytes_after:>12,}  "
            + (f"{layer.weight} x {layer.input}" if layer.quantized else "skipped")
            for layer in self.layers
        ]
        total = (
            f"{'quantized layers':{width}}  {self.nbytes(before=True):>12,}  {self.nbytes():>12,}  "
            f"{self.bits_per_value:.2f} bits a weight"
        )
        head = f"{'layer':{width}}  {'16-bit bytes':>12}  {'bytes now':>12}  weight x input"
        return "\n".join([head, *lines, total])


def report(model: QuantizedVAR) -> Report:
    """What became of every linear layer of a quantized model."""
    rows = []
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear):
            shape = (module.out_features, module.in_features)
            weight = module.weight
            rows.append(
                LayerReport(
                    name,
                    shape,
                    2 * shape[0] * shape[1],
                    weight.nbytes,
                    weight.quantizer.to_text(),
                    module.input_quantizer.to_text(),
                )
            )
        elif isinstance(module, nn.Linear):
            shape = (module.out_features, module.in_features)
            rows.append(LayerReport(name, shape, size := 2 * shape[0] * shape[1], size))
    return Report(model.recipe.name, tuple(rows))
