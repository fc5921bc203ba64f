"""Folders that a command writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invertkit.errors import InputError

if TYPE_CHECKING:
    pass


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
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}). Choose another `--out`."
        ) from None
    return folder
