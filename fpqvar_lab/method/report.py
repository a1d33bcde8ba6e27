"""The account of a quantized model: what became of each of its linear layers."""

from dataclasses import dataclass

from tabulate import tabulate
from torch import nn

from fpqvar_lab.method.linear import QuantLinear
from fpqvar_lab.method.quantized_var import QuantizedVAR
from fpqvar_lab.method.weight_only import WeightOnlyLinear


@dataclass(frozen=True)
class LayerReport:
    """What became of one linear layer.

    Args:
        name: the layer's name in the model.
        shape: shape of its weight, (out_channels, in_channels).
        bytes_before: bytes that the weight takes in 16 bits.
        bytes_after: bytes that the weight takes as it is stored now, scales included.
        weight: the weight's quantizer as text; None where the layer was skipped.
        input: the input's quantizer as text; None where the input is not quantized.
    """

    name: str
    shape: tuple[int, int]
    bytes_before: int
    bytes_after: int
    weight: str | None = None
    input: str | None = None

    @property
    def quantized(self) -> bool:
        """Whether the layer is quantized."""
        return self.weight is not None

    def row(self) -> tuple[str, str, str, str]:
        """The layer's line in `Report.table`."""
        inputs = self.input or "high precision"
        done = f"{self.weight} x {inputs}" if self.quantized else "skipped"
        return self.name, f"{self.bytes_before:,}", f"{self.bytes_after:,}", done


@dataclass(frozen=True)
class Report:
    """What quantization did, layer by layer.

    Args:
        recipe: the name of the recipe.
        layers: every linear layer of the model, in its order, skipped ones included.
    """

    recipe: str
    layers: tuple[LayerReport, ...]

    def nbytes(self, *, before: bool = False, quantized_only: bool = True) -> int:
        """Bytes of the linear layers' weights, after quantization or before (in 16 bits)."""
        layers = [layer for layer in self.layers if layer.quantized or not quantized_only]
        return sum(layer.bytes_before if before else layer.bytes_after for layer in layers)

    @property
    def bits_per_value(self) -> float:
        """Stored bits per weight of the quantized layers, scales included; 16 if there are none."""
        before = self.nbytes(before=True)
        return 16 * self.nbytes() / before if before else 16.0

    def table(self) -> str:
        """A text table with a line per layer, and a last line for the quantized layers together."""
        rows = [layer.row() for layer in self.layers]
        sizes = f"{self.nbytes(before=True):,}", f"{self.nbytes():,}"
        rows.append(("quantized layers", *sizes, f"{self.bits_per_value:.2f} bits per weight"))
        return tabulate(
            rows,
            headers=("layer", "16-bit bytes", "bytes now", "weight x input"),
            tablefmt="plain",
            colalign=("left", "right", "right", "left"),
            headersalign=("same",) * 4,
            disable_numparse=True,
        )


def report(model: QuantizedVAR) -> Report:
    """What became of every linear layer of a quantized model."""
    layers = (_layer_report(name, module) for name, module in model.named_modules())
    return Report(model.recipe.name, tuple(layer for layer in layers if layer is not None))


def _layer_report(name: str, module: nn.Module) -> LayerReport | None:
    """The report of one module; None of one that is no linear layer."""
    if not isinstance(module, QuantLinear | WeightOnlyLinear | nn.Linear):
        return None
    shape = (module.out_features, module.in_features)
    before = 2 * shape[0] * shape[1]
    if isinstance(module, nn.Linear):
        return LayerReport(name, shape, before, before)
    weight = module.weight
    inputs = module.input_quantizer.to_text() if isinstance(module, QuantLinear) else None
    return LayerReport(name, shape, before, weight.nbytes, weight.quantizer.to_text(), inputs)
