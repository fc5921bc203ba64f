"""The shape of a recipe page, and how pages are found, read, extended and overridden.

Nothing here imports torch: listing and showing recipes takes milliseconds.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, final

import yaml
from annotated_types import Ge, MinLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from invertkit.errors import RecipeError
from invertkit.schedules import Schedule

VERSION: Final = 1

Node = dict[str, Any]
"""A part: `type` and its options. The options are checked against the part's own signature."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@final
class TermPage(BaseModel):
    """One line of `objective`: where the term stands in the recipe, and its objective's options."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    type: str = Field(description="Name of the objective.")
    weight: Schedule = Field(1.0, description="Number or schedule over the steps of the run.")
    region: Literal["everywhere", "object", "background", "untouched", "vacated"] = Field(
        "everywhere", description="Where the term looks."
    )
    start: Annotated[int, Ge(0)] = Field(0, description="First step of the run at which it counts.")
    stop: Annotated[int, Ge(1)] | None = Field(None, description="First step without it.")
    min_size: Annotated[int, Ge(0)] = Field(0, description="Smallest stage with it, in pixels.")
    max_size: Annotated[int, Ge(1)] | None = Field(None, description="Largest stage with it.")

    @property
    def options(self) -> Node:
        """What belongs to the objective."""
        return dict(self.model_extra or {})


@final
class StagePage(_Strict):
    """So many steps at one size."""

    size: Annotated[int, Ge(1), Field(description="Side in pixels; see `fit`.")]
    steps: Annotated[int, Ge(1), Field(description="Steps of the optimizer.")]


@final
class ChoicePage(_Strict):
    """Named overlays of which one is taken, such as the budgets `preview` and `full`."""

    default: str | dict[str, str] = Field(
        description="An option, or one for `cpu` and one for `cuda`."
    )
    options: Annotated[dict[str, dict[str, Any] | None], MinLen(1)]


@final
class Page(_Strict):
    """A recipe."""

    version: Literal[1] = Field(1, description="Version of this format.")
    name: str = Field("", description="Name of the recipe.")
    summary: str = Field("", description="What it does, in a line.")
    source: str = Field("", description="Paper or code that it follows.")
    cite: str = Field("", description="BibTeX key of the source, if any.")
    notes: dict[str, str] = Field(
        default_factory=dict, description="What to say aloud when an option of a choice is taken."
    )
    inputs: tuple[Literal["image", "mask", "target"], ...] = Field(
        (), description="What a run must be given."
    )
    fit: Literal["stretch", "crop", "keep"] = Field(
        "stretch",
        description="How photographs meet a stage's size: `stretch` to its square, `crop` the "
        "central square, or `keep` the shape with as many pixels as the square.",
    )
    models: dict[str, Node] = Field(default_factory=dict, description="Frozen networks by name.")
    variable: Node = Field(description="What is optimised.")
    objective: Annotated[dict[str, TermPage], MinLen(1)] = Field(description="Terms by name.")
    optimizer: Node = Field(description="How it is searched.")
    players: dict[str, Node] = Field(default_factory=dict, description="Networks that learn.")
    stages: Annotated[tuple[StagePage, ...], MinLen(1)] = Field(description="In order.")
    result: Literal["best", "last"] = Field("last", description="Which image is the result.")
    choices: dict[str, ChoicePage] = Field(default_factory=dict, description="Named overlays.")
    chosen: dict[str, str] = Field(default_factory=dict, description="Which overlays were taken.")
    extends: str | None = Field(None, description="Recipe to start from: a name or a path.")

    @field_validator("objective", "players", "models", mode="before")
    @classmethod
    def _without_removed(cls, value: Any) -> Any:
        """A term, player or model set to null by an overlay is gone."""
        if isinstance(value, Mapping):
            return {name: node for name, node in value.items() if node is not None}
        return value


# ---------------------------------------------------------------------- reading YAML


class _Loader(yaml.SafeLoader):
    """YAML without its traps: 1e-3 is a number, `on` is a word, a key may stand once."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float",
                           "tag:yaml.org,2002:timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}  # fmt: skip
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|(?:nan|NaN|inf))$"
    ),
    list("-+0123456789.niN"),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a word", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse_yaml(text: str, *, where: str) -> Any:
    """Data of a YAML text; never code.

    Raises:
        RecipeError: Not YAML, or a key stands twice; the message names `where` and the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise RecipeError(f"{where}{line}: not a readable recipe: {problem}.") from None


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """Line, from 1, at which the value at `path` stands in a YAML text; None if it does not."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        return None
    line: int | None = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                return line
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                return line
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


