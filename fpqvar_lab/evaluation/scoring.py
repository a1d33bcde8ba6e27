"""From the results of tasks to the scores of a row, each with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fpqvar_lab.evaluation import metrics
from fpqvar_lab.evaluation.metrics import Estimate, Moments
from fpqvar_lab.evaluation.reference import Reference
from fpqvar_lab.evaluation.tasks import read_moments
from fpqvar_lab.parallel import Tensors


@dataclass(frozen=True)
class Group:
    """The samples of one group of the jackknife, reduced to what scores are made of.

    Args:
        moments: The moments of the samples' features.
        logits: (n, classes), the extractor's logits.
        hits: (n,), whether the extractor sees the class that was asked for.
    """

    moments: Moments
    logits: Tensor
    hits: Tensor

    @staticmethod
    def of(parts: Sequence[Tensors]) -> "Group":
        """Merge the parts of a group in their order."""
        moments = metrics.merged([read_moments(part) for part in parts])
        logits, hits = (torch.cat([part[key] for part in parts]) for key in ("logits", "hits"))
        return Group(moments, logits, hits)


def scores(
    groups: Mapping[int, Sequence[Tensors]], reference: Reference, *, accuracy: bool
) -> dict[str, Estimate]:
    """FID, Inception score, precision, recall, and classifier accuracy.

    Classifier accuracy is the fraction of samples in which the extractor sees the class that was
    asked for.

    Args:
        groups: The results of the parts of each group, in their order.
        reference: The real images.
        accuracy: Whether the extractor's classes are those of the model.
    """
    parts = [Group.of(groups[number]) for number in sorted(groups)]

    def fid(some: Sequence[Group]) -> float:
        moments = metrics.merged([group.moments for group in some])
        real = reference.mean, reference.covariance
        return metrics.frechet_distance(moments.mean, moments.covariance, *real)

    found = {"fid": metrics.jackknife(parts, fid), "isc": _inception_score(parts)}
    if reference.features is not None:
        kept = [result["features"] for number in sorted(groups) for result in groups[number]]
        found |= _precision_and_recall(torch.cat(kept), reference.features)
    if accuracy:
        found["classifier_accuracy"] = _accuracy(parts)
    return found


def _inception_score(groups: Sequence[Group]) -> Estimate:
    logits = torch.cat([group.logits for group in groups])
    if len(groups) == 1:  # perhaps in the order of classes, and then no split stands for the whole
        logits = logits[torch.randperm(len(logits), generator=torch.Generator().manual_seed(0))]
    scores_of_splits = metrics.inception_scores(logits)
    return metrics.jackknife(scores_of_splits, lambda some: sum(some) / len(some))


def _precision_and_recall(features: Tensor, real: Tensor) -> dict[str, Estimate]:
    precision, recall = metrics.precision_and_recall(features, real)
    return {
        "precision": metrics.proportion(precision, len(features)),
        "recall": metrics.proportion(recall, len(real)),
    }


def _accuracy(groups: Sequence[Group]) -> Estimate:
    def measure(some: Sequence[Group]) -> float:
        return torch.cat([group.hits for group in some]).double().mean().item()

    found = metrics.jackknife(groups, measure)
    count = sum(len(group.hits) for group in groups)
    return replace(metrics.proportion(found.value, count), without=found.without)
