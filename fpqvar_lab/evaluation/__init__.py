"""How good a quantized model is: FID, Inception score, precision, recall and divergence from the
original, measured in resumable tasks, and result files that say what made them.
"""

from fpqvar_lab.evaluation.divergence import divergence, layer_snr, predictions
from fpqvar_lab.evaluation.evaluate import (
    PROBE,
    Evaluation,
    Settings,
    Subject,
    choose_rows,
    evaluate,
)
from fpqvar_lab.evaluation.extractors import (
    CLASSIFIER,
    INCEPTION,
    ExtractorFile,
    features_and_logits,
    load_extractor,
)
from fpqvar_lab.evaluation.images import PictureSet, to_uint8
from fpqvar_lab.evaluation.metrics import (
    Estimate,
    Moments,
    bootstrap_mean,
    difference,
    frechet_distance,
    inception_scores,
    jackknife,
    merged,
    precision_and_recall,
    share,
)
from fpqvar_lab.evaluation.models import CodecFile, Machine, ModelFile, load_codec
from fpqvar_lab.evaluation.provenance import machine
from fpqvar_lab.evaluation.reference import read_reference
from fpqvar_lab.evaluation.results import ResultFile, read_results, stale
from fpqvar_lab.evaluation.tasks import Guidance, Part, SampleTask, cut, read_moments

__all__ = [
    "CLASSIFIER",
    "INCEPTION",
    "PROBE",
    "CodecFile",
    "Estimate",
    "Evaluation",
    "ExtractorFile",
    "Guidance",
    "Machine",
    "ModelFile",
    "Moments",
    "Part",
    "PictureSet",
    "ResultFile",
    "SampleTask",
    "Settings",
    "Subject",
    "bootstrap_mean",
    "choose_rows",
    "cut",
    "difference",
    "divergence",
    "evaluate",
    "features_and_logits",
    "frechet_distance",
    "inception_scores",
    "jackknife",
    "layer_snr",
    "load_codec",
    "load_extractor",
    "machine",
    "merged",
    "precision_and_recall",
    "predictions",
    "read_moments",
    "read_reference",
    "read_results",
    "share",
    "stale",
    "to_uint8",
]
