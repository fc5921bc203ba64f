"""How a recipe is run: one record for the API, the applications, the command line, checkpoints.

A new field stands here, with its documentation, and in the command line's list of options if it
shall have one there. `run`, `run_each`, `prepare` and `ablate` take it by its name.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from pathlib import Path
from typing import Any, Final, TypeVar, final

from torch import nn

from invertkit.core.precision import PRECISIONS, Precision
from invertkit.core.recording.replay import COMPILE, Compile
from invertkit.core.suggestions import one_of
from invertkit.engine.problem import Term
from invertkit.errors import InputError
from invertkit.objectives.base import Objective
from invertkit.optimizers.base import Optimizer
from invertkit.players.base import Player
from invertkit.variables.base import Variable

OBJECTS: Final = ("models", "terms", "variable", "optimizer", "players")
"""The fields that hold objects made in Python, which no file can hold."""

_ARGUMENTS: Final = (
    "recipe",
    "photographs",
    "out",
    "observers",
    "progress",
    "checkpoint_every",
    "judge",
)
"""Arguments of `run` and `run_each` that are no settings."""

F = TypeVar("F", bound=Callable[..., Any])


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a recipe is run: everything but the recipe itself and what it is given to work on.

    Args:
        seed: Of the first image; the others count up from it.
        seeds: How many images, of each photograph if there are several. Each is the same alone or
            in company.
        batch: How many of them are made side by side at most; by default one on a CPU, which is as
            fast and rounds the same whatever the company, and 16 on an accelerator or where a
            term takes what images have in common, such as coupled statistics. Photographs
            share a batch if their stages have equal sizes.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        budget: Option of the recipe's choice `budget`, such as `preview` or `full`.
        choices: Option of any other choice, such as `{"mode": "location"}`.
        overrides: `{"objective.control.weight": 20}`, or the same as `KEY=VALUE` texts.
        models: Networks by name, replacing the recipe's or beside them: any `nn.Module` that takes
            ImageNet-normalised images, or a `Classifier`, `Generator` or `Network`.
        terms: Terms by name, beside the recipe's or instead of one: a `Term`, or an `Objective`
            that counts once and everywhere.
        variable: What is optimised, instead of the recipe's.
        optimizer: How it is searched, instead of the recipe's. Stages with their own keep it.
        players: Networks that learn, by name, beside the recipe's or instead of one.
        parts: Python files with parts of your own.
        compile: How steps are taken. `off`: by Python, operation by operation. `graph`: recorded
            and replayed, on CUDA as one graph; the picture is the same. `inductor`: compiled
            before that. `auto`: as `graph`. What cannot be replayed is said and taken by Python.
        precision: Of the networks: `float32`, `tf32` (rounds products on CUDA; nothing on a CPU)
            or `bf16`.

    Raises:
        InputError: A value is none of these.

    Example:
        >>> settings = Settings(seed=3, seeds=2, budget="preview")
        >>> settings.image_seeds, settings.options
        ((3, 4), {'budget': 'preview'})
    """

    seed: int = 0
    seeds: int = 1
    batch: int | None = None
    device: str = "auto"
    budget: str | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    overrides: Sequence[str] | Mapping[str, Any] = ()
    models: Mapping[str, nn.Module] = field(default_factory=dict)
    terms: Mapping[str, Term | Objective] = field(default_factory=dict)
    variable: Variable | None = None
    optimizer: Optimizer | None = None
    players: Mapping[str, Player] = field(default_factory=dict)
    parts: Sequence[str | Path] = ()
    compile: Compile = "auto"
    precision: Precision = "tf32"

    def __post_init__(self) -> None:
        _expect_whole("seed", self.seed, "a whole number")
        _expect_whole("seeds", self.seeds, "at least 1 image", least=1)
        if self.batch is not None:
            _expect_whole("batch", self.batch, "a number of images from 1", least=1)
        self._expect_collections()
        one_of("compile", self.compile, COMPILE)
        one_of("precision", self.precision, PRECISIONS)
        plain = {
            "overrides": override_texts(self.overrides),
            "parts": tuple(str(Path(path).resolve()) for path in self.parts or ()),
        }
        copied = {name: dict(getattr(self, name) or {}) for name in ("choices", *_MAPPINGS)}
        # Frozen, and yet brought to one form: whoever reads them need not know the others.
        for name, value in {**plain, **copied}.items():
            object.__setattr__(self, name, value)

    def _expect_collections(self) -> None:
        """Whether what holds several things is no single one."""
        for name in ("choices", *_MAPPINGS):
            value = getattr(self, name)
            if value is not None and not (
                isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
            ):
                raise InputError(f"{name}: expected a mapping by name, got {value!r:.60}.")
        for name in ("overrides", "parts"):
            if isinstance(value := getattr(self, name), str | Path):
                raise InputError(f"{name}: expected a list, such as [{str(value)!r}], got a text.")

    @property
    def image_seeds(self) -> tuple[int, ...]:
        """One per image of a photograph."""
        return tuple(range(self.seed, self.seed + self.seeds))

    @property
    def options(self) -> dict[str, str]:
        """The wanted option of each choice, the budget among them."""
        return {**self.choices, **({"budget": self.budget} if self.budget else {})}

    def __repr__(self) -> str:
        # Networks and tensors would fill pages; names say which there are.
        shown = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None or value == each.default or value == {}:
                continue
            if each.name in OBJECTS:
                value = list(value) if isinstance(value, dict) else type(value).__name__
            shown.append(f"{each.name}={value!r}")
        return f"Settings({', '.join(shown)})"

    def save(self) -> dict[str, Any]:
        """All but the objects made in Python, as plain data; see `load`."""
        return {name: getattr(self, name) for name in _names() if name not in OBJECTS}

    @classmethod
    def load(cls, saved: Mapping[str, Any]) -> Settings:
        """The settings that `save` saw; objects made in Python are lacking."""
        return cls(**saved)


