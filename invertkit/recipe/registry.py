"""What exists: one explicit table per kind of part.

A part exists when it has a line here. The line names its class by path, so that listing the
tables imports no part and no torch; the class is imported when a recipe uses it. A user's own
parts come from a file named on the command line or from an installed package's entry points.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final, get_type_hints

from invertkit.core.suggestions import did_you_mean
from invertkit.errors import InputError, RecipeError
from invertkit.recipe.tables import KINDS, TABLES, PartKind

PYTHON: Final = "python:"
"""How the type of a part begins that was made in Python: its name follows."""


@final
@dataclass(frozen=True)
class Registry:
    """The tables, with what a user has added.

    Args:
        added: Classes from `--parts` files and parts made in Python, by kind and name.

    Example:
        >>> "adam" in Registry().names("optimizer")
        True
        >>> Registry().load("optimizer", "adam").__name__
        'Adam'
    """

    added: Mapping[PartKind, Mapping[str, Any]] = field(default_factory=dict)

    def with_object(self, kind: PartKind, name: str, part: Any) -> Registry:
        """These tables and one part that was made in Python, of type `python:NAME`."""
        # A prefix of its own: no name in a page may come to mean an object that only one run has.
        return Registry({**self.added, kind: {**self.added.get(kind, {}), PYTHON + name: part}})

    def names(self, kind: PartKind) -> list[str]:
        """Every name of a kind, in order."""
        return sorted({*TABLES[kind], *self.added.get(kind, {}), *_entry_points(kind)})

    def summary(self, kind: PartKind, name: str) -> str:
        """What the part is, in a line."""
        if name in TABLES[kind]:
            return TABLES[kind][name].summary
        return (inspect.getdoc(self.load(kind, name)) or "").split("\n")[0]

    def load(self, kind: PartKind, name: str, *, at: str = "") -> Any:
        """The class, or for models the function, of that name.

        Raises:
            RecipeError: There is none; the message starts with `at` and suggests a name.
        """
        # A file that the run names outweighs the package's parts. What happens to be installed
        # beside does not: it would change what recipes mean.
        if name in self.added.get(kind, {}):
            return self.added[kind][name]
        if name in TABLES[kind]:
            module, _, attribute = TABLES[kind][name].path.partition(":")
            return getattr(importlib.import_module(module), attribute)
        if name in (points := _entry_points(kind)):
            return points[name].load()
        if name.startswith(PYTHON):
            raise RecipeError(
                f"{at}: was given from Python, so a page alone cannot make it; give it again, as "
                f"an argument of `invertkit.run` or `invertkit.resume`, or another {kind} in the "
                "page."
            )
        hint = did_you_mean(name, self.names(kind))
        raise RecipeError(
            f"{at}.type: unknown {kind} {name!r}.{hint} Known: {', '.join(self.names(kind))}."
        )

    def with_parts(self, path: Path) -> Registry:
        """These tables and the parts defined in a Python file; see `docs/extending.md`.

        Every class in the file that is an `Objective`, `Variable`, `Optimizer` or `Player` becomes
        a part, named in snake case; a `Network`, and a function annotated to return a `Network`,
        `Classifier`, `Generator` or `Encoder`, becomes a model.

        Raises:
            InputError: The file is missing or fails to import, or defines no part.
        """
        module = _import_file(path)
        added = {kind: dict(self.added.get(kind, {})) for kind in KINDS}
        parts = [(kind, part) for part in vars(module).values() for kind in _kind_of(part, module)]
        if not parts:
            raise InputError(
                f"{path}: defines no part. A part is a class derived from Objective, Variable, "
                "Optimizer, Player or Network, or a function annotated to return a Network, "
                "Classifier, Generator or Encoder."
            )
        for kind, part in parts:
            added[kind][snake_case(part.__name__)] = part
        return Registry(added)


def snake_case(name: str) -> str:
    """The name of a part in a page, from that of its class.

    Example:
        >>> snake_case("MeanRed"), snake_case("PatchSWD")
        ('mean_red', 'patch_swd')
    """
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return split.lower()


def _entry_points(kind: PartKind) -> dict[str, importlib.metadata.EntryPoint]:
    group = importlib.metadata.entry_points(group=f"invertkit.{kind}s")
    return {point.name: point for point in group}


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file; `--parts` names a Python file with your parts.")
    name = f"invertkit_parts_{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: not a Python file; `--parts` names a file ending in .py.")
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses, pickling and `get_type_hints` look a class's module up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that ends by itself must not end us
        raise InputError(
            f"{path}: cannot be imported ({type(error).__name__}: {error})."
        ) from error
    return module


def _kind_of(part: Any, module: Any) -> Iterator[PartKind]:
    # Here and not above: listing and checking pages must not wait for torch.
    from invertkit.core.network import Model
    from invertkit.objectives.base import Objective
    from invertkit.optimizers.base import Optimizer
    from invertkit.players.base import Player
    from invertkit.variables.base import Variable

    # What the file has imported, such as `Objective` itself, it does not define.
    if getattr(part, "__module__", None) != module.__name__:
        return
    roles: dict[PartKind, type] = {
        "objective": Objective,
        "variable": Variable,
        "optimizer": Optimizer,
        "player": Player,
        "model": Model,
    }
    if inspect.isclass(part) and not inspect.isabstract(part):
        yield from (kind for kind, role in roles.items() if issubclass(part, role))
    elif inspect.isfunction(part):
        returned = part.__annotations__.get("return")
        # Under `from __future__ import annotations` it is a word, perhaps for type checkers only.
        with contextlib.suppress(Exception):
            returned = get_type_hints(part)["return"]
        named = returned in ("Network", "Classifier", "Generator", "Encoder")
        if named or (inspect.isclass(returned) and issubclass(returned, Model)):
            yield "model"
