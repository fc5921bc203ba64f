"""From a checked page to a problem: every part built from its own signature."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from invertkit.core.images.inputs import Inputs, joined
from invertkit.core.images.load import Fit
from invertkit.core.images.specs import SHORT
from invertkit.core.network import Model, Network
from invertkit.core.precision import Precision
from invertkit.core.scene import Scene
from invertkit.engine.problem import Problem, Stage, Term
from invertkit.errors import InvertkitError, RecipeError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.objectives.base import Objective
from invertkit.optimizers.base import Optimizer
from invertkit.players.base import Player
from invertkit.recipe.faults import explain
from invertkit.recipe.from_python import FromPython
from invertkit.recipe.page import Node, Page, StagePage, TermPage
from invertkit.recipe.registry import Registry
from invertkit.recipe.tables import PartKind
from invertkit.variables.base import Variable

_ROLES: dict[type, PartKind] = {
    Objective: "objective",
    Variable: "variable",
    Optimizer: "optimizer",
    Player: "player",
}


def build(
    page: Page,
    inputs: Sequence[Inputs],
    *,
    seeds: tuple[int, ...],
    device: torch.device,
    registry: Registry,
    models: Mapping[str, Any] | None = None,
    precision: Precision = "tf32",
) -> Problem:
    """Everything a run needs, checked before the first step.

    Args:
        page: The recipe.
        inputs: What is given, at full size: for every image, or once for all of them. Images
            of one photograph stand side by side, as many of each.
        seeds: One per image.
        device: Where to run.
        registry: The parts that exist.
        models: Networks given from Python, by name; they replace the page's.
        precision: Of the networks.

    Raises:
        RecipeError: A part or an option is unknown or wrong, or names a model or player that the
            page lacks; the message starts with the path.
        InputError: The recipe needs an input that is missing.
    """
    for each in inputs:
        check_inputs(page, each)
    networks = _networks(page, dict(models or {}), registry, device)
    variable = build_part("variable", page.variable, at="variable", registry=registry)
    players = {
        name: build_part("player", node, at=f"players.{name}", registry=registry)
        for name, node in page.players.items()
    }
    terms = [_term(name, page, registry) for name in page.objective]
    for term in terms:
        _check_names(term, networks, players)
    if variable.moves_pixels and any(spec.of for spec in page.specs.values()):
        raise RecipeError(
            "variable.type: `jitter` moves the image and its masks would not follow; use it in "
            "recipes without masks."
        )
    return Problem(
        scene=functools.partial(_scene, inputs, fit=page.fit, device=device, precision=precision),
        models=networks,
        variable=variable,
        terms=terms,
        optimizer=build_part("optimizer", page.optimizer, at="optimizer", registry=registry),
        players=players,
        stages=_stages(page, inputs[0], registry),
        seeds=seeds,
        device=device,
        memory=int(page.memory * 2**30),
    )


def _networks(
    page: Page, given: dict[str, Any], registry: Registry, device: torch.device
) -> dict[str, Model]:
    """The page's networks, replaced by those given from Python or beside them, on the device."""
    # A network of the page that is replaced is not built: its weights may not even be there.
    networks = {
        name: as_model(given.pop(name), name)
        if name in given
        else build_model(node, name, registry)
        for name, node in page.models.items()
    }
    networks.update({name: as_model(network, name) for name, network in given.items()})
    for network in networks.values():
        network.to(device)
    return networks


def _stages(page: Page, inputs: Inputs, registry: Registry) -> list[Stage]:
    stages, side = [], None
    for key, stage in page.in_order():
        side = stage.size or side
        if side is None:
            raise RecipeError(f"stages.{key}.size: missing; the first stage must have one.")
        stages.append(_stage(key, stage, side, page, inputs, registry))
    return stages