_MAPPINGS: Final = ("models", "terms", "players")


def _expect_whole(name: str, value: object, wanted: str, *, least: int | None = None) -> None:
    if not isinstance(value, Integral) or (least is not None and int(value) < least):
        raise InputError(f"{name}: expected {wanted}, got {value!r:.60}.")


def is_argument(name: str) -> bool:
    """Whether `run` or `run_each` has an argument of that name, so that no input can.

    Example:
        >>> is_argument("out"), is_argument("seeds"), is_argument("style")
        (True, True, False)
    """
    return name in _ARGUMENTS or name in Settings.__dataclass_fields__


def _names() -> list[str]:
    return [each.name for each in fields(Settings)]


def settings_and_inputs(given: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Keyword arguments of a run, those of `Settings` apart from what the recipe is given.

    Example:
        >>> settings, inputs = settings_and_inputs({"seeds": 2, "image": "a.jpg"})
        >>> settings.seeds, inputs
        (2, {'image': 'a.jpg'})
    """
    names = set(_names())
    inputs = {name: value for name, value in given.items() if name not in names}
    return Settings(**{name: given[name] for name in names & given.keys()}), inputs


def override_texts(overrides: Sequence[str] | Mapping[str, Any] | None) -> tuple[str, ...]:
    """Overrides as `KEY=VALUE` texts, as the command line takes them.

    Example:
        >>> override_texts({"objective.match.weight": 3, "result": "last"})
        ('objective.match.weight=3', 'result=last')
    """
    if not isinstance(overrides, Mapping):
        return tuple(overrides or ())
    return tuple(
        f"{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
        for key, value in overrides.items()
    )


def takes_settings(function: F) -> F:
    """Let `help`, notebooks and editors see the settings among a function's arguments.

    The function takes `**given` and splits it by `settings_and_inputs`.
    """
    return _showing(function, _names())


def takes_objects(function: F) -> F:
    """`takes_settings` for what goes on with a run: it takes the objects made in Python alone."""
    return _showing(function, OBJECTS)


def _showing(function: F, names: Sequence[str]) -> F:
    """The function, with these fields in its signature and below its documentation."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    records = Settings.__dataclass_fields__
    settings = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if name in ("choices", *_MAPPINGS) else records[name].default,
            annotation=records[name].type,
        )
        for name in names
    ]
    first = sum(each.kind is not inspect.Parameter.KEYWORD_ONLY for each in parameters) - 1
    parameters[first:first] = settings
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    described = "\n".join(entry for name, entry in _described().items() if name in names)
    function.__doc__ = f"{inspect.getdoc(function)}\n\nSettings:\n{described}\n"
    return function


def _described() -> dict[str, str]:
    """What the documentation of the record says of each field."""
    section = (inspect.getdoc(Settings) or "").split("Args:\n")[1].split("\n\n")[0]
    entries = re.split(r"\n(?=    \w)", section)
    return {entry.strip().partition(":")[0]: entry for entry in entries}
