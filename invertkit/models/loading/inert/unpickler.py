"""An unpickler that makes nothing but descriptions.

It is built on the unpickler that Python has in Python. The faster one, in C, allots memory for any
number of memos that a file claims, and its instructions cannot be replaced one by one.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pickle import _Unpickler
from typing import IO, Any, ClassVar, Final, NoReturn, final

import torch

from invertkit.models.loading.inert.faults import DamagedError, ForeignNameError, shown
from invertkit.models.loading.inert.names import known_name

DEPTH: Final = 100
"""Containers inside each other; no checkpoint comes near."""

_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip
# dill describes a class by calling these; the call gives one more empty class.
_MAKE_CLASSES: Final = ("_load_type", "_create_type")
_REFUSED: Final = (
    # They name a class by a number of `copyreg`'s tables, which belong to the whole process, and
    # what is once found there is found again without asking `find_class`.
    pickle.EXT1, pickle.EXT2, pickle.EXT4,
    # It allots as many bytes as the file claims, before it looks whether they are there.
    pickle.BYTEARRAY8,
    # They take data from beside the file, which a file cannot have.
    pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
    # Text in escapes, of a protocol older than any that torch has ever written.
    pickle.UNICODE,
)  # fmt: skip
# Each name costs a class, which lives as long as the reader.
_NAMES: Final = 10_000


class Thing:
    """Stands for an object of the file: its class's name, and what the file did to it.

    Args:
        arguments: With which the file makes the object; they are kept, and nothing is made.
    """

    __slots__ = ("arguments", "items", "state")
    origin: ClassVar[str] = ""
    arguments: tuple[Any, ...]
    items: list[tuple[Any, Any]]
    state: Any

    def __new__(cls, *arguments: Any, **_: Any) -> Thing:
        thing = object.__new__(cls)
        object.__setattr__(thing, "arguments", arguments)
        object.__setattr__(thing, "items", [])
        object.__setattr__(thing, "state", None)
        return thing

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Everything has been noted already."""

    def __call__(self, *arguments: Any, **options: Any) -> NoReturn:
        raise ForeignNameError(f"it calls what {shown(self.origin)} made")

    def __setstate__(self, state: Any) -> None:
        object.__setattr__(self, "state", state)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise DamagedError("the file tries to change an object by name")

    # The instructions SETITEMS, APPENDS and ADDITEMS call these on whatever lies on the stack.
    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        self.items.append((None, value))

    def extend(self, values: Any) -> None:
        self.items.extend((None, value) for value in values)

    def add(self, value: Any) -> None:
        self.items.append((None, value))

    # A file may use any object as a key, and comparing by value would run through its contents.
    def __hash__(self) -> int:
        return id(self)


class _Made(Thing):
    """Stands for any class that dill would make."""

    __slots__ = ()
    origin = "a class of the file"


class _Maker(Thing):
    """Stands for a function of dill that makes a class."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return _Made


@final
@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file, not read yet.

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
    """The instruction that builds a tuple, and then looks how deep it is."""
    build: Callable[[Any], None] = _Unpickler.dispatch[code[0]]

    def load(reader: Reader) -> None:
        build(reader)
        reader.note_depth(reader.stack[-1])

    return load


@final
class Reader(_Unpickler):
    """Builds descriptions instead of objects: no name of the file leads to code."""

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
        self._classes: dict[str, type[Thing]] = {}
        # Of tuples by their id. One that is gone leaves its depth to the next of that id, which
        # can only make a file look deeper than it is.
        self._depths: dict[int, int] = {}

    def note_depth(self, value: tuple[Any, ...]) -> None:
        """Remember how deep a new tuple is.

        Raises:
            DamagedError: Deeper than any checkpoint.
        """
        inner = (self._depths.get(id(part), 0) for part in value if type(part) is tuple)
        self._depths[id(value)] = depth = 1 + max(inner, default=0)
        if depth > DEPTH:
            raise DamagedError("tuples inside each other without end")

    def find_class(self, module: str, name: str) -> Any:
        # All that a pickle can ever call comes from here: see the text of `read`.
        origin = f"{module}.{name}"
        if origin not in self._classes:
            if not known_name(module, name):
                raise ForeignNameError(shown(origin))
            if len(self._classes) >= _NAMES:
                raise DamagedError("it names things without end")
            kind = _Maker if name in _MAKE_CLASSES else Thing
            self._classes[origin] = type("Thing", (kind,), {"origin": origin, "__slots__": ()})
        return self._classes[origin]

    def persistent_load(self, pid: Any) -> Any:
        # Old files carry the source of a pickled network's class, to warn where it has changed.
        if isinstance(pid, tuple) and pid and pid[0] == "module":
            return pid[1]
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
            raise DamagedError("an unknown kind of reference to data")
        kind, key, count = pid[1], pid[2], pid[4]
        origin = kind.origin if isinstance(kind, type) and issubclass(kind, Thing) else ""
        dtype = _DTYPES.get(origin.removeprefix("torch."))
        if dtype is None or not natural(count) or not isinstance(key, str):
            raise DamagedError("a storage of unknown type")
        view = pid[5] if len(pid) == 6 else None
        if view is None:
            return Storage(dtype, count, key)
        if not (isinstance(view, tuple) and len(view) == 3 and natural(view[1], view[2])):
            raise DamagedError("a malformed view of a storage")
        return Storage(dtype, view[2], key, view[1])


def natural(*values: Any) -> bool:
    """Whether each is a whole number from 0, far below the 64 bits in which PyTorch counts."""
    return all(type(value) is int and 0 <= value < 2**48 for value in values)
