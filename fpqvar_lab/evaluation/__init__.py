"""How good a quantized model is: FID, Inception score, precision, recall and divergence from the
original, measured in resumable tasks, and result files that say what made them.
"""

from fpqvar_lab.evaluation.confirmation import confirm
from fpqvar_lab.evaluation.dependencies import arithmetic, code_digests
from fpqvar_lab.evaluation.divergence import divergence, layer_snr, predictions
from fpqvar_lab.evaluation.evaluate import evaluate
from fpqvar_lab.evaluation.extractors import (
    CLASSIFIER,
    INCEPTION,
    ExtractorFile,
    features_and_logits,
    load_extractor,
)
from fpqvar_lab.evaluation.images import ImageSet, to_uint8
from fpqvar_lab.evaluation.measurement import PROBE, Evaluation
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
    proportion,
)
from fpqvar_lab.evaluation.models import CodecFile, ExecutionConfig, ModelFile, load_codec
from fpqvar_lab.evaluation.parts import Part, cut
from fpqvar_lab.evaluation.provenance import machine
from fpqvar_lab.evaluation.reference import read_reference
from fpqvar_lab.evaluation.results import ResultFile, read_results
from fpqvar_lab.evaluation.staleness import RowState, row_states, stale
from fpqvar_lab.evaluation.subject import Row, Settings, Subject, choose_rows
from fpqvar_lab.evaluation.tasks import Guidance, ImagesTask, SampleTask, read_moments

__all__ = [
    "CLASSIFIER",
    "INCEPTION",
    "PROBE",
    "CodecFile",
    "Estimate",
    "Evaluation",
    "ExecutionConfig",
    "ExtractorFile",
    "Guidance",
    "ImageSet",
    "ImagesTask",
    "ModelFile",
    "Moments",
    "Part",
    "ResultFile",
    "Row",
    "RowState",
    "SampleTask",
    "Settings",
    "Subject",
    "arithmetic",
    "bootstrap_mean",
    "choose_rows",
    "code_digests",
    "confirm",
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
    "proportion",
    "read_moments",
    "read_reference",
    "read_results",
    "row_states",
    "stale",
    "to_uint8",
]
