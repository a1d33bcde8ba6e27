"""Quantizers as the first edition described them in stored tensors: JSON objects, each with the
`kind` of a frozen value and that value's fields. Read for one version more, and not written.
"""

from collections.abc import Mapping
from typing import Any

from fpqvar_lab.formats import DualFormat, FloatFormat, GridFormat, IntFormat, Rounding
from fpqvar_lab.quantization.granularity import PerChannel, PerGroup, PerTensor, PerToken
from fpqvar_lab.quantization.scale_methods import AbsMax, MseSearch, Percentile
from fpqvar_lab.quantization.scales import ScaleDtype

_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(FloatFormat, IntFormat, GridFormat, DualFormat, Rounding),
        *(PerTensor, PerChannel, PerToken, PerGroup),
        *(AbsMax, Percentile, MseSearch, ScaleDtype),
    )
}
_RENAMED: dict[str, str] = {"reserved": "num_high_nans"}


def fields_from_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, by name, of the quantizer that the first edition described.

    Raises:
        KeyError: when the description holds a kind that the first edition did not have.
    """
    fields = {name: _value(entry) for name, entry in description.items() if name != "kind"}
    return fields | {"gradient": fields["gradient"].replace("inside", "clipped")}


def _value(entry: Any) -> Any:
    if isinstance(entry, list):
        return tuple(entry)
    if not isinstance(entry, dict):
        return entry
    fields: dict[str, Any] = {_RENAMED.get(str(k), str(k)): _value(v) for k, v in entry.items()}
    return _KINDS[fields.pop("kind")](**fields)