def _stage(
    key: str, stage: StagePage, side: int, page: Page, inputs: Inputs, registry: Registry
) -> Stage:
    at = f"stages.{key}"
    kinds: tuple[PartKind, ...] = ("optimizer", "variable")
    parts = {
        kind: build_part(kind, node, at=f"{at}.{kind}", registry=registry)
        for kind in kinds
        if (node := stage_part(kind, getattr(stage, kind), page)) is not None
    }
    optimizer = parts.get("optimizer")
    if optimizer is not None:
        try:
            optimizer.check(stage.steps)
        except RecipeError as error:
            raise RecipeError(f"{at}.{error}") from None
    return Stage(inputs.size(side, page.fit), stage.steps, **parts, name=key)


def stage_part(kind: PartKind, node: Node | None, page: Page) -> Node | None:
    """A stage's `{type: tuned}` without an inner variable is around the recipe's own."""
    if kind == "variable" and node is not None and set(node) == {"type"}:
        return {**node, "inner": page.variable}
    return node


def build_model(node: Node | str, name: str, registry: Registry) -> Model:
    """The model that a page describes.

    Raises:
        RecipeError: It is unknown, or an option is wrong; the message starts with the path.
        WeightsError: Its weights cannot be had.
    """
    at = f"models.{name}"
    return as_model(build_part("model", model_node(node, registry), at=at, registry=registry), name)


def as_model(network: Any, name: str) -> Model:
    """A network that says what it is; a bare `nn.Module` is taken for a classifier.

    Raises:
        RecipeError: It is no network.
    """
    if not isinstance(network, torch.nn.Module):
        raise RecipeError(
            f"models.{name}: expected a network, an `nn.Module`, got {type(network).__name__}."
        )
    return network if isinstance(network, Model) else Classifier(network)


def model_node(node: Node | str, registry: Registry) -> Node:
    """A model given by one word: a part without options, or what `open_classifier` takes."""
    if not isinstance(node, str):
        return node
    if node in registry.names("model"):
        return {"type": node}
    return {"type": "classifier", "name": node}


def _scene(
    inputs: Sequence[Inputs],
    size: tuple[int, int],
    *,
    fit: Fit,
    device: torch.device,
    precision: Precision,
) -> Scene:
    """What the images of a stage are compared with, one row for each of several photographs."""
    # Images of one photograph share its inputs, which are then fitted once; and where all images
    # are of one photograph, one row serves a batch of any size.
    fitted: dict[int, Inputs] = {id(each): each.at(size, fit) for each in inputs}
    several = len(fitted) > 1
    rows = joined([fitted[id(each)] for each in inputs] if several else [*fitted.values()])
    numbers = {key: number for number, key in enumerate(fitted)}
    return Scene(
        size,
        rows.map(lambda tensor: tensor.to(device)),
        precision=precision,
        owners=tuple(numbers[id(each)] for each in inputs) if several else (),
    )


def check_inputs(page: Page, inputs: Inputs) -> None:
    """Whether a run has what the page needs.

    Raises:
        RecipeError: It lacks something.
    """
    lacking = [n for n, spec in page.specs.items() if not spec.optional and n not in inputs]
    if lacking:
        raise RecipeError(
            f"Recipe {page.name!r} needs {' and '.join(lacking)}; give "
            f"{', '.join(map(_flag, lacking))} "
            f"(from Python: {', '.join(f'{name}=…' for name in lacking)})."
        )


def _flag(name: str) -> str:
    return f"--{name} FILE" if name in SHORT else f"--input {name}=FILE"


def _term(name: str, page: Page, registry: Registry) -> Term:
    line = page.objective[name]
    at = f"objective.{name}"
    known = [key for key, _ in page.in_order()]
    for stage in line.stages:
        if stage not in known:
            raise RecipeError(
                f"{at}.stages: there is no stage {stage!r}; stages here: {', '.join(known)}."
            )
    objective = build_part(
        "objective",
        {"type": line.type, **line.options},
        at=at,
        registry=registry,
        also=tuple(TermPage.model_fields),
    )
    return Term(
        objective,
        weight=line.weight,
        region=line.looks_at,
        of=line.of,
        start=line.start,
        stop=line.stop,
        min_size=line.min_size,
        max_size=line.max_size,
        stages=line.stages,
        name=name,
    )