# ---------------------------------------------------------------------- finding pages


def recipes_folder() -> Path:
    """Where the pages are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def find_page(recipe: str | Path, *, beside: Path | None = None) -> Path:
    """The file of a recipe given by name, or by a path (relative to `beside` if given).

    Raises:
        RecipeError: There is none; the message suggests a name.
    """
    text = str(recipe)
    if text in recipe_names():
        return recipes_folder() / f"{text}.yaml"
    path = Path(text).expanduser()
    if beside is not None and not path.is_absolute():
        path = beside / path
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise RecipeError(f"{path}: no such recipe file.")
    near = get_close_matches(text, recipe_names(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise RecipeError(
        f"Unknown recipe {text!r}.{hint} Known: {', '.join(recipe_names())}; or give the path of "
        "a .yaml file."
    )


def read_raw(
    recipe: str | Path, *, beside: Path | None = None, seen: tuple[Path, ...] = ()
) -> Node:
    """The page as plain data with every `extends` merged in, the nearest page winning.

    Raises:
        RecipeError: Not found, not readable, not a mapping, or pages extend each other in a ring.
    """
    path = find_page(recipe, beside=beside)
    if path in seen:
        ring = " -> ".join(page.name for page in (*seen, path))
        raise RecipeError(f"{path}: recipes extend each other in a ring: {ring}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error}).") from None
    page = parse_yaml(text, where=path.name)
    if not isinstance(page, dict):
        raise RecipeError(f"{path.name}: expected a mapping of keys to values, got {page!r:.60}.")
    page.setdefault("name", path.stem)
    if (base := page.get("extends")) is None:
        return page
    if not isinstance(base, str):
        raise RecipeError(f"{path.name}: extends: expected a recipe's name or path, got {base!r}.")
    parent = read_raw(base, beside=path.parent, seen=(*seen, path))
    merged: Node = merge(parent, {key: value for key, value in page.items() if key != "extends"})
    return merged


def merge(base: Any, over: Any) -> Any:
    """`over` laid on `base`: mappings key by key, everything else replaced.

    A part whose `type` changes is replaced whole, since its options belong to the other type.

    Example:
        >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
        {'a': {'x': 1, 'y': 3}}
    """
    if not isinstance(base, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    if "type" in over and over["type"] != base.get("type", over["type"]):
        kept = {key: base[key] for key in _PLACE if key in base}
        return copy.deepcopy({**kept, **over} if "weight" in base else over)
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(base[key], value) if key in base else copy.deepcopy(value)
    return merged


_PLACE: Final = ("weight", "region", "start", "stop", "min_size", "max_size")


# ---------------------------------------------------------------------- choices and overrides


def choose(raw: Node, wanted: Mapping[str, str], *, device: str) -> Node:
    """The page with one option of every choice laid on it, and `chosen` saying which.

    Args:
        raw: A page with its `extends` merged.
        wanted: Option by choice; the others take their default.
        device: `cpu` or `cuda`, for defaults that depend on it.

    Raises:
        RecipeError: No such choice or option.
    """
    choices = raw.get("choices") or {}
    name = raw.get("name", "recipe")
    for group in wanted:
        if group not in choices:
            known = ", ".join(choices) or "none"
            raise RecipeError(f"Recipe {name!r} has no choice {group!r}; it has: {known}.")
    page = {key: value for key, value in raw.items() if key != "choices"}
    chosen = dict(raw.get("chosen") or {})
    for group, choice in choices.items():
        choice = _checked(ChoicePage, choice, at=("choices", group))
        default = choice.default
        if isinstance(default, dict):
            default = default.get(device) or default.get("cpu") or next(iter(choice.options))
        option = wanted.get(group, default)
        if option not in choice.options:
            near = get_close_matches(option, choice.options, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise RecipeError(
                f"choices.{group}: no option {option!r}.{hint} Known: {', '.join(choice.options)}."
            )
        page = merge(page, choice.options[option] or {})
        chosen[group] = option
    return {**page, "chosen": chosen} if chosen else page


def override(raw: Node, assignments: Sequence[str]) -> Node:
    """The page with `a.b.c=value` laid on it, in order; values are YAML.

    Raises:
        RecipeError: Not of that form, or a part of the path does not exist.
    """
    page = copy.deepcopy(raw)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise RecipeError(
                f"--set {assignment}: expected KEY.KEY=VALUE, such as "
                "`objective.control.weight=20`."
            )
        _assign(page, path.strip().split("."), parse_yaml(text, where=f"--set {path}"), path)
    return page


def _assign(page: Any, keys: list[str], value: Any, path: str) -> None:
    node = page
    for i, key in enumerate(keys):
        last = i == len(keys) - 1
        if isinstance(node, list):
            if not key.lstrip("-").isdigit() or not -len(node) <= int(key) < len(node):
                raise RecipeError(
                    f"--set {path}: {'.'.join(keys[:i])} is a list of {len(node)}; expected an "
                    f"index from 0 to {len(node) - 1}, got {key!r}."
                )
            if last:
                node[int(key)] = value
            else:
                node = node[int(key)]
        elif isinstance(node, dict):
            if last:
                node[key] = value
            else:
                if key not in node or node[key] is None:
                    near = get_close_matches(key, map(str, node), n=1)
                    hint = f" Did you mean {near[0]!r}?" if near else ""
                    raise RecipeError(
                        f"--set {path}: there is no {'.'.join(keys[: i + 1])!r}.{hint} "
                        f"Known: {', '.join(map(str, node))}."
                    )
                node = node[key]
        else:
            raise RecipeError(
                f"--set {path}: {'.'.join(keys[:i])} is {node!r}, which has no part {key!r}."
            )


# ---------------------------------------------------------------------- validation


def validate(raw: Node, *, text: str | None = None) -> Page:
    """The page, checked.

    Args:
        raw: Plain data with extends and choices merged.
        text: The YAML it came from, to name lines.

    Raises:
        RecipeError: One sentence a fault, each starting with the path to it.
    """
    page: Page = _checked(Page, raw, text=text)
    return page


def _checked(
    kind: type[Any], raw: Any, *, at: tuple[str | int, ...] = (), text: str | None = None
) -> Any:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise RecipeError("\n".join(explain(error, kind, at=at, text=text))) from None


def explain(
    error: ValidationError,
    kind: type[BaseModel],
    *,
    at: Sequence[str | int] = (),
    text: str | None = None,
    also: Sequence[str] = (),
) -> Iterator[str]:
    """One sentence for every fault that pydantic found: path, expected, got, suggestion."""
    said: set[str] = set()
    for fault in error.errors():
        path = [*at, *(part for part in fault["loc"] if not _is_union_tag(part))]
        dotted = ".".join(map(str, path))
        if dotted in said:  # a union reports every member; the first is the plain one
            continue
        said.add(dotted)
        line = line_of(text, path) if text is not None else None
        place = f"{dotted} (line {line})" if line else dotted
        yield f"{place}: {_sentence(fault, kind, path, also)}"


def _is_union_tag(part: str | int) -> bool:
    return isinstance(part, str) and part in {
        "number", "linear", "piecewise", "cosine", "float", "int", "str", "none",
        "dict[str,any]", "dict[str,str]", "constrained-int", "constrained-float",
    }  # fmt: skip


_SCHEDULES: Final = ("linear", "piecewise", "cosine")


def _sentence(
    fault: Any, kind: type[BaseModel], path: Sequence[str | int], also: Sequence[str] = ()
) -> str:
    got = fault["input"]
    match fault["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            known = [*known_keys(kind, path[:-1]), *also]
            near = get_close_matches(str(path[-1]), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            listed = f" Known: {', '.join(known)}." if known else ""
            return f"unknown key {path[-1]!r}.{hint}{listed}"
        case "union_tag_invalid":
            near = get_close_matches(fault["ctx"]["tag"], _SCHEDULES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            return (
                f"expected a number or a schedule of type {', '.join(_SCHEDULES)}, "
                f"got type {fault['ctx']['tag']!r}.{hint}"
            )
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return "missing; this key is required."
        case "finite_number":
            return f"expected a finite number, got {got}."
        case "literal_error":
            near = get_close_matches(str(got), re.findall(r"'([^']+)'", str(fault["ctx"])), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            return f"expected {fault['ctx']['expected']}, got {got!r}.{hint}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    shown = repr(got)
    return f"{message}, got {shown if len(shown) < 60 else shown[:57] + '...'}."


def known_keys(kind: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Names that may stand at `path` of a page."""
    here: Any = kind
    for part in path:
        fields = getattr(here, "model_fields", {})
        if part in fields:
            here = _model_in(fields[part].annotation)
        elif here is None:
            break
    return list(getattr(here, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The page model inside an annotation such as `dict[str, TermPage]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None


def dump_yaml(raw: Node) -> str:
    """A page as text, keys in the order of the format."""
    order = list(Page.model_fields)
    ordered = {key: raw[key] for key in order if key in raw}
    ordered.update({key: value for key, value in raw.items() if key not in ordered})
    text: str = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)
    return text
