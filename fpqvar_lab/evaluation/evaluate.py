"""Rows added to a result file, one after the other, each as soon as it is measured."""

import shutil
import time
from collections.abc import Iterator, Sequence

from fpqvar_lab.evaluation import dependencies
from fpqvar_lab.evaluation.measurement import Evaluation
from fpqvar_lab.evaluation.results import Content, ResultFile
from fpqvar_lab.evaluation.staleness import file_states
from fpqvar_lab.evaluation.subject import Row

LABELS = {
    "fid": "FID",
    "isc": "IS",
    "precision": "P",
    "recall": "R",
    "classifier_accuracy": "accuracy",
    "kl": "KL",
    "cross_entropy": "CE",
}


def evaluate(
    evaluation: Evaluation, rows: Sequence[Row], file: ResultFile, *, refresh: bool = False
) -> Iterator[str]:
    """Measure rows that a result file lacks, and add each as soon as it is there.

    Args:
        evaluation: The subject and the settings.
        rows: The rows that the file shall have.
        file: The result file.
        refresh: Whether rows are measured again if modules that compute them have changed since,
            unless they were confirmed; rows of another recipe or model are in any case.

    Yields:
        A line about each row.
    """
    code, started, drawn = dependencies.code_digests(), time.perf_counter(), 0
    known = file.rows()
    states = file_states(file, rows)
    todo = [
        row
        for row in rows
        if not _is_of(known.get(row.name), row) or (refresh and states[row.name].is_stale)
    ]
    evaluation.bar.total = evaluation.settings.samples * len(todo)
    for row in rows:
        if row not in todo:
            yield f"{row.name}: measured before ({states[row.name]})"
    for number, row in enumerate(todo):
        evaluation.bar.set_description(row.name)
        found = evaluation.measure(row)
        file.add(row.name, found, code)
        shutil.rmtree(evaluation.folder(row))
        drawn = number + 1
        left = (time.perf_counter() - started) / drawn * (len(todo) - drawn)
        yield f"{summary(row.name, found)}; {len(todo) - drawn} rows left, about {_clock(left)}"
    if evaluation.shards.is_dir() and not any(evaluation.shards.iterdir()):
        evaluation.shards.rmdir()


def _is_of(known: Content | None, row: Row) -> bool:
    """Whether a row that was measured is of the same recipe or model."""
    if known is None:
        return False
    return all(known["provenance"].get(key) == value for key, value in row.source.items())


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def summary(name: str, row: Content) -> str:
    """Describe a row in one line."""
    shown = [f"{text} {row[key]['value']:.4g}" for key, text in LABELS.items() if key in row]
    return f"{name}: {', '.join(shown)}; {row['provenance']['seconds']:.0f} s"
