"""Folders that a command writes, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from invertkit.errors import InputError


@contextlib.contextmanager
def whole_file(path: Path, *, forced: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to, renamed to it when the block ends: never half a file.

    What the block raises is passed on, and nothing is left beside a file that was there before.

    Args:
        path: What is wanted in the end.
        forced: Force the bytes to the disk before the renaming, so that a power cut leaves the
            file before or the new one.

    Yields:
        Where to write.

    Raises:
        OSError: The file cannot be forced or renamed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(Path(folder, "a.txt")) as partial:
        ...         _ = partial.write_text("all of it")
        ...     print(Path(folder, "a.txt").read_text())
        all of it
    """
    # In the same folder: only within one file system is renaming a single act.
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        if forced:
            with partial.open("rb") as written:
                os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_if_it_succeeds(out: str | Path | None) -> Iterator[Path | None]:
    """The new folder that a call shall write, made before the work; if that fails, it goes again.

    Args:
        out: Where; None for a call that writes nothing.

    Yields:
        The folder, or None.

    Raises:
        InputError: As `new_folder`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as above:
        ...     with contextlib.suppress(ZeroDivisionError):
        ...         with folder_if_it_succeeds(f"{above}/run"):
        ...             _ = 1 / 0
        ...     print(Path(above, "run").exists())
        False
    """
    if out is None:
        yield None
        return
    folder = new_folder(Path(out))
    try:
        yield folder
    except BaseException:
        # Also after Ctrl-C: an empty folder would stand in the way of the next try.
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def new_folder(folder: Path) -> Path:
    """Make the folder of a run.

    Raises:
        InputError: It holds something already, or cannot be made or written.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; `--out` names a folder to make.")
        if folder.is_dir() and any(folder.iterdir()):
            again = (folder / "checkpoint").is_dir()
            more = f", or go on with it: `invertkit resume {folder}`" if again else ""
            raise InputError(
                f"{folder}: exists and is not empty, and nothing is overwritten. Choose another "
                f"`--out`{more}."
            )
        folder.mkdir(parents=True, exist_ok=True)
        # Tried, not asked: permissions do not tell of a file system that is read-only.
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}). Choose another `--out`."
        ) from None
    return folder
