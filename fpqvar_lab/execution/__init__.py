"""How a quantized layer is computed: one matrix product of exact operands, after one pass over its
input; and which product a processor gets.
"""

from fpqvar_lab.execution.choice import (
    EXECUTIONS,
    Execution,
    Processor,
    check,
    choose,
    processor_of,
)
from fpqvar_lab.execution.exactness import is_exact
from fpqvar_lab.execution.fused import transform_and_quantize
from fpqvar_lab.execution.input_pass import InputPass, Operand
from fpqvar_lab.execution.products import FloatProduct, IntegerProduct, Product, are_integers
from fpqvar_lab.execution.weights import BUFFER_BYTES, WeightOperand, product

__all__ = [
    "BUFFER_BYTES",
    "EXECUTIONS",
    "Execution",
    "FloatProduct",
    "InputPass",
    "IntegerProduct",
    "Operand",
    "Processor",
    "Product",
    "WeightOperand",
    "are_integers",
    "check",
    "choose",
    "is_exact",
    "processor_of",
    "product",
    "transform_and_quantize",
]
