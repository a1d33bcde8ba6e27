"""Tasks: what they return comes back as it is, here and from a cluster, and is stored whole."""

from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch

from fpqvar_lab.parallel import Store, connect, results


@dataclass(frozen=True)
class Halve:
    """A task whose result is no tensor."""

    number: int
    count: int = 1

    @property
    def name(self) -> str:
        return f"half of {self.number}"

    def run(self) -> Fraction:
        return Fraction(self.number, 2)


def test_results_of_any_type_come_in_order_here():
    tasks = [Halve(3), Halve(1), Halve(2)]
    expected = [(tasks[0], Fraction(3, 2)), (tasks[1], Fraction(1, 2)), (tasks[2], Fraction(1))]
    assert list(results(tasks)) == expected


def test_results_of_any_type_come_back_from_a_cluster():
    tasks = [Halve(number) for number in range(5)]
    with connect(None, 1) as client:
        found = dict(results(tasks, client))
    assert found == {task: Fraction(task.number, 2) for task in tasks}


def test_a_scheduler_and_workers_exclude_each_other():
    with pytest.raises(ValueError, match="exclude each other"), connect("tcp://nowhere:1", 2):
        pass


def test_a_damaged_result_counts_as_missing(tmp_path):
    store = Store(tmp_path)
    store.write("a", {"x": torch.arange(3)})
    file = tmp_path / "a.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert store.read("a") is None
    store.write("a", {"x": torch.arange(3)})
    assert store.read("a")["x"].tolist() == [0, 1, 2]
