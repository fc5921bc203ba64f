"""Tensors out of PyTorch checkpoints that hold pickled objects too, without running any of them.

`torch.load(weights_only=True)` refuses a checkpoint whose optimizer, schedule or arguments were
pickled as objects, which is how the robustness library wrote its files (with dill). The tensors
can still be had safely, because unpickling itself calls nothing but what it is handed:

1. The only callables a pickle can reach are those that `find_class` returns. Ours never imports
   and never looks anything up. It returns a fresh, empty class, a kind of `_Thing`, whose objects
   remember its name and what they are made from. Calling such an object is an error, and neither
   it nor its class can be changed: what the file would set is noted, or refused. (dill describes
   a class by calling two functions of its own; here they return one more empty class.)
2. What comes out is therefore a description: dictionaries, lists, numbers, text, `_Thing`s. Our
   own code then reads from it those `_Thing`s that are named as torch names a tensor, checks
   their storage, offset, size and stride against the bytes in the file, and copies the bytes.

The unpickler is the one that Python has in Python: the faster one allots memory for any number of
memos that a file claims, and neither can be trusted with what `_REFUSED` and `_DEPTH` forbid.

A name that has no place in a checkpoint (`os.system`, `builtins.eval`, …) could not run either,
but such a file is refused at once: somebody meant it to run. `known_name` tells which.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from pickle import _Unpickler
from typing import IO, Any, ClassVar, Final, NoReturn, final

import torch
from torch import Tensor

_OLD_SYSTEM_MODULES: Final = frozenset({"__builtin__", "commands", "os2", "popen2", "pip"})
_OBJECTS_OF_TRAINING: Final = (
    "torch.optim.", "torch.nn.modules.", "torch.nn.parallel.", "torch.nn.parameter.", "torch.amp.",
    "torch.cuda.amp.",
)  # fmt: skip
_KNOWN_NAMES: Final = frozenset(
    {
        *(f"torch.{kind}Storage" for kind in (
            "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
        )),
        "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
        "torch.Size", "torch.device", "torch.Tensor", "torch.storage.UntypedStorage",
        "torch.storage.TypedStorage", "torch.serialization._get_layout",
        "torch.torch_version.TorchVersion",
        "collections.OrderedDict", "collections.defaultdict", "collections.deque",
        "collections.Counter", "argparse.Namespace", "copyreg._reconstructor",
        "types.SimpleNamespace",
        "_codecs.encode", "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath",
        "datetime.datetime", "datetime.timedelta", "functools.partial",
        *(f"{module}.{kind}" for module in ("builtins", "__builtin__") for kind in (
            "set", "frozenset", "slice", "complex", "bytearray", "object", "int", "float", "str",
            "bool", "list", "dict", "tuple", "bytes", "range", "__main__", "setattr",
        )),
        *(f"numpy.{module}.multiarray.{kind}" for module in ("core", "_core") for kind in (
            "scalar", "_reconstruct",
        )),
        "numpy.dtype", "numpy.ndarray", "numpy.float64", "numpy.float32", "numpy.int64",
        *(f"dill.{module}{kind}" for module in ("", "_dill.", "dill.") for kind in (
            "_load_type", "_create_type", "_create_function", "_create_code", "_create_cell",
            "_create_weakref", "_create_dtypemeta", "_get_attr", "_import_module",
            "_create_namedtuple", "_create_ftype", "_create_lock", "_create_rlock", "_setattr",
        )),
    }
)  # fmt: skip
_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip
_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL: Final = 1001
_MAKE_CLASSES: Final = ("_load_type", "_create_type")
_REFUSED: Final = (  # what no checkpoint has: it would import, use global tables, take memory
    pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.UNICODE, pickle.BYTEARRAY8, pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
)  # fmt: skip
_DEPTH: Final = 100  # Python itself crashes over a dictionary's key that is a deeply nested tuple
_DIMENSIONS: Final = 64
_NAMES: Final = 10_000
_VALUES: Final = 1_000_000
_NOT_WEIGHTS: Final = ("optim", "sched", "amp", "scaler", "rng")


class ForeignNameError(Exception):
    """The file names something that has no place in a checkpoint."""


class DamagedError(Exception):
    """The file is no whole PyTorch checkpoint."""


def known_name(module: str, name: str) -> bool:
    """Whether a checkpoint of a training script may well mention `module.name`.

    Of Python itself, torch and numpy: what tensors, optimizers and dill need. Of other packages,
    and of the training script: classes, and, for dill, the names around a function.
    """
    if f"{module}.{name}" in _KNOWN_NAMES:
        return True
    is_class = name.isidentifier() and name.lstrip("_")[:1].isupper()
    outer = module.split(".")[0]
    if outer in ("torch", "numpy"):
        return is_class and f"{module}.".startswith(_OBJECTS_OF_TRAINING)
    if outer in sys.stdlib_module_names or outer in _OLD_SYSTEM_MODULES:
        return False
    return is_class or name == "__dict__"


def read_inert(path: Path) -> Any:
    """What a checkpoint holds, with tensors read and every other object left as a description.

    Args:
        path: A file of `torch.save`, in the zip container or the older one.

    Returns:
        The outer object. Mappings and sequences are plain, tensors are copies on the CPU, a
        whole pickled network is the dictionary of its tensors, and any other object is None.

    Raises:
        ForeignNameError: It names what has no place in a checkpoint.
        DamagedError: It is truncated or malformed.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        return _read_legacy(path)
    except (ForeignNameError, DamagedError):
        raise
    except Exception as error:  # a malformed pickle may raise anything
        raise DamagedError(str(error).strip().split("\n")[0] or type(error).__name__) from None


