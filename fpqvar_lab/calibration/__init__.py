"""What the layers of a model read while it samples, captured in bounded memory, and its statistics
by channel and step.
"""

from fpqvar_lab.calibration.activations import Activations
from fpqvar_lab.calibration.capture import (
    CalibrationSet,
    Patterns,
    capture,
    capture_bytes,
    layer_names,
    observe,
)
from fpqvar_lab.calibration.channel_statistics import HISTOGRAM_EDGES, ChannelStatistics

__all__ = [
    "HISTOGRAM_EDGES",
    "Activations",
    "CalibrationSet",
    "ChannelStatistics",
    "Patterns",
    "capture",
    "capture_bytes",
    "layer_names",
    "observe",
]
