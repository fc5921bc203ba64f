"""The shapes in annotations, such as `Float[Tensor, "b 3 h w"]`, are checked while the tests run.

jaxtyping's own pytest option wraps every function of the package, which costs these tests, whose
tensors are tiny, much of their time. So only functions are wrapped whose annotations name a shape.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

import jaxtyping
from jaxtyping import AbstractArray, jaxtyped
from torch import Tensor

Check = Callable[[Any], bool]
KINDS = [
    name
    for name, kind in vars(jaxtyping).items()
    if isinstance(kind, type) and issubclass(kind, jaxtyping.AbstractDtype)
]
SHAPE = re.compile(rf"\b({'|'.join(KINDS)})\[")
LAZY = {"Tensor": Tensor, **{name: getattr(jaxtyping, name) for name in KINDS}}
"""What modules that do not import torch know of only while their types are checked."""
AXES = jaxtyped("context")  # one object serves all calls: it pushes on a stack, and pops


class WrongShapeError(AssertionError):
    """A tensor is not of the shape or kind that an annotation promises."""


def check_of(hint: Any) -> Check | None:
    """Whether a value fits the shapes in the hint; None where the hint names none."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return lambda value: isinstance(value, hint)
    origin, inner = get_origin(hint), get_args(hint)
    checks = [check_of(each) for each in inner]
    if not any(checks):
        return None
    if origin in (Union, types.UnionType):
        plain = tuple(a for a, c in zip(inner, checks, strict=True) if c is None)
        plain = tuple(get_origin(each) or each for each in plain)
        shaped = [check for check in checks if check is not None]
        return lambda value: isinstance(value, plain) or any(check(value) for check in shaped)
    if origin is tuple and inner[-1] is not ...:
        pairs = [(at, check) for at, check in enumerate(checks) if check is not None]
        return lambda value: len(value) == len(inner) and all(c(value[at]) for at, c in pairs)
    if isinstance(origin, type) and issubclass(origin, Mapping) and checks[1] is not None:
        return lambda value: all(map(checks[1], value.values()))
    if isinstance(origin, type) and issubclass(origin, Sequence) and checks[0] is not None:
        return lambda value: all(map(checks[0], value))
    return None


def described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return str({name: described(each) for name, each in value.items()})
    if isinstance(value, list | tuple):
        return str([described(each) for each in value])
    return repr(value)


class Checks:
    """What is to be checked about the calls of a function; read when it is first called.

    By then every name that the annotations use can be resolved.
    """

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function
        self.where = f"{function.__module__}.{function.__qualname__}"
        self.fitting: set[Any] = set()

    def of(self, name: str) -> Check | None:
        hint = self.function.__annotations__.get(name, "")
        if not SHAPE.search(str(hint)):
            return None
        if isinstance(hint, str):
            hint = eval(hint, LAZY | self.function.__globals__)
        return check_of(hint)

    @functools.cached_property
    def parameters(self) -> Sequence[tuple[str, int, Check]]:
        code = self.function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        places = [at if at < code.co_argcount else sys.maxsize for at in range(len(names))]
        checks = zip(names, places, map(self.of, names), strict=True)
        return [(name, place, check) for name, place, check in checks if check is not None]

    @functools.cached_property
    def result(self) -> Check | None:
        return self.of("return")

    def fault(self, values: Sequence[tuple[str, Any, Check]]) -> WrongShapeError | None:
        """The first of these values that does not fit, said in a sentence."""
        with AXES:
            for name, value, fits in values:
                if not fits(value):
                    hint = self.function.__annotations__[name]
                    told = f"{self.where}: {name} is {hint}, came as {described(value)}"
                    return WrongShapeError(told)
        return None


def seen_as(value: Any) -> Any:
    """All of a value that decides whether it fits."""
    if isinstance(value, Tensor):
        return value.dtype, value.shape
    if isinstance(value, list | tuple):
        return (type(value), *map(seen_as, value))
    if isinstance(value, Mapping):
        return (type(value), *map(seen_as, value.values()))
    return type(value)


def checked(function: types.FunctionType) -> Callable[..., Any]:
    """The function, whose arguments and result have the shapes that its annotations name."""
    checks = Checks(function)

    def given(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[str, Any, Check]]:
        return [
            (name, args[place] if place < len(args) else kwargs[name], fits)
            for name, place, fits in checks.parameters
            if place < len(args) or name in kwargs
        ]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            wrong = checks.fault(given(args, kwargs))
            # What a function refuses by itself, with a sentence, it may be given.
            if wrong is None or type(error).__module__ == "invertkit.errors":
                raise
            raise wrong from error
        values = given(args, kwargs)
        if checks.result is not None:
            values.append(("return", result, checks.result))
        kind = tuple((name, seen_as(value)) for name, value, _ in values)
        if kind not in checks.fitting:  # else it has been looked at, and jaxtyping takes its time
            if (wrong := checks.fault(values)) is not None:
                raise wrong
            checks.fitting.add(kind)
        return result

    return wrapper


def names_shapes(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and any(
        SHAPE.search(str(hint)) for hint in value.__annotations__.values()
    )


def wrapped(value: Any) -> Any:
    """Likewise for methods of every kind; None where nothing is to be checked."""
    if names_shapes(value):
        return staticmethod(checked(value)) if value.__name__ == "__new__" else checked(value)
    if isinstance(value, staticmethod | classmethod) and names_shapes(value.__func__):
        return type(value)(checked(value.__func__))
    if isinstance(value, property) and names_shapes(value.fget):
        return property(checked(value.fget), value.fset, value.fdel, value.__doc__)
    if isinstance(value, functools.cached_property) and names_shapes(value.func):
        value.func = checked(value.func)
    return None


def instrument(module: types.ModuleType) -> None:
    """Wrap the functions and methods that the module defines."""
    holders: list[Any] = [module]
    for holder in holders:
        for name, value in list(vars(holder).items()):
            if getattr(value, "__module__", None) not in (module.__name__, None):
                continue
            if isinstance(value, type) and value.__module__ == module.__name__:
                holders += [value] if value not in holders else []
            elif (better := wrapped(value)) is not None:
                setattr(holder, name, better)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the packages as ever, and instruments them once they have run."""

    def __init__(self, packages: Iterable[str]) -> None:
        self.packages = tuple(packages)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] not in self.packages:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        instrument(module)


def install(*packages: str) -> None:
    """Check the shapes in these packages from now on."""
    early = sorted({name.partition(".")[0] for name in sys.modules} & set(packages))
    if early:
        raise RuntimeError(f"{early} came before their shapes could be checked")
    sys.meta_path.insert(0, Finder(packages))