class _Thing:
    """Stands for an object of the file: its class's name, and what the file did to it."""

    __slots__ = ("arguments", "items", "state")
    origin: ClassVar[str] = ""
    arguments: tuple[Any, ...]
    items: list[tuple[Any, Any]]
    state: Any

    def __new__(cls, *arguments: Any, **_: Any) -> _Thing:
        made = object.__new__(cls)
        object.__setattr__(made, "arguments", arguments)
        object.__setattr__(made, "items", [])
        object.__setattr__(made, "state", None)
        return made

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Everything has been noted already."""

    def __call__(self, *arguments: Any, **options: Any) -> NoReturn:
        raise ForeignNameError(f"it calls what {_shown(self.origin)} made")

    def __setstate__(self, state: Any) -> None:
        object.__setattr__(self, "state", state)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise DamagedError("the file tries to change an object by name")

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        self.items.append((None, value))

    def extend(self, values: Any) -> None:
        self.items.extend((None, value) for value in values)

    def add(self, value: Any) -> None:
        self.items.append((None, value))

    def __hash__(self) -> int:
        return id(self)


class _Made(_Thing):
    """Stands for any class that dill would make."""

    __slots__ = ()
    origin = "a class of the file"


class _Maker(_Thing):
    """Stands for a function of dill that makes a class."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return _Made


def _shown(origin: str) -> str:
    """A name of the file for a message: one short line, whatever is in it."""
    return ascii(origin[:80])[1:-1]


@final
@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers in the file.

    Args:
        dtype: Of the numbers.
        count: How many there are.
        key: Its name in the file.
        start: First number, where this is a part of the storage of that name.
    """

    dtype: torch.dtype
    count: int
    key: str
    start: int = 0

    def __setstate__(self, state: Any) -> NoReturn:
        raise DamagedError("the file tries to change a storage")


def _refuse(_: Any) -> NoReturn:
    raise DamagedError("it uses an instruction that no checkpoint has")


def _shallow(code: bytes) -> Callable[[Any], None]:
    """What builds a tuple, then looks how deep it is."""
    build: Callable[[Any], None] = _Unpickler.dispatch[code[0]]

    def load(reader: _Reader) -> None:
        build(reader)
        reader.note_depth(reader.stack[-1])

    return load


@final
class _Reader(_Unpickler):
    """Builds descriptions; see the text of this module."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_Unpickler.dispatch,
        **{code[0]: _refuse for code in _REFUSED},
        **{
            code[0]: _shallow(code)
            for code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)
        },
    }

    def __init__(self, file: IO[bytes], *, encoding: str = "ASCII") -> None:
        super().__init__(file, encoding=encoding)
        self._classes: dict[str, type[_Thing]] = {}
        self._depths: dict[int, int] = {}  # of tuples by their id; one that is gone does no harm

    def note_depth(self, made: tuple[Any, ...]) -> None:
        inner = (self._depths.get(id(value), 0) for value in made if type(value) is tuple)
        self._depths[id(made)] = depth = 1 + max(inner, default=0)
        if depth > _DEPTH:
            raise DamagedError("tuples inside each other without end")

    def find_class(self, module: str, name: str) -> Any:
        origin = f"{module}.{name}"
        if origin not in self._classes:
            if not known_name(module, name):
                raise ForeignNameError(_shown(origin))
            if len(self._classes) >= _NAMES:
                raise DamagedError("it names things without end")
            kind = _Maker if name in _MAKE_CLASSES else _Thing
            made = type("_Thing", (kind,), {"origin": origin, "__slots__": ()})
            self._classes[origin] = made
        return self._classes[origin]

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and pid and pid[0] == "module":  # the source of a pickled class
            return pid[1]
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
            raise DamagedError("an unknown kind of reference to data")
        kind, key, count = pid[1], pid[2], pid[4]
        origin = kind.origin if isinstance(kind, type) and issubclass(kind, _Thing) else ""
        dtype = _DTYPES.get(origin.removeprefix("torch."))
        if dtype is None or not _natural(count) or not isinstance(key, str):
            raise DamagedError("a storage of unknown type")
        view = pid[5] if len(pid) == 6 else None
        if view is None:
            return _Storage(dtype, count, key)
        if not (isinstance(view, tuple) and len(view) == 3 and _natural(view[1], view[2])):
            raise DamagedError("a malformed view of a storage")
        return _Storage(dtype, view[2], key, view[1])


