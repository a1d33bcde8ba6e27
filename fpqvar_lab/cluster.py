"""Running tasks: in this process, on this machine's cores, or on a Dask cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fpqvar_lab.shards import Result, Task


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
