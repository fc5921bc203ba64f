"""The shape of a recipe page, and what is said of a page that does not have it.

Nothing here imports torch: listing and showing recipes takes milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, final

import yaml
from annotated_types import Ge, Gt, MinLen
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
)

from invertkit.core.images.specs import COVERING, SHORT, InputSpec, KindWord, lead
from invertkit.core.regions import MaskRegion, Region, RegionWord
from invertkit.core.schedules import Schedule
from invertkit.core.suggestions import did_you_mean
from invertkit.errors import RecipeError
from invertkit.recipe.faults import explain

VERSION: Final = 1

Node = dict[str, Any]
"""A part: `type` and its options. The options are checked against the part's own signature."""


class _Strict(BaseModel):
    # A misspelt key must not pass for an option that was left out.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@final
class InputPage(_Strict):
    """What one input is."""

    kind: KindWord = Field(
        "image", description="What it is; a word instead of the mapping means this."
    )
    of: str = Field("", description="The image that a mask or label map lies on; the first image.")
    optional: bool = Field(False, description="A run may do without it.")


@final
class RegionPage(_Strict):
    """Where a term looks, by the names of masks; a name left out means everywhere."""

    result: str = Field("", description="Mask in the result, of the size of the first image.")
    reference: str = Field("", description="Mask in the image that the term compares with.")


# Told by its form, a union complains of the member that was meant. Else pydantic tries each, and a
# misspelt key of a mapping comes back as the fault of not being a word.
def _form(node: Any) -> str:
    return "a mapping" if isinstance(node, Mapping | BaseModel) else "a word"


RegionPages = Annotated[
    Annotated[RegionWord, Tag("a word")] | Annotated[RegionPage, Tag("a mapping")],
    Discriminator(_form),
]


@final
class TermPage(BaseModel):
    """One line of `objective`: where the term stands in the recipe, and its objective's options."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    type: str = Field(description="Name of the objective.")
    weight: Schedule = Field(1.0, description="Number or schedule over the steps of the run.")
    of: str = Field("", description="The image input that it compares with; the first one.")
    region: RegionPages = Field(
        "everywhere", description="Where the term looks: a word, or masks by name."
    )
    start: Annotated[int, Ge(0)] = Field(0, description="First step of the run at which it counts.")
    stop: Annotated[int, Ge(1)] | None = Field(None, description="First step without it.")
    min_size: Annotated[int, Ge(0)] = Field(0, description="Smallest stage with it, in pixels.")
    max_size: Annotated[int, Ge(1)] | None = Field(None, description="Largest stage with it.")
    stages: tuple[str, ...] = Field((), description="Names of the stages with it; all if empty.")

    @property
    def looks_at(self) -> Region:
        """Its region, as scenes know it."""
        if not isinstance(self.region, RegionPage):
            word: RegionWord = self.region
            return word
        return MaskRegion(self.region.result, self.region.reference)

    @property
    def options(self) -> Node:
        """What belongs to the objective."""
        return dict(self.model_extra or {})


@final
class StagePage(_Strict):
    """So many steps at one size."""

    size: Annotated[int, Ge(1)] | None = Field(
        default=None, description="Side in pixels; see `fit`. That of the stage before if left out."
    )
    steps: Annotated[int, Ge(1), Field(description="Steps of the optimizer.")]
    optimizer: dict[str, Any] | None = Field(
        default=None, description="Of this stage, instead of the recipe's."
    )
    variable: dict[str, Any] | None = Field(
        default=None,
        description="Of this stage; takes over the tensors of the stage before by name.",
    )


@final
class ChoicePage(_Strict):
    """Named overlays of which one is taken, such as the budgets `preview` and `full`."""

    default: str | dict[str, str] = Field(
        description="An option, or one for `cpu` and one for `cuda`."
    )
    options: Annotated[dict[str, dict[str, Any] | None], MinLen(1)]


def _form_of_stages(node: Any) -> str:
    return "named_stages" if isinstance(node, Mapping) else "listed_stages"


def _form_of_inputs(node: Any) -> str:
    return "named_inputs" if isinstance(node, Mapping) else "listed_inputs"


Stages = Annotated[
    Annotated[tuple[StagePage, ...], MinLen(1), Tag("listed_stages")]
    | Annotated[dict[str, StagePage], MinLen(1), Tag("named_stages")],
    Discriminator(_form_of_stages),
]


InputPages = Annotated[
    Annotated[tuple[Literal["image", "mask", "target"], ...], Tag("listed_inputs")]
    | Annotated[
        dict[
            str,
            Annotated[
                Annotated[KindWord, Tag("a word")] | Annotated[InputPage, Tag("a mapping")],
                Discriminator(_form),
            ],
        ],
        Tag("named_inputs"),
    ],
    Discriminator(_form_of_inputs),
]


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
    inputs: InputPages = Field(
        (),
        description="What a run is given, by name: a kind, or a mapping. The list `[image, mask, "
        "target]` is a photograph and masks of it.",
    )
    demo: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="What to take where no input is given: names of pictures that the package "
        "finds, such as `flower`, or files beside this page.",
    )
    fit: Literal["stretch", "crop", "keep"] = Field(
        "stretch",
        description="How photographs meet a stage's size: `stretch` to its square, `crop` the "
        "central square, or `keep` the shape with as many pixels as the square.",
    )
    models: dict[str, Node | str] = Field(
        default_factory=dict,
        description="Frozen networks by name: a part, or `embedded`, the name of a robust "
        "classifier such as `resnet50-l2-eps0.05`, or of one of timm's.",
    )
    variable: Node = Field(description="What is optimised.")
    objective: Annotated[dict[str, TermPage], MinLen(1)] = Field(description="Terms by name.")
    optimizer: Node = Field(description="How it is searched.")
    players: dict[str, Node] = Field(default_factory=dict, description="Networks that learn.")
    stages: Stages = Field(
        description="In order: a list, or stages by name, of which an overlay can change one or "
        "remove it with null."
    )
    finish: Node | None = Field(
        None,
        description="What is made of the result when every step is taken, such as a collage; "
        "nothing if left out.",
    )
    result: Literal["best", "last"] = Field("last", description="Which image is the result.")
    memory: Annotated[float, Gt(0)] = Field(
        8.0,
        description="GiB that one backward may save; larger populations and batches of recipes "
        "without players are evaluated in chunks, with the same result but for rounding.",
    )
    choices: dict[str, ChoicePage] = Field(default_factory=dict, description="Named overlays.")
    chosen: dict[str, str] = Field(default_factory=dict, description="Which overlays were taken.")
    extends: str | None = Field(None, description="Recipe to start from: a name or a path.")

    @property
    def specs(self) -> dict[str, InputSpec]:
        """What each input is, in the page's order."""
        return specs_of(self.inputs)

    def in_order(self) -> list[tuple[str, StagePage]]:
        """The stages with their keys on the page: numbers in a list, names in a mapping."""
        if isinstance(self.stages, Mapping):
            return list(self.stages.items())
        return [(str(index), stage) for index, stage in enumerate(self.stages)]

    @field_validator("objective", "players", "models", "stages", "inputs", mode="before")
    @classmethod
    def _without_removed(cls, value: Any) -> Any:
        """A term, player, model, stage or input set to null by an overlay is gone."""
        if isinstance(value, Mapping):
            return {name: node for name, node in value.items() if node is not None}
        return value