def _natural(*values: Any) -> bool:
    return all(type(value) is int and 0 <= value < 2**48 for value in values)


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        pages = [name for name in names if name.endswith("/data.pkl")]
        if len(pages) != 1 or any(name.endswith("/constants.pkl") for name in names):
            raise DamagedError("not a checkpoint of torch.save")
        folder = pages[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and file.read(f"{folder}byteorder") != b"little":
            raise DamagedError("numbers are stored in another byte order than this machine's")
        if any(info.compress_type != zipfile.ZIP_STORED for info in file.infolist()):
            raise DamagedError("not a checkpoint of torch.save: its entries are compressed")
        sizes = {info.filename: info.file_size for info in file.infolist()}

        def numbers(storage: _Storage) -> bytes:
            name = f"{folder}data/{storage.key}"
            if sizes.get(name, -1) != (storage.start + storage.count) * storage.dtype.itemsize:
                raise _not_whole(storage.key)
            return file.read(name)

        outer = _Reader(io.BytesIO(file.read(pages[0])), encoding="utf-8").load()
        return _Tensors(numbers).plain(outer)


def _read_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        if _Reader(file).load() != _LEGACY_MAGIC or _Reader(file).load() != _LEGACY_PROTOCOL:
            raise DamagedError("not a checkpoint of torch.save")
        machine = _Reader(file).load()
        if not isinstance(machine, dict) or not machine.get("little_endian", True):
            raise DamagedError("numbers are stored in another byte order than this machine's")
        page = _Reader(file, encoding="utf-8")
        outer = page.load()
        keys = _Reader(file).load()
        where = _storages(file, keys, outer)
        return _Tensors(lambda storage: _span(file, where, storage)).plain(outer)


def _storages(file: IO[bytes], keys: Any, outer: Any) -> dict[str, tuple[int, int]]:
    """Where the numbers of each storage lie: offset and bytes. They follow each other."""
    widths = {storage.key: storage.dtype.itemsize for storage in _all_storages(outer)}
    if not isinstance(keys, list) or set(widths) - set(keys):
        raise DamagedError("the list of storages does not fit")
    where, end = {}, file.seek(0, io.SEEK_CUR)
    total = file.seek(0, io.SEEK_END)
    for key in keys:
        file.seek(end)
        (count,) = struct.unpack("<q", file.read(8))
        size = count * widths.get(key, 0)
        if key not in widths or count < 0 or end + 8 + size > total:
            raise _not_whole(key)
        where[key] = (end + 8, size)
        end += 8 + size
    return where


def _all_storages(outer: Any) -> Iterator[_Storage]:
    """Every storage that a description refers to."""
    seen: set[int] = set()
    waiting = [outer]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _Storage):
            yield value
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif isinstance(value, _Thing):
            waiting += [value.arguments, value.items, value.state]


def _span(file: IO[bytes], where: Mapping[str, tuple[int, int]], storage: _Storage) -> bytes:
    """All of the storage that this one is, or is a part of."""
    offset, size = where[storage.key]
    file.seek(offset)
    return file.read(size)


def _not_whole(key: Any) -> DamagedError:
    return DamagedError(f"the data of storage {_shown(str(key))} are not whole")