def _check_names(term: Term, models: Mapping[str, Any], players: Mapping[str, Any]) -> None:
    """Every model and player a term asks for exists, and the layers it reads do."""
    at = f"objective.{term.name}"
    try:
        needs = term.objective.needs(models)
        for model, layers in needs.items():
            if model not in models:
                known = ", ".join(models) or "none"
                raise RecipeError(f"model: no model {model!r} in `models`; known: {known}.")
            if not isinstance(models[model], Network):
                raise RecipeError(f"model: {model!r} is no network that looks at images.")
            models[model].resolve([layer for layer in layers if layer != "logits"])
        for player in term.objective.players():
            if player not in players:
                known = ", ".join(players) or "none"
                raise RecipeError(f"player: no player {player!r} in `players`; known: {known}.")
    except InvertkitError as error:
        raise RecipeError(f"{at}.{error}" if _pathed(error) else f"{at}: {error}") from None


def _pathed(error: Exception) -> bool:
    return str(error).startswith(("model: ", "player: "))


def build_part(
    kind: PartKind, node: Any, *, at: str, registry: Registry, also: Sequence[str] = ()
) -> Any:
    """The part that `{type: name, **options}` describes.

    Args:
        kind: Which table.
        node: Data of the page.
        at: Path to it, for messages.
        registry: The parts that exist.
        also: Keys that may stand beside the options, for suggestions.

    Raises:
        RecipeError: Not of that form, unknown, or with wrong options; the message starts with `at`.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("type"), str):
        raise RecipeError(
            f"{at}: expected a part such as {{type: {registry.names(kind)[0]}}}, got {node!r:.60}."
        )
    make = registry.load(kind, node["type"], at=at)
    if isinstance(make, FromPython):
        return make.copy(at=at)
    options = {key: value for key, value in node.items() if key != "type"}
    schema = signature_model(make)
    try:
        checked = schema.model_validate(options)
    except ValidationError as error:
        prefix = at.split(".")
        raise RecipeError("\n".join(_explained(error, schema, prefix, also))) from None
    # Only what the page says: a part's defaults are its own affair.
    values = {name: getattr(checked, name) for name in checked.model_fields_set}
    for name, role in nested_roles(make).items():
        if name in values:
            values[name] = build_part(role, values[name], at=f"{at}.{name}", registry=registry)
    try:
        return make(**values)
    except InvertkitError as error:
        raise type(error)(f"{at}: {error}") from None
    # A constructor's own complaint is about the page, whoever wrote the part.
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{at}: {error}") from None


def _explained(
    error: ValidationError, schema: type[BaseModel], prefix: list[str], also: Sequence[str]
) -> list[str]:
    sentences = explain(error, schema, also=also)
    return [f"{'.'.join(prefix)}.{sentence}" for sentence in sentences]


@functools.cache
def signature_model(make: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of a part's keyword arguments: the signature is the schema."""
    parameters = inspect.signature(make).parameters
    target = make.__init__ if inspect.isclass(make) else make
    hints = get_type_hints(target, include_extras=True)
    made_by = {
        field.name: Field(default_factory=field.default_factory)
        for field in (dataclasses.fields(make) if dataclasses.is_dataclass(make) else ())
        if field.default_factory is not dataclasses.MISSING
    }
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(name, Any)
        # A part inside a part is data here, and is built from its own signature afterwards.
        if _role(hint) is not None:
            hint = Node
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hint, made_by.get(name, default))
    config = ConfigDict(
        extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
    )
    model = create_model(getattr(make, "__name__", "part"), __config__=config, **fields)
    return cast("type[BaseModel]", model)


def _role(hint: Any) -> PartKind | None:
    """The kind of part that an option takes, also where it takes only some of that kind."""
    if not inspect.isclass(hint):
        return None
    return next((kind for role, kind in _ROLES.items() if issubclass(hint, role)), None)


def nested_roles(make: Callable[..., Any]) -> dict[str, PartKind]:
    """Arguments that are parts themselves."""
    target = make.__init__ if inspect.isclass(make) else make
    hints = get_type_hints(target)
    hints.pop("return", None)  # a function that makes a part has one too
    return {name: role for name, hint in hints.items() if (role := _role(hint)) is not None}
