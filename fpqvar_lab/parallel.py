"""Tasks that run in this process, on this machine's cores or on a Dask cluster, and a folder that
keeps their results.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fpqvar_lab.files import replacing

Tensors = dict[str, Tensor]
"""Named tensors on the CPU, which are what a store keeps of a task."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Task(Protocol[T_co]):
    """A part of some longer work, which can run in another process or on another machine.

    The task itself and what it returns are pickled on their way there and back.
    """

    @property
    def name(self) -> str:
        """A name that no other task of the same work has; a store names its files by it."""
        ...

    @property
    def count(self) -> int:
        """How many images, designs or other units of progress the task covers."""
        ...

    def run(self) -> T_co:
        """Do the work and return its result."""
        ...


class Store:
    """A folder that keeps the results of tasks which return tensors, one file each.

    Args:
        folder: The folder is made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> Tensors | None:
        """Return a task's result, or None if it is not there; a damaged file is deleted."""
        file = self._file(name)
        if not file.is_file():
            return None
        try:
            return load_file(file)
        except (SafetensorError, OSError):
            file.unlink()
            return None

    def write(self, name: str, result: Tensors) -> None:
        """Keep a result; its file appears whole or not at all."""
        with replacing(self._file(name)) as partial:
            save_file(result, partial)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def run_task(task: Task[T]) -> T:
    """Run a task; this is the function that a worker is sent."""
    return task.run()


def results(tasks: Sequence[Task[T]], client: Any = None) -> Iterator[tuple[Task[T], T]]:
    """Yield each task with its result as soon as it is done, in order if there is no cluster.

    Tasks of a worker that dies are given to another; the result of a task does not depend on where
    it runs, apart from the arithmetic of other hardware. An exception of a task is raised here.

    Args:
        tasks: These are run; what they return must be picklable where there is a client.
        client: A `distributed.Client` runs them on its workers, None in this process.
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
    """Yield a Dask client of a running scheduler or of new processes here; None if neither.

    Args:
        scheduler: The address of a scheduler that runs already, such as `tcp://node1:8786`.
        workers: The number of processes to start on this machine.

    Raises:
        ValueError: Dask is not installed, or both arguments are given.
        OSError: No scheduler answers at the address.
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
