"""Tasks that run in this process, on this machine's cores or on a Dask cluster, and a folder that
keeps their results.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fpqvar_lab.files import replacing

Result = dict[str, Tensor]


class Task(Protocol):
    """A part of some longer work, which can run in another process or on another machine."""

    @property
    def name(self) -> str:
        """The name of the file that keeps the result; no two tasks of one folder share it."""
        ...

    @property
    def count(self) -> int:
        """How many images, designs or other units of progress the task covers."""
        ...

    def run(self) -> Result:
        """Do the work; the tensors of the result are on the CPU."""
        ...


class Store:
    """Results of tasks in a folder, one file each.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> Result | None:
        """A task's result; None if it is not there. A file that was damaged is deleted."""
        file = self._file(name)
        if not file.is_file():
            return None
        try:
            return load_file(file)
        except (SafetensorError, OSError):
            file.unlink()
            return None

    def write(self, name: str, result: Result) -> None:
        """Keep a result; it is there wholly or not at all."""
        with replacing(self._file(name)) as partial:
            save_file(result, partial)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def run_task(task: Task) -> Result:
    """What a worker does."""
    return task.run()


def results(tasks: Sequence[Task], client: Any = None) -> Iterator[tuple[Task, Result]]:
    """Tasks with their results, as they come; in order where there is no cluster.

    Tasks of a worker that dies are given to another; the result of a task does not depend on where
    it runs, apart from the arithmetic of other hardware.

    Args:
        tasks: to run.
        client: a `distributed.Client`, or None to run here.

    An exception of a task is raised here.
    """
    if client is None:
        for task in tasks:
            yield task, run_task(task)
        return
    from distributed import as_completed

    futures = {client.submit(run_task, task, pure=False, retries=2): task for task in tasks}
    try:
        for future in as_completed(list(futures)):
            yield futures[future], future.result()
            future.release()
    finally:
        client.cancel(list(futures))


@contextmanager
def connect(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    """A client of the scheduler at an address, or of so many new processes here, or None.

    Raises:
        ValueError: Dask is not installed, or both are asked for.
        OSError: no scheduler answers.
    """
    if scheduler is None and workers is None:
        yield None
        return
    if scheduler is not None and workers is not None:
        raise ValueError("--scheduler and --workers exclude each other")
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ValueError(
            "--scheduler and --workers need Dask: pip install 'fpqvar-lab[cluster]'"
        ) from None
    if scheduler is not None:
        with Client(scheduler, timeout="10s") as client:
            yield client
        return
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client