@final
class _Tensors:
    """Turns descriptions into plain values."""

    def __init__(self, numbers: Callable[[_Storage], bytes]) -> None:
        self._numbers = numbers
        self._read: dict[str, Tensor] = {}
        self._seen = 0

    def _count(self, values: int, depth: int) -> None:
        self._seen += values
        if depth > _DEPTH or self._seen > _VALUES:
            raise DamagedError("containers inside each other without end")

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Tensors, numbers, text and their containers; None for what is neither."""
        self._count(1, depth)
        if isinstance(value, Mapping):
            self._count(len(value), depth)
            return {
                key: None if depth < 2 and _aside(key) else self.plain(inner, depth + 1)
                for key, inner in value.items()
                if isinstance(key, str | int)
            }
        if isinstance(value, list | tuple):
            return [self.plain(inner, depth + 1) for inner in value]
        if not isinstance(value, _Thing):
            return value if isinstance(value, str | int | float | bool) else None
        if value.origin == "collections.OrderedDict":
            return self.plain(dict(_pairs(value)), depth + 1)
        if value.origin.startswith("torch._utils._rebuild_"):
            return self._tensor(value, depth)
        if isinstance(value.state, Mapping) and "_parameters" in value.state:
            return dict(self._module(value.state, "", depth))
        return None

    def _module(self, state: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[Any]:
        """The tensors of a pickled network, by the names of its state dict."""
        passing = state.get("_non_persistent_buffers_set")
        if isinstance(passing, _Thing):
            passing = passing.arguments[0] if passing.arguments else ()
        passing = frozenset(passing or ())
        for table in ("_parameters", "_buffers"):
            inner = self.plain(state.get(table), depth + 1) or {}
            yield from (
                (f"{prefix}{name}", value)
                for name, value in inner.items()
                if isinstance(value, Tensor) and name not in passing
            )
        children = state.get("_modules")
        if isinstance(children, _Thing):
            children = dict(_pairs(children))
        self._count(len(children or {}) + len(passing), depth)
        for name, child in (children or {}).items():
            if isinstance(child, _Thing) and isinstance(child.state, Mapping):
                yield from self._module(child.state, f"{prefix}{name}.", depth + 1)

    def _tensor(self, call: _Thing, depth: int) -> Tensor | None:
        kind, arguments = call.origin.removeprefix("torch._utils._rebuild_"), call.arguments
        if kind.startswith("parameter"):
            inner = self.plain(arguments[0], depth + 1) if arguments else None
            return inner if isinstance(inner, Tensor) else None
        if len(arguments) < 4 or not isinstance(arguments[0], _Storage):
            raise DamagedError("a malformed tensor")
        storage, offset, size, stride = arguments[:4]
        size, stride = (
            tuple(v.arguments[0]) if isinstance(v, _Thing) and v.arguments else v
            for v in (size, stride)
        )
        if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)):
            raise DamagedError("a malformed tensor")
        if len(size) > _DIMENSIONS or not _natural(offset, *size, *stride):
            raise DamagedError("a malformed tensor")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if prod(size) > storage.count or (prod(size) and last >= storage.count):
            raise DamagedError("a tensor reaches beyond its data")
        if not prod(size):
            return torch.empty(size, dtype=storage.dtype)
        return self._flat(storage).as_strided(size, stride, storage.start + offset)

    def _flat(self, storage: _Storage) -> Tensor:
        """The numbers that a storage is a part of; its bytes are read once, whoever asks."""
        last = (storage.start + storage.count) * storage.dtype.itemsize
        if storage.key not in self._read:
            data = bytearray(self._numbers(storage))
            self._read[storage.key] = torch.frombuffer(data, dtype=torch.uint8)
        whole = self._read[storage.key]
        if len(whole) < last:
            raise _not_whole(storage.key)
        return whole[:last].view(storage.dtype)


def _aside(key: Any) -> bool:
    """Whether it is state of the training, whose tensors need not be read."""
    return isinstance(key, str) and key.split("_")[0].startswith(_NOT_WEIGHTS) and "." not in key


def _pairs(thing: _Thing) -> Iterator[tuple[Any, Any]]:
    """Items of an ordered dictionary, whether given one by one or all at once."""
    for given in thing.arguments[:1]:
        if isinstance(given, list | tuple):
            yield from (tuple(pair) for pair in given if len(pair) == 2)
    yield from ((key, value) for key, value in thing.items)


assert sys.byteorder == "little", "tensors are read as little-endian"  # noqa: S101
