"""Weights files from the network: through the hub client's cache, or by hand.

The client resumes what was interrupted, keeps files in its cache (`HF_HOME`, `HF_HUB_CACHE`), and
does not touch the network when `HF_HUB_OFFLINE` is set. A file that is not on the hub is kept in
the folder where torchvision keeps its own (`TORCH_HOME`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from invertkit.errors import InputError, WeightsError

if TYPE_CHECKING:
    from invertkit.models.classifiers.catalogue import Entry

CARRIED = Path(__file__).parents[1] / "weights"
"""Where the weights lie that the package carries."""


def fetch(entry: Entry, *, folder: Path | None = None) -> Path:
    """The weights file of an entry, downloaded if it is not there yet.

    Args:
        entry: A line of the catalogue with a hub repository or a link.
        folder: Keep the file here, by its own name, instead of in the cache.

    Raises:
        WeightsError: It is neither here nor reachable; the message says what to put where.
        InputError: It cannot be written.

    Example:
        >>> from invertkit.models.classifiers.catalogue import ENTRIES
        >>> fetch(ENTRIES["embedded"]).name
        'lite0-eps0.5.safetensors'
    """
    if entry.source == "invertkit":
        return CARRIED / entry.file
    what = f"{entry.repository}/{entry.file}" if entry.repository else entry.name
    if folder is not None and (folder / entry.file).is_file():
        return folder / entry.file
    with _told(entry.name, what, entry):
        if entry.repository:
            return from_hub(entry.repository, entry.file, folder=folder)
        return _from_link(entry, folder)


def weights_of(entry: Entry, weights: Path | None = None) -> Path:
    """The file of an entry: the one given, the one in the folder given, or the fetched one.

    Raises:
        WeightsError: It cannot be had, or is not the one that was published.
        InputError: It cannot be written.
    """
    if weights is not None:
        path = Path(weights)
        if not path.is_dir():
            return path
        if (path / entry.file).is_file():
            return path / entry.file
        raise WeightsError(
            f"{path}: holds no {entry.file}, which is the file of {entry.name}. Put it there, or "
            "give its own path."
        )
    path = fetch(entry)
    if entry.sha256:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(entry.sha256):
            raise WeightsError(
                f"{path}: is not the published file of {entry.name} (its SHA-256 does not start "
                f"with {entry.sha256[:12]}). Delete it and fetch it again."
            )
    return path


def from_hub(repository: str, file: str, *, folder: Path | None = None) -> Path:
    """A file of a hub repository, from the client's cache or the network; its own errors."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    before, shown = logging.get_verbosity(), not are_progress_bars_disabled()
    # What goes wrong is told once, by us.
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        return Path(hf_hub_download(repository, file, local_dir=folder))
    finally:
        logging.set_verbosity(before)
        if shown and not sys.stderr.isatty():
            enable_progress_bars()


def offline() -> bool:
    """Whether the user has asked that the network be left alone, by `HF_HUB_OFFLINE`.

    Example:
        >>> with off_the_network():
        ...     offline()
        True
    """
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


@contextlib.contextmanager
def off_the_network() -> Iterator[None]:
    """Inside, what is not on this machine cannot be had: as if `HF_HUB_OFFLINE` were set."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_cached(entry: Entry) -> bool:
    """Whether the file of an entry is here already; the network is not touched."""
    from huggingface_hub import try_to_load_from_cache

    if not entry.repository:
        return bool(entry.url) and (link_folder() / entry.file).is_file()
    return isinstance(try_to_load_from_cache(entry.repository, entry.file), str)


def link_folder() -> Path:
    """Where torchvision, timm and we keep files that come by a link."""
    home = os.environ.get("TORCH_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"
    )
    return Path(home).expanduser() / "hub" / "checkpoints"


def _from_link(entry: Entry, folder: Path | None) -> Path:
    path = (folder or link_folder()) / entry.file
    if path.is_file():
        return path
    if offline():
        raise OSError("HF_HUB_OFFLINE is set")
    from torch.hub import download_url_to_file

    path.parent.mkdir(parents=True, exist_ok=True)
    download_url_to_file(
        entry.url, str(path), hash_prefix=entry.sha256 or None, progress=sys.stderr.isatty()
    )
    return path


@contextlib.contextmanager
def _told(name: str, what: str, entry: Entry) -> Iterator[None]:
    """Any fault of a download as one sentence."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(Exception):
            error.close()  # type: ignore[attr-defined]  # an answer of a server stays open
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise InputError(
                f"The weights of {name} cannot be written ({error.strerror}: {error.filename})."
            ) from None
        raise WeightsError(unreachable(what, error, entry)) from None
    except Exception as error:  # of the client, whose classes differ between its versions
        raise WeightsError(unreachable(what, error, entry)) from None


def unreachable(what: str, error: Exception, entry: Entry | None = None) -> str:
    """One sentence on weights that are neither here nor to be had, and what to do by hand."""
    by_hand = "give a local file with `weights:`"
    if entry is not None:
        place = entry.url or f"https://huggingface.co/{entry.repository}/resolve/main/{entry.file}"
        by_hand = (
            f"fetch {place} elsewhere and give the file, or the folder it lies in, with "
            "`weights:` (or `--weights`)"
        )
    return (
        f"The weights of {what} are not in the cache and cannot be fetched ({why(error)}). "
        f"Connect to the network, or {by_hand}, or use the embedded classifier (`type: embedded`, "
        "or `--budget preview` where the recipe has one)."
    )


def why(error: Exception) -> str:
    """The fault of a download in a few words."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "RemoteEntryNotFoundError" in kinds or "RepositoryNotFoundError" in kinds:
        return "the hub has no such file"
    if "GatedRepoError" in kinds:
        return "the hub asks for a login and consent"
    if kinds & {"OfflineModeIsEnabled", "LocalEntryNotFoundError"}:
        return "HF_HUB_OFFLINE is set" if offline() else "no network"
    return (
        f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__:.100}"
    )
