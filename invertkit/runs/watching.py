"""What somebody who waits for a run sees of it: a bar, and in a notebook the picture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from invertkit.runs.job import Job
from invertkit.runs.observers import Observer


@contextlib.contextmanager
def watching(
    job: Job, *, wanted: bool | None = None, done: int = 0
) -> Iterator[tuple[Observer, ...]]:
    """Observers that show how a job goes.

    Args:
        job: That is carried out.
        wanted: Whether to show anything; by default where somebody looks, on a terminal or in a
            notebook.
        done: How many images are there already.

    Yields:
        The observers; none if nothing is wanted.
    """
    from invertkit.core.live_bar import somebody_looks

    if not (somebody_looks() if wanted is None else wanted):
        yield ()
        return
    from invertkit.runs.live_picture import LivePicture
    from invertkit.runs.progress import RunBar

    picture = LivePicture.in_notebook()
    with RunBar(images=len(job.photographs) * len(job.seeds), done=done) as bar:
        yield (bar,) if picture is None else (bar, picture)
