"""Rows added to a result file, one after the other, each as soon as it is measured."""

import shutil
import time
from collections.abc import Iterator, Sequence

from fpqvar_lab.evaluation import provenance
from fpqvar_lab.evaluation.measurement import Evaluation
from fpqvar_lab.evaluation.results import Content, ResultFile
from fpqvar_lab.evaluation.subject import Row
from fpqvar_lab.files import digest

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
    evaluation: Evaluation, rows: Sequence[Row], file: ResultFile, *, remeasure: bool = False
) -> Iterator[str]:
    """Measure rows that a result file lacks, and add each as soon as it is there.

    A row that is there is left alone while its recipe is the same; with `remeasure` also the code
    must be the same.

    Yields:
        A line about each row.
    """
    code, started, drawn = provenance.code_digests(), time.perf_counter(), 0
    known = file.rows()
    todo = [row for row in rows if not _up_to_date(known.get(row.name), row, code, remeasure)]
    evaluation.bar.total = evaluation.settings.samples * len(todo)
    for row in rows:
        if row not in todo:
            other = known[row.name]["provenance"]["code"] != digest(code)
            yield f"{row.name}: measured before" + (", with other code" if other else "")
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


def _up_to_date(known: Content | None, row: Row, code: dict[str, str], remeasure: bool) -> bool:
    if known is None:
        return False
    found = known["provenance"]
    same = all(found.get(key) == value for key, value in row.source.items())
    return same and not (remeasure and found["code"] != digest(code))


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def summary(name: str, row: Content) -> str:
    """Describe a row in one line."""
    shown = [f"{text} {row[key]['value']:.4g}" for key, text in LABELS.items() if key in row]
    return f"{name}: {', '.join(shown)}; {row['provenance']['seconds']:.0f} s"
