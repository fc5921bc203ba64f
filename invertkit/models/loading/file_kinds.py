"""What kind of file somebody gives for weights, told by its first bytes, whatever it is called."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

Kind = Literal["safetensors", "zip", "torchscript", "other"]
"""`zip`: the container of `torch.save`. `other`: an older one, or no weights at all."""

_HEAD: Final = 512
_LARGEST_HEADER: Final = 100_000_000  # of safetensors, as its own library has it


def kind_of(path: Path) -> Kind:
    """The container of a file.

    Args:
        path: Of a file that exists.

    Example:
        >>> from invertkit.models.loading.hub import CARRIED
        >>> kind_of(CARRIED / "lite0-eps0.safetensors")
        'safetensors'
    """
    if _is_safetensors(path):
        return "safetensors"
    if not zipfile.is_zipfile(path):
        return "other"
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "other"
    return "torchscript" if any(name.endswith("/constants.pkl") for name in names) else "zip"


def _is_safetensors(path: Path) -> bool:
    """Whether it begins as the format does: the length of a header, and that, a JSON object."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LARGEST_HEADER, path.stat().st_size - 8):
            return False
        if file.read(1) != b"{":
            return False
        file.seek(8)
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except ValueError:
            return False


_SIGNS: Final[Mapping[bytes, str]] = {
    b"version https://git-lfs.": (
        "is the pointer that a large-file store keeps in place of the file, not the file: fetch it "
        "(`git lfs pull`), or download it by itself"
    ),
    b"<!doctype html": (
        "is a web page, not weights: a download saved the page around the file, or one that asks "
        "to sign in. Download the file itself"
    ),
    b"<html": (
        "is a web page, not weights: a download saved the page around the file, or one that asks "
        "to sign in. Download the file itself"
    ),
    b"<?xml": "is an XML document, not weights: mostly a store's refusal. Download the file again",
    b"{": "is a JSON text, not weights: mostly a server's refusal, or a network's configuration",
    b"\x89hdf": "is an HDF5 file, as Keras writes it; export the network's tensors from PyTorch",
    b"\x1f\x8b": "is compressed (gzip): unpack it first",
    b"\xfd7zxz": "is compressed (xz): unpack it first",
    b"7z\xbc\xaf": "is an archive (7z): unpack it, and give the file inside",
    b"rar!": "is an archive (rar): unpack it, and give the file inside",
    b"gguf": "is a GGUF file of a language model, not a network of images",
    b"\x93numpy": "is a single array of NumPy, not a network; expected tensors by name",
}
"""First bytes, in lower case, and what to say of such a file."""


def stranger(path: Path) -> str:
    """What a file is that holds no weights as PyTorch writes them; empty if that is not known.

    Args:
        path: Of a file that exists.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "w.pt")
        ...     _ = path.write_text("<!DOCTYPE html><title>Sign in</title>")
        ...     stranger(path)[:30]
        'is a web page, not weights: a '
    """
    with path.open("rb") as file:
        head = file.read(_HEAD).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"/annex/objects/" in head:
        return _SIGNS[b"version https://git-lfs."].replace("git lfs pull", "git annex get")
    for sign, told in _SIGNS.items():
        # A brace may also be the length of a header, or the first byte of anything.
        if head.startswith(sign) and (sign != b"{" or b"\0" not in head):
            return told
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as zipped:
            names = zipped.namelist()
        if not any(name.endswith("data.pkl") for name in names):
            inside = ", ".join(names[:3]) or "nothing"
            return f"is an archive (zip) of {inside}: unpack it, and give the file of weights"
    return ""
