"""Options of a command made from the fields of records: a plan's new field is a new option."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, final, get_args, get_origin, get_type_hints

import typer

from invertkit.core.flags import Flag, NoFlag
from invertkit.core.ranges import range_in_words

Command = Callable[..., None]


def with_flags(*, panels: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Let the parameters of a command that are records be given field by field.

    Every field of such a record is an option; see `Flag` for what may be said of one. What is not
    typed is left to the record's defaults. Other parameters stay as they are.

    Args:
        panels: Headings in the order in which the help shows them; any other comes before.

    Raises:
        TypeError: Two records have a field of the same name.

    Example:
        >>> @dataclass(frozen=True)
        ... class Plan:
        ...     '''What to do.
        ...
        ...     Args:
        ...         steps: How many.
        ...     '''
        ...
        ...     steps: int = 3
        >>> def train(plan: Annotated[Plan, Flag(panel="Descent")]) -> None:
        ...     print(plan)
        >>> with_flags()(train)(steps=4)
        Plan(steps=4)
    """

    def decorate(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        records: dict[str, _Record] = {}
        shown: list[tuple[str, inspect.Parameter]] = []
        for parameter in inspect.signature(command).parameters.values():
            hint, flag = _told(hints[parameter.name])
            if is_dataclass(hint):
                record = _Record(hint, panel=flag.panel, path="")
                records[parameter.name] = record
                shown += [(option.panel, option.parameter()) for option in record.all()]
            else:
                whole = hints[parameter.name]
                panel = next((str(each.rich_help_panel or "") for each in whole.__metadata__), "")
                shown.append((panel, parameter.replace(annotation=whole)))
        _expect_different(shown)
        order = ["", *panels]
        # Python's sort is stable, so within a heading the order stays that of the records.
        shown.sort(key=lambda pair: order.index(pair[0]) if pair[0] in order else 0)

        @functools.wraps(command)
        def typed(**values: Any) -> None:
            built = {name: record.build(values) for name, record in records.items()}
            fields_of = {option.name for record in records.values() for option in record.all()}
            command(**built, **{name: values[name] for name in values if name not in fields_of})

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [parameter.replace(kind=keyword) for _, parameter in shown]
        typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        typed.__annotations__ = {each.name: each.annotation for each in parameters}
        return typed

    return decorate


def _expect_different(shown: Sequence[tuple[str, inspect.Parameter]]) -> None:
    names = [each.name for _, each in shown]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise TypeError(f"two records have the field {', '.join(sorted(twice))}; rename one.")


@final
class _Record:
    """A record, and which options make it.

    Args:
        kind: The dataclass.
        panel: Heading of its options, but for fields that name another.
        path: What keeps the names of two records' fields apart.
    """

    def __init__(self, kind: Any, *, panel: str, path: str) -> None:
        self.kind = kind
        self.parts: dict[str, _Option | _Record] = {}
        hints = get_type_hints(kind, include_extras=True)
        # A record tells of its own fields; those that it inherits are told where they come from.
        entries: dict[str, str] = {}
        for base in reversed(kind.__mro__):
            entries |= docstring_entries(base.__doc__)
        for field in fields(kind):
            hint, flag = _told(hints[field.name])
            if isinstance(flag, NoFlag):
                continue
            below = flag.panel or panel
            if is_dataclass(hint):
                inner = _Record(hint, panel=below, path=f"{path}{field.name}__")
                self.parts[field.name] = inner
                continue
            text = flag.help or entries.get(field.name, "").split(". ")[0].rstrip(".") + "."
            limits = range_in_words(hints[field.name])
            if limits:
                text = f"{text.rstrip('.')} ({limits})."
            name = f"{path}{field.name}"
            option = _Option(name, field, hint, flag, below, text.replace("`", ""))
            self.parts[field.name] = option

    def all(self) -> Iterator[_Option]:
        """Its options and those of the records in it."""
        for part in self.parts.values():
            yield from part.all() if isinstance(part, _Record) else [part]

    def build(self, values: Mapping[str, Any]) -> Any:
        """The record, of what was typed."""
        given: dict[str, Any] = {}
        by_field = {name.rpartition("__")[2]: value for name, value in values.items()}
        for name, part in self.parts.items():
            if isinstance(part, _Record):
                given[name] = part.build(values)
            elif part.name in values:
                given |= part.read(values[part.name], by_field)
        return self.kind(**given)


@final
@dataclass(frozen=True)
class _Option:
    """An option and the field it gives."""

    name: str
    field: Field[Any]
    hint: Any
    flag: Flag
    panel: str
    help: str

    def parameter(self) -> inspect.Parameter:
        """What typer makes the option of."""
        hint, default = self._typed()
        dashed = self.field.name.replace("_", "-")
        both = default is True or bool in get_args(hint)
        name = self.flag.name or (f"--{dashed}/--no-{dashed}" if both else f"--{dashed}")
        option = typer.Option(
            name,
            help=self.help,
            show_default=self.flag.shown or True,
            rich_help_panel=self.panel or None,
        )
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is MISSING else default,
            annotation=Annotated[hint, option],
        )

    def _typed(self) -> tuple[Any, Any]:
        """Type and default of what is typed."""
        if self.flag.reads is not None:
            return self.flag.typed, self.flag.default
        # None then means that nothing was typed; the field's own default could be typed too.
        if self.flag.otherwise is not None:
            return self.hint | None, None
        default: Any = self.field.default
        if self.field.default_factory is not MISSING:
            default = self.field.default_factory()
        # A word is checked by the record itself, whose sentence says more than typer's.
        if get_origin(self.hint) is Literal:
            return str, default
        if get_origin(self.hint) is tuple and get_args(self.hint)[-1] is ...:
            return list[get_args(self.hint)[0]], list(default)  # type: ignore[misc]
        return self.hint, default

    def read(self, value: Any, by_field: Mapping[str, Any]) -> Mapping[str, object]:
        """The fields that were typed."""
        if self.flag.reads is not None:
            return self.flag.reads(value)
        if value is None and self.flag.otherwise is not None:
            value = self.flag.otherwise(by_field)
        return {self.field.name: tuple(value) if isinstance(value, list) else value}


def _told(hint: Any) -> tuple[Any, Any]:
    """The bare type, and what `Annotated` says of its flag."""
    if get_origin(hint) is not Annotated:
        return hint, Flag()
    told = (each for each in hint.__metadata__ if isinstance(each, Flag | NoFlag))
    return hint.__origin__, next(told, Flag())


def docstring_entries(docstring: str | None) -> dict[str, str]:
    """The entries under `Args:` of a Google docstring, each on one line.

    Example:
        >>> docstring_entries('''What.
        ...
        ... Args:
        ...     size: Side in pixels,
        ...         at least 16.
        ...     seed: Of everything.
        ... ''')
        {'size': 'Side in pixels, at least 16.', 'seed': 'Of everything.'}
    """
    _, _, rest = inspect.cleandoc(docstring or "").partition("\nArgs:\n")
    section = re.match(r"(?: {4}.*\n?|\n)*", rest)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section[0] if section else "", re.M)
    return {name: " ".join(text.split()) for name, text in entries}
