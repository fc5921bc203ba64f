"""Finding pages, and laying them on each other: extends, choices, overrides."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from invertkit.core.images.specs import SHORT
from invertkit.core.suggestions import did_you_mean
from invertkit.errors import RecipeError
from invertkit.recipe.page import ChoicePage, Node, checked
from invertkit.recipe.yaml_text import parse_yaml

RecipeLike = str | Path | Mapping[str, Any]
"""A recipe: the name of one of the package's, the path of a page, or a page as a mapping."""


def recipes_folder() -> Path:
    """Where the pages are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    # A wheel carries copies in the package; a checkout has the pages where they are written.
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
    # Names first: a file or folder called `magic` in the working directory must not hide a recipe.
    if text in recipe_names():
        return recipes_folder() / f"{text}.yaml"
    path = Path(text).expanduser()
    meant = path.suffix in (".yaml", ".yml") or len(path.parts) > 1
    if beside is not None and not path.is_absolute():
        path = beside / path
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}).") from None
    if meant:
        raise RecipeError(f"{path}: no such recipe file.")
    hint = did_you_mean(text, recipe_names())
    raise RecipeError(
        f"Unknown recipe {text!r}.{hint} Known: {', '.join(recipe_names())}; or give the path of "
        "a .yaml file."
    )


def read_layers(
    recipe: RecipeLike, *, beside: Path | None = None, seen: tuple[Path, ...] = ()
) -> list[Node]:
    """The pages that a recipe is made of as plain data, the one that extends nothing first.

    Args:
        recipe: A mapping extends pages by name, or by paths from where the process is.
        beside: Where relative paths begin.
        seen: The pages that have led here.

    Raises:
        RecipeError: Not found, not readable, not a mapping, or pages extend each other in a ring.
    """
    if isinstance(recipe, Mapping):
        page = anchored(_plain(recipe), Path.cwd())
        page.setdefault("name", "recipe")
        return _with_base(page, where="recipe", beside=None, seen=seen)
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
    page = anchored(page, path.resolve().parent)
    return _with_base(page, where=path.name, beside=path.parent, seen=(*seen, path))


def _plain(value: Any, at: str = "recipe") -> Any:
    """A page written in Python as a file would hold it.

    Raises:
        RecipeError: It holds something that is no data.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(each, f"{at}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, f"{at}.{i}") for i, each in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise RecipeError(
        f"{at}: expected data, as a YAML page holds it, got {type(value).__name__}. Objects made "
        "in Python are arguments of their own: models, terms, variable, optimizer, players."
    )


def _with_base(
    page: Node, *, where: str, beside: Path | None, seen: tuple[Path, ...]
) -> list[Node]:
    """A page below which lies what it extends."""
    page = _with_bases_of_options(page, where=where, beside=beside, seen=seen)
    base = page.pop("extends", None)
    if base is None:
        return [page]
    if not isinstance(base, str):
        raise RecipeError(f"{where}: extends: expected a recipe's name or path, got {base!r}.")
    return [*read_layers(base, beside=beside, seen=seen), page]


_ABOUT_ITSELF: Final = (
    "version", "name", "summary", "source", "cite", "notes", "inputs", "demo", "choices", "chosen",
)  # fmt: skip
"""What a page says of itself and an option that extends it does not take over."""


def _with_bases_of_options(
    page: Node, *, where: str, beside: Path | None, seen: tuple[Path, ...]
) -> Node:
    """A page each of whose options holds what it extends: the method of another page."""

    def whole(option: Any, at: str) -> Any:
        if not isinstance(option, dict) or "extends" not in option:
            return option
        base, over = option["extends"], {k: v for k, v in option.items() if k != "extends"}
        if not isinstance(base, str):
            raise RecipeError(
                f"{where}: {at}.extends: expected a recipe's name or path, got {base!r}."
            )
        method = flatten(read_layers(base, beside=beside, seen=seen))
        return merge({k: v for k, v in method.items() if k not in _ABOUT_ITSELF}, over)

    choices = page.get("choices")
    if not isinstance(choices, dict):  # a fault that `choose` tells of
        return page
    resolved = dict(choices)
    for group, choice in choices.items():
        if isinstance(choice, dict) and isinstance(options := choice.get("options"), dict):
            named = {
                name: whole(option, f"choices.{group}.options.{name}")
                for name, option in options.items()
            }
            resolved[group] = {**choice, "options": named}
    return {**page, "choices": resolved}


_PROSE: Final = ("name", "summary", "source", "cite", "notes", "extends")
_FILES: Final = (
    ".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".latest", ".best", ".npy", ".npz",
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif",
)  # fmt: skip


def anchored(page: Node, folder: Path) -> Node:
    """The page with every file's name as a whole path: names are relative to the page's folder.

    A text is a file's name if its ending is one of weights, arrays or pictures, or if it has a
    slash and something lies there.

    Example:
        >>> anchored({"models": {"net": {"weights": "a.pt"}}}, Path("/pages"))
        {'models': {'net': {'weights': '/pages/a.pt'}}}
    """

    def anchor(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: anchor(value) for key, value in node.items()}
        if isinstance(node, list):
            return [anchor(value) for value in node]
        # `timm:NAME`, `hf-hub:…` and addresses are words, and prose of several lines is no name.
        if not isinstance(node, str) or ":" in node or "\n" in node:
            return node
        path = folder / Path(node).expanduser()
        named = node.lower().endswith(_FILES) or ("/" in node and path.exists())
        return str(path) if named else node

    return {key: value if key in _PROSE else anchor(value) for key, value in page.items()}


