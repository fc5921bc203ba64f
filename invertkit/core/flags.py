"""What the command line must know of a record's fields beyond their names, types and docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final


@final
@dataclass(frozen=True)
class Flag:
    """How a field of a record is given on the command line, said beside its type in `Annotated`.

    A field without one becomes an option all the same: `step_size: float = 0.1` is
    `--step-size FLOAT`, its help the first sentence of its entry in the record's docstring.

    Args:
        name: Such as `--radius`, or `--best/--last` of a switch; by default made of the field's.
        panel: Heading in the help; by default that of the record. On a field that holds a record:
            of that record's fields.
        help: By default the first sentence of the docstring's entry.
        typed: The type of what is typed, where `reads` makes something else of it.
        default: Of what is typed, where `reads` makes something else of it.
        shown: How the help tells the default, where its value does not say it.
        reads: From what was typed to the record's fields of which it decides.
        otherwise: The field's value where nothing was typed, from the other fields of the command
            by their names.

    Example:
        >>> from typing import Annotated
        >>> @dataclass(frozen=True)
        ... class Plan:
        ...     radii: Annotated[tuple[float, ...], Flag("--radius", panel="Measures")] = ()
    """

    name: str = ""
    panel: str = ""
    help: str = ""
    typed: Any = None
    default: Any = None
    shown: str = ""
    reads: Callable[[Any], Mapping[str, object]] | None = None
    otherwise: Callable[[Mapping[str, Any]], object] | None = None


@final
class NoFlag:
    """Marks a field that is not given on the command line."""


NO_FLAG: Final = NoFlag()
