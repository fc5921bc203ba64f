"""The two containers of `torch.save`: where the description and the numbers lie in a file."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from invertkit.models.loading.inert.faults import DamagedError, not_whole
from invertkit.models.loading.inert.tensors import Tensors
from invertkit.models.loading.inert.unpickler import Reader, Storage, Thing

_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL: Final = 1001


def read_zip(path: Path) -> Any:
    """What a checkpoint in the zip container holds.

    Raises:
        DamagedError: It is no such container, or not whole.
        ForeignNameError: It names what has no place in a checkpoint.
    """
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        pages = [name for name in names if name.endswith("/data.pkl")]
        if len(pages) != 1 or any(name.endswith("/constants.pkl") for name in names):
            raise DamagedError("not a checkpoint of torch.save")
        folder = pages[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and file.read(f"{folder}byteorder") != b"little":
            raise DamagedError("numbers are stored in another byte order than this machine's")
        # torch never compresses, and a compressed entry may unpack to a thousand times its size.
        if any(info.compress_type != zipfile.ZIP_STORED for info in file.infolist()):
            raise DamagedError("not a checkpoint of torch.save: its entries are compressed")
        sizes = {info.filename: info.file_size for info in file.infolist()}

        def numbers(storage: Storage) -> bytes:
            name = f"{folder}data/{storage.key}"
            # A storage is as large as its entry and no larger: the file must hold the memory it
            # asks for, byte by byte.
            if sizes.get(name, -1) != (storage.start + storage.count) * storage.dtype.itemsize:
                raise not_whole(storage.key)
            return file.read(name)

        outer = Reader(io.BytesIO(file.read(pages[0])), encoding="utf-8").load()
        return Tensors(numbers).plain(outer)


def read_legacy(path: Path) -> Any:
    """What a checkpoint in the older container holds: five pickles, then the numbers.

    Raises:
        DamagedError: It is no such container, or not whole.
        ForeignNameError: It names what has no place in a checkpoint.
    """
    with path.open("rb") as file:
        if Reader(file).load() != _LEGACY_MAGIC or Reader(file).load() != _LEGACY_PROTOCOL:
            raise DamagedError("not a checkpoint of torch.save")
        machine = Reader(file).load()
        if not isinstance(machine, dict) or not machine.get("little_endian", True):
            raise DamagedError("numbers are stored in another byte order than this machine's")
        page = Reader(file, encoding="utf-8")
        outer = page.load()
        keys = Reader(file).load()
        where = _storages(file, keys, outer)
        return Tensors(lambda storage: _span(file, where, storage)).plain(outer)


def _storages(file: IO[bytes], keys: Any, outer: Any) -> dict[str, tuple[int, int]]:
    """Where the numbers of each storage lie: offset and bytes. They follow each other."""
    # The file says how many numbers a storage has, not how wide they are: that the description
    # tells, so a storage that nobody refers to has no end that could be found.
    widths = {storage.key: storage.dtype.itemsize for storage in all_storages(outer)}
    if not isinstance(keys, list) or set(widths) - set(keys):
        raise DamagedError("the list of storages does not fit")
    where, end = {}, file.seek(0, io.SEEK_CUR)
    total = file.seek(0, io.SEEK_END)
    for key in keys:
        file.seek(end)
        (count,) = struct.unpack("<q", file.read(8))
        size = count * widths.get(key, 0)
        if key not in widths or count < 0 or end + 8 + size > total:
            raise not_whole(key)
        where[key] = (end + 8, size)
        end += 8 + size
    return where


def all_storages(outer: Any) -> Iterator[Storage]:
    """Every storage that a description refers to."""
    seen: set[int] = set()
    waiting = [outer]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Storage):
            yield value
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif isinstance(value, Thing):
            waiting += [value.arguments, value.items, value.state]


def _span(file: IO[bytes], where: Mapping[str, tuple[int, int]], storage: Storage) -> bytes:
    """All of the storage that this one is, or is a part of."""
    offset, size = where[storage.key]
    file.seek(offset)
    return file.read(size)