def read_raw(recipe: RecipeLike) -> Node:
    """The page as plain data with every `extends` merged in, the nearest page winning.

    Raises:
        RecipeError: As `read_layers`.
    """
    return flatten(read_layers(recipe))


def flatten(layers: Sequence[Node]) -> Node:
    """One page out of the layers of `read_layers`, the last on top."""
    page: Node = {}
    for layer in layers:
        page = merge(page, layer)
    return page


def merge(base: Any, over: Any, *, at: tuple[str, ...] = ()) -> Any:
    """`over` laid on `base`: mappings key by key, everything else replaced.

    A part whose `type` changes is replaced whole, since its options belong to the other type; a
    term keeps its place in the recipe: weight, region, start, stop and sizes.

    Args:
        base: Below.
        over: On top.
        at: Path to both, from the root of the page.

    Example:
        >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
        {'a': {'x': 1, 'y': 3}}
    """
    if at == ("inputs",) and isinstance(base, list) and isinstance(over, dict):
        base = {name: _as_mapping(name) for name in base}  # more inputs beside those of a list
    if not isinstance(base, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    if "type" in over and over["type"] != base.get("type", over["type"]):
        is_term = len(at) == 2 and at[0] == "objective"
        place = {key: base[key] for key in _PLACE if key in base} if is_term else {}
        return copy.deepcopy({**place, **over})
    merged = dict(base)
    for key, value in over.items():
        below = key in base
        merged[key] = merge(base[key], value, at=(*at, key)) if below else copy.deepcopy(value)
    return merged


def _as_mapping(name: str) -> str | Node:
    """What a name in a short list of inputs says as a mapping."""
    spec = SHORT.get(name)
    if spec is None:  # a fault that the page's check tells of
        return name
    return {"kind": spec.kind, "of": spec.of} if spec.of else spec.kind


_PLACE: Final = ("weight", "of", "region", "start", "stop", "min_size", "max_size")


def choose(raw: Node | Sequence[Node], wanted: Mapping[str, str], *, device: str) -> Node:
    """The page with one option of every choice laid on it, and `chosen` saying which.

    Each page's own options are laid on it before the page that extends it is, so that what a page
    says outweighs every option of the page it starts from.

    Args:
        raw: A page, or the layers of `read_layers`.
        wanted: Option by choice; the others take their default.
        device: `cpu` or `cuda`, for defaults that depend on it.

    Raises:
        RecipeError: No such choice or option.
    """
    layers = [raw] if isinstance(raw, dict) else list(raw)
    for layer in layers:
        for key in ("choices", "chosen"):
            if not isinstance(node := layer.get(key) or {}, dict):
                raise RecipeError(f"{key}: input should be a valid dictionary, got {node!r:.60}.")
    whole = flatten(layers)
    choices = whole.get("choices") or {}
    name = whole.get("name", "recipe")
    for group in wanted:
        if group not in choices:
            known = ", ".join(choices) or "none"
            raise RecipeError(f"Recipe {name!r} has no choice {group!r}; it has: {known}.")
    chosen = {
        group: _option(group, choice, wanted.get(group), device=device)
        for group, choice in choices.items()
    }
    page: Node = {}
    for layer in layers:
        page = merge(page, {key: value for key, value in layer.items() if key != "choices"})
        for group, option in chosen.items():
            choice = (layer.get("choices") or {}).get(group)
            if isinstance(choice, dict) and isinstance(options := choice.get("options"), dict):
                page = merge(page, options.get(option) or {})
    if not chosen:
        return page
    # A page that was resolved once, such as a run folder's, says what it was made with.
    before = page.get("chosen")
    return {**page, "chosen": {**before, **chosen} if isinstance(before, dict) else chosen}


def _option(group: str, choice: Any, wanted: str | None, *, device: str) -> str:
    """The option taken of one choice."""
    checked_choice: ChoicePage = checked(ChoicePage, choice, at=("choices", group))
    options, default = checked_choice.options, checked_choice.default
    if isinstance(default, dict):
        default = default.get(device) or default.get("cpu") or next(iter(options))
    option = wanted if wanted is not None else default
    if option not in options:
        hint = did_you_mean(option, options)
        raise RecipeError(
            f"choices.{group}: no option {option!r}.{hint} Known: {', '.join(options)}."
        )
    return option


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
    # The paths of the page itself are whole by now; what was typed is meant from where one stands.
    return anchored(page, Path.cwd()) if assignments else page


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
                    hint = did_you_mean(key, node)
                    raise RecipeError(
                        f"--set {path}: there is no {'.'.join(keys[: i + 1])!r}.{hint} "
                        f"Known: {', '.join(node)}."
                    )
                node = node[key]
        else:
            raise RecipeError(
                f"--set {path}: {'.'.join(keys[:i])} is {node!r}, which has no part {key!r}."
            )
