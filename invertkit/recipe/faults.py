"""What pydantic finds wrong with data, as sentences: path, expected, got, suggestion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from invertkit.core.suggestions import did_you_mean


def explain(
    error: ValidationError,
    kind: type[BaseModel],
    *,
    at: Sequence[str | int] = (),
    also: Sequence[str] = (),
) -> Iterator[str]:
    """One sentence for every fault that pydantic found: path, expected, got, suggestion."""
    told: set[str] = set()
    faults = error.errors()
    for fault in faults:
        if fault["type"] == "too_short" and any(
            other["loc"][: len(fault["loc"])] == fault["loc"] for other in faults if other != fault
        ):  # it has items, all of them faulty and told of
            continue
        path = [*at, *(part for part in fault["loc"] if not _is_union_tag(part))]
        dotted = ".".join(map(str, path))
        if dotted in told:  # a union reports every member; the first is the plain one
            continue
        told.add(dotted)
        yield f"{dotted}: {_sentence(fault, kind, path, also)}"


def _is_union_tag(part: str | int) -> bool:
    # pydantic puts the member of a union that it tried into the path; no page has such a key.
    return isinstance(part, str) and part in {
        "number", "linear", "piecewise", "cosine", "float", "int", "str", "none",
        "dict[str,any]", "dict[str,str]", "listed_stages", "named_stages", "constrained-int",
        "tuple[str, ...]",
        "constrained-float", "listed_inputs", "named_inputs", "a word", "a mapping",
    }  # fmt: skip


_SCHEDULES: Final = ("linear", "piecewise", "cosine")


def _sentence(
    fault: Any, kind: type[BaseModel], path: Sequence[str | int], also: Sequence[str] = ()
) -> str:
    got = fault["input"]
    match fault["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            known = [*known_keys(kind, path[:-1]), *also]
            hint = did_you_mean(str(path[-1]), known)
            listed = f" Known: {', '.join(known)}." if known else ""
            return f"unknown key {path[-1]!r}.{hint}{listed}"
        case "union_tag_invalid":
            hint = did_you_mean(fault["ctx"]["tag"], _SCHEDULES)
            return (
                f"expected a number or a schedule of type {', '.join(_SCHEDULES)}, "
                f"got type {fault['ctx']['tag']!r}.{hint}"
            )
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return "missing; this key is required."
        case "finite_number":
            return f"expected a finite number, got {got}."
        case "literal_error":
            hint = did_you_mean(str(got), re.findall(r"'([^']+)'", str(fault["ctx"])))
            return f"expected {fault['ctx']['expected']}, got {got!r}.{hint}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    shown = repr(got)
    return f"{message}, got {shown if len(shown) < 60 else shown[:57] + '...'}."


def known_keys(kind: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Names that may stand at `path` of a page."""
    model: Any = kind
    for part in path:
        fields = getattr(model, "model_fields", {})
        # A part that is no field is a name or a number inside a mapping or a list of models, such
        # as `control` in `objective.control`: the model stays.
        if part in fields:
            model = _model_in(fields[part].annotation)
        elif model is None:
            break
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The page model inside an annotation such as `dict[str, TermPage]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (model := _model_in(argument)) is not None:
            return model
    return None