def validate(raw: Node) -> Page:
    """The page, checked.

    Args:
        raw: Plain data with extends and choices merged.

    Raises:
        RecipeError: One sentence a fault, each starting with the path to it.
    """
    page: Page = checked(Page, raw)
    faults = [*_faults_of_inputs(page), *_faults_of_terms(page)]
    if faults:
        raise RecipeError("\n".join(faults))
    return page


def specs_of(inputs: Any) -> dict[str, InputSpec]:
    """What each of a page's inputs is, in either form: a mask lies on the first image unless told.

    Example:
        >>> specs_of(("image", "mask"))["mask"]
        InputSpec(kind='mask', of='image', optional=False)
    """
    if not isinstance(inputs, Mapping):
        return {name: SHORT[name] for name in inputs}
    specs = {
        name: InputSpec(page.kind, page.of, page.optional)
        if isinstance(page, InputPage)
        else InputSpec(page)
        for name, page in inputs.items()
    }
    first = lead(specs)
    return {
        name: replace(spec, of=first) if spec.kind in COVERING and not spec.of else spec
        for name, spec in specs.items()
    }


def _faults_of_inputs(page: Page) -> Iterator[str]:
    specs = page.specs
    images = [name for name, spec in specs.items() if spec.kind == "image"]
    for name, spec in specs.items():
        if not _INPUT.match(name) or name == "name":
            yield (
                f"inputs.{name}: expected a name in small letters, digits and _, such as `style`."
            )
        if spec.of and spec.kind not in COVERING:
            yield f"inputs.{name}.of: only masks and labels lie on an image, not {spec.kind}."
        elif spec.of and spec.of not in images:
            yield f"inputs.{name}.of: {_no_image(spec.of, images)}"
    for name in page.demo:
        if name not in specs:
            yield (
                f"demo.{name}: there is no input {name!r}.{did_you_mean(name, specs)} "
                f"Inputs here: {', '.join(specs) or 'none'}."
            )


def _faults_of_terms(page: Page) -> Iterator[str]:
    specs = page.specs
    images = [name for name, spec in specs.items() if spec.kind == "image"]
    masks = [name for name, spec in specs.items() if spec.kind == "mask"]
    for term, line in page.objective.items():
        if line.of and line.of not in images:
            yield f"objective.{term}.of: {_no_image(line.of, images)}"
        if isinstance(line.region, RegionPage):
            for place, mask in line.region:
                if mask and mask not in masks:
                    yield (
                        f"objective.{term}.region.{place}: there is no mask {mask!r}."
                        f"{did_you_mean(mask, masks)} Masks here: {', '.join(masks) or 'none'}."
                    )


_INPUT: Final = re.compile(r"[a-z][a-z0-9_]*\Z")


def _no_image(name: str, images: Sequence[str]) -> str:
    return (
        f"there is no image {name!r}.{did_you_mean(name, images)} "
        f"Images here: {', '.join(images) or 'none'}."
    )


def checked(kind: type[Any], raw: Any, *, at: tuple[str | int, ...] = ()) -> Any:
    """`raw` as a page model; see `validate`."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise RecipeError("\n".join(explain(error, kind, at=at))) from None


def dump_yaml(raw: Node) -> str:
    """A page as text, keys in the order of the format."""
    order = list(Page.model_fields)
    ordered = {key: raw[key] for key in order if key in raw}
    ordered.update({key: value for key, value in raw.items() if key not in ordered})
    text: str = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)
    return text
