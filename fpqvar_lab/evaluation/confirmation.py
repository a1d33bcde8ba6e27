"""Confirming rows: the present code computes what needs no samples, and gets the same numbers.

For a recipe these are KL and cross-entropy, on the images of the row; for the rows of real images
all scores. On the processor that measured the row, with the same version of torch, every digit of
the file must come out. Another processor sums in another order; a value on the edge between two
codes can then be rounded to the other one, and the difference spreads. There the difference must be
a small part of the row's own interval (`TOLERANCE`), and is recorded. A processor that has measured
or confirmed the row before computes only the first images again (`PROBE`), of which every digit
must come out as it did there.
"""

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from fpqvar_lab.evaluation import dependencies, provenance
from fpqvar_lab.evaluation.measurement import PROBE, Evaluation
from fpqvar_lab.evaluation.results import Content, ResultFile, rounded
from fpqvar_lab.evaluation.staleness import file_states
from fpqvar_lab.evaluation.subject import Row
from fpqvar_lab.files import digest

TOLERANCE = 0.25
"""The largest difference on another processor, as a part of the interval's half-width."""
PROBES = ("probe_kl", "probe_cross_entropy")
MEASURES = ("kl", "cross_entropy", "fid", "isc", "precision", "recall", "classifier_accuracy")


def confirm(evaluation: Evaluation, rows: Sequence[Row], file: ResultFile) -> Iterator[str]:
    """Compute rows of a result file again without drawing samples, and record which agree.

    Args:
        evaluation: The subject and the settings, which must be those of the file.
        rows: The rows to confirm; rows that the file lacks are left out.
        file: The result file; rows that agree get the entry `confirmed` in their provenance.

    Yields:
        A line about each row.
    """
    known, states = file.rows(), file_states(file, rows)
    for row in rows:
        if row.name not in known:
            yield f"{row.name}: not in the file"
        elif states[row.name].status != "code has changed":
            yield f"{row.name}: {states[row.name]}"
        else:
            yield f"{row.name}: {_confirm(evaluation, row, known[row.name], file)}"
    if evaluation.shards.is_dir() and not any(evaluation.shards.iterdir()):
        evaluation.shards.rmdir()


def _confirm(evaluation: Evaluation, row: Row, recorded: Content, file: ResultFile) -> str:
    earlier = _earlier_here(recorded, evaluation)
    if earlier is not None:
        record, problem = _by_probe(evaluation, row, earlier)
    else:
        record, problem = _by_all_images(evaluation, row, recorded)
    shutil.rmtree(evaluation.folder(row))
    if problem:
        return f"not confirmed; {problem}"
    file.confirm(row.name, record, dependencies.code_digests())
    return (
        f"confirmed; differences in half-widths of the interval: {_listed(record['half_widths'])}"
    )


def _earlier_here(row: Content, evaluation: Evaluation) -> Content | None:
    """What this processor found, with other code, for the images of the probe."""
    records = [row["provenance"].get("confirmed", {}), row | row["provenance"]]
    return next((r for r in records if r.keys() >= {*PROBES} and _is_here(r, evaluation)), None)


def _by_probe(evaluation: Evaluation, row: Row, earlier: Content) -> tuple[Content, str]:
    found = rounded(evaluation.recompute(row, probe=True))
    changed = [
        f"{name} is {found[name]} and was {earlier[name]} on this processor"
        for name in PROBES
        if found[name] != earlier[name]
    ]
    differences = earlier.get("half_widths", dict.fromkeys(("kl", "cross_entropy"), 0.0))
    record = _record(evaluation, found, differences) | {"images": PROBE}
    return record, "; ".join(changed)


def _by_all_images(evaluation: Evaluation, row: Row, recorded: Content) -> tuple[Content, str]:
    found = evaluation.recompute(row)
    differences = compare(recorded, found)
    limit = 0.0 if _is_here(recorded["provenance"], evaluation) else TOLERANCE
    agrees = differences and max(differences.values()) <= limit
    problem = (
        "" if agrees else f"differences in half-widths of the interval: {_listed(differences)}"
    )
    return _record(evaluation, found, differences), problem


def _listed(differences: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2g}" for name, value in differences.items()) or "no measure"


def compare(recorded: Content, found: Content) -> dict[str, float]:
    """The difference of each measure that both rows have, as a part of its interval's half-width.

    It is zero where all digits agree that a result file keeps, and infinite where they do not and
    there is no interval.
    """
    return {
        name: _difference(recorded[name], rounded(found[name]))
        for name in MEASURES
        if name in recorded and name in found
    }


def _difference(recorded: dict[str, Any], found: dict[str, Any]) -> float:
    distance = abs(recorded["value"] - found["value"])
    if distance == 0:
        return 0.0
    low, high = recorded.get("interval", (0.0, 0.0))
    return 2 * distance / (high - low) if high > low else float("inf")


def _is_here(record: Content, evaluation: Evaluation) -> bool:
    """Whether something was computed by this processor, with the same version of torch."""
    device = evaluation.settings.execution.device
    same = record["machine"] == provenance.machine(device)
    if "instructions" in record:  # rows of the first edition lack them
        same = same and record["instructions"] == provenance.instructions(device)
    return same and record["versions"]["torch"] == provenance.versions()["torch"]


def _record(evaluation: Evaluation, found: Content, differences: dict[str, float]) -> Content:
    return {
        "code": digest(dependencies.code_digests()),
        "date": datetime.now(UTC).date().isoformat(),
        **evaluation.circumstances(),
        **{name: found[name] for name in PROBES if name in found},
        "half_widths": differences,
    }
