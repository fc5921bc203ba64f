from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import invertkit as package
from invertkit.errors import InvertkitError, RecipeError
from invertkit.models.generators.conditional import ConditionalEncoder
from invertkit.models.generators.encoder import Encoder
from invertkit.recipe.build import signature_model
from invertkit.recipe.overlay import (
    choose,
    merge,
    override,
    read_layers,
    read_raw,
    recipe_names,
    recipes_folder,
)
from invertkit.recipe.page import Page, TermPage, dump_yaml, validate
from invertkit.recipe.registry import Registry, snake_case
from invertkit.recipe.schema import make_schema, shipped_schema
from invertkit.recipe.tables import KINDS
from invertkit.recipe.yaml_text import line_of, naming_lines, parse_yaml
from invertkit.runs.dry_run import dry_run
from invertkit.runs.job import Job
from invertkit.runs.prepare import prepare_job
from tests.faces import invertkit, red_on_green, scene_tensors, tiny_page, write_inputs, write_page
from tests.helpers import tiny_classifier, tiny_generator, tiny_perceptual
from tests.latents import zeta_space

RECIPES = recipe_names()


def options(recipe: str) -> Iterator[dict[str, str]]:
    """Every combination of two choices; of more, every option beside the first of the others."""
    choices = read_raw(recipe).get("choices", {})
    every = itertools.product(*(choice["options"] for choice in choices.values()))
    firsts = {name: next(iter(choice["options"])) for name, choice in choices.items()}
    for picked in every:
        wanted = dict(zip(choices, picked, strict=True))
        if len(choices) < 3 or sum(wanted[name] != firsts[name] for name in wanted) < 2:
            yield wanted


COMBINATIONS = [(recipe, wanted) for recipe in RECIPES for wanted in options(recipe)]


# ---------------------------------------------------------------------- the pages of the package


def test_the_recipes_that_the_package_carries() -> None:
    assert set(RECIPES) >= {
        "blend", "collage",
        "deep-dream", "deepinversion", "imagine", "imagine-position", "magic", "magic-paper",
        "magic-swift", "patch-synthesis", "project", "project-adam", "project-basincma",
        "project-cma",
        "project-cma-adam", "project-lbfgs", "project-manifold", "project-sampled",
    }  # fmt: skip
    assert list(recipes_folder().glob("*")) == list(recipes_folder().glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_page_is_valid_for_every_device(recipe: str, device: str) -> None:
    page = validate(choose(read_raw(recipe), {}, device=device))
    assert page.name == recipe
    assert page.source
    assert page.summary.endswith((".", ")"))
    assert not page.choices
    for wanted in options(recipe):
        assert validate(choose(read_raw(recipe), wanted, device=device)).chosen == wanted


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_page_names_its_source_in_its_header(recipe: str) -> None:
    text = (recipes_folder() / f"{recipe}.yaml").read_text(encoding="utf-8")
    header = text[: text.index("\n\n")] if "\n\n" in text else text
    first = header.split("\nversion:")[0].split("\nextends:")[0]
    assert first.startswith("# ")
    source = read_raw(recipe)["source"]
    family = source.split(",")[0].split(" et al.")[0].split(" ")[0].removesuffix("'s")
    assert family in first or "our own" in first or "reconstruction" in first


def test_a_preview_is_the_default_on_a_cpu_and_the_whole_on_a_gpu() -> None:
    for recipe in RECIPES:
        if "budget" not in read_raw(recipe).get("choices", {}):
            continue
        chosen = {d: choose(read_raw(recipe), {}, device=d)["chosen"] for d in ("cpu", "cuda")}
        assert chosen["cpu"]["budget"] == "preview"
        assert chosen["cuda"]["budget"] == "full"
        notes = read_raw(recipe)["notes"]
        assert {"budget.preview", "budget.full"} <= set(notes)


def tiny_projection(recipe: str, wanted: dict[str, str]) -> Job:
    """A projection on 16 pixels, with small networks."""
    image, mask, _ = red_on_green()
    generator = tiny_generator(classes=5)
    encode = ConditionalEncoder(latent=5, embedding=4, widths=(8, 8, 8))
    judge = tiny_classifier(torch.float32, seed=1)
    judge.default_layers = ("layer2",)
    stages = read_raw(recipe)["stages"]
    overrides = [f"stages.{name}.size=16" for name in stages if name != "transform"]
    if "transform" in stages and wanted.get("transform") != "none":
        overrides.append("stages.transform.size=16")
    if wanted.get("class") == "given":
        inner = "inner." if "inner" in read_raw(recipe)["variable"] else ""
        overrides.append(f"variable.{inner}label=2")
    return prepare_job(
        recipe,
        image=image,
        mask=mask,
        choices=wanted,
        overrides=overrides,
        models={
            "classifier": tiny_classifier(torch.float32),
            "perceptual": tiny_perceptual(torch.float32),
            "generator": generator,
            **(
                {"encoder": Encoder(encode, gives="latent", takes="embedding", size=32)}
                if wanted.get("encoder") == "with" or wanted.get("start") == "encoder"
                else {}
            ),
            **({"zeta": zeta_space().float()} if wanted.get("space") == "zeta" else {}),
            **({"discriminator": judge} if "discriminator" in read_raw(recipe)["models"] else {}),
        },
        device="cpu",
    )


def tiny_collage(recipe: str) -> Job:
    """A recipe that makes something of a projection, on 16 pixels, with small networks."""
    image, mask, _ = red_on_green()
    encode = ConditionalEncoder(latent=5, embedding=4, widths=(8, 8, 8))
    more = (
        {"references": [image], "masks": [mask]} if recipe == "blend" else {"layout": mask.long()}
    )
    return prepare_job(
        recipe,
        image=image,
        classes="1,2",
        **more,
        overrides=["stages=[{size: 16, steps: 2}]"],
        models={
            "generator": tiny_generator(classes=5),
            "discriminator": tiny_classifier(torch.float32),
            "encoder": Encoder(encode, gives="latent", takes="embedding", size=32),
            "perceptual": tiny_perceptual(torch.float32),
        },
        device="cpu",
    )


def tiny_job(recipe: str, wanted: dict[str, str], *changes: str, sizes: tuple[int, ...]) -> Job:
    """A recipe on 48 pixels, with small networks."""
    raw = choose(read_raw(recipe), wanted, device="cpu")
    stages = ", ".join(f"{{size: {size}, steps: 2}}" for size in sizes)
    overrides = [f"stages=[{stages}]", *changes]
    players = raw.get("players") or {}
    if players.get("critic"):
        overrides += ["players.critic.start=0", "players.critic.every=1"]
        overrides += ["players.critic.widths=[4, 4, 4, 4]"]
    if players.get("segmenter"):
        overrides += ["players.segmenter.width=4"]
        if players["segmenter"].get("when") == "before":
            overrides += ["players.segmenter.updates=8"]
    if "size" in raw["variable"].get("inner", {}):
        overrides += [f"variable.inner.size={sizes[-1]}"]
    if "layer" in raw["objective"].get("dream", {}):
        overrides += ["objective.dream.layer=layer3"]
    if "position" in raw["objective"]:
        overrides += ["objective.position.layer=layer3"]
    if "style" in raw["objective"]:
        overrides += ["objective.style.layers=[default]", "objective.style.weights=[]"]
        overrides += ["objective.content.layers=[layer2]"]
    image, mask, target = red_on_green()
    given_ = {"mask": mask, "target": target}
    classifiers = {
        name: tiny_classifier(torch.float32, seed=i) for i, name in enumerate(raw["models"])
    }
    return prepare_job(
        recipe,
        **{name: given_.get(name, image) for name in raw["inputs"]},
        choices=wanted,
        overrides=overrides,
        models=classifiers,
        device="cpu",
    )


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    COMBINATIONS,
    ids=[f"{recipe} {' '.join(wanted.values())}" for recipe, wanted in COMBINATIONS],
)
def test_every_page_takes_two_steps_of_every_stage(recipe: str, wanted: dict[str, str]) -> None:
    if recipe in ("blend", "collage"):
        job = tiny_collage(recipe)
        assert dry_run(job) == 2 * len(job.page.stages)
    elif recipe.startswith("project"):
        job = tiny_projection(recipe, wanted)
        assert dry_run(job) == 2 * len(job.page.stages)
    else:
        job = tiny_job(recipe, wanted, sizes=(32, 48))
        assert dry_run(job) == 4
    problem = job.problem((0,))
    assert {term.name for term in problem.terms} == set(job.page.objective)


def test_the_embedded_classifier_serves_the_preview_of_the_demonstration() -> None:
    job = prepare_job("magic", device="cpu", overrides=["stages=[{size: 48, steps: 1}]"])
    assert dry_run(job, steps=1) == 1
    assert any("demonstration" in sentence for sentence in job.sentences)
    assert any(
        sentence.startswith("budget: preview, since this runs on cpu: the preview, 128 pixels")
        and sentence.endswith("For the others: --budget full or --budget standard.")
        for sentence in job.sentences
    )
    assert any(
        sentence.startswith("mode: synthesis, by default.") and "--choose mode=location" in sentence
        for sentence in job.sentences
    )
    said = prepare_job("magic", device="cpu", choices={"mode": "location"}).sentences
    assert any(sentence.startswith("mode: location, as asked") for sentence in said)


@pytest.mark.parametrize(
    ("word", "made"),
    [
        ("embedded", "the embedded EfficientNet-Lite0 (1000 classes, "),
        ("resnet51-l2-eps1", "models.net: name: unknown robust classifier 'resnet51-l2-eps1'"),
        ("resnet5x", "models.net: name: timm has no classifier 'resnet5x'"),
    ],
)
def test_a_model_may_be_one_word(tmp_path: Path, word: str, made: str) -> None:
    page = write_page(tmp_path, inputs=[], fit=None, models={"net": word})
    page.write_text(page.read_text().replace("region: background", "region: everywhere"))
    try:
        said = prepare_job(page, device="cpu").problem((0,)).models["net"].description
    except RecipeError as error:
        said = str(error).replace(f" (line {line_of(page.read_text(), ['models', 'net'])})", "")
    assert said.startswith(made)


def test_an_object_of_a_few_pixels_is_seen_at_every_stage_or_the_run_is_refused() -> None:
    image, mask, _ = red_on_green()
    mask = torch.zeros_like(mask)
    mask[..., 10:13, 10:13] = 1

    def job(first: int) -> Job:
        return prepare_job(
            "magic", image=image, mask=mask, target=mask.roll(20, 3), device="cpu",
            overrides=[f"stages=[{{size: {first}, steps: 2}}, {{size: 32, steps: 2}}]"],
        )  # fmt: skip

    assert dry_run(job(24)) == 4
    with pytest.raises(InvertkitError, match=r"mask: has no pixel at stage '0'.* at least 24"):
        job(16)


def test_a_loss_that_is_not_finite_is_told_by_a_dry_run() -> None:
    job = tiny_job("deep-dream", {"budget": "full"}, "objective.smooth.weight=1e308", sizes=(16,))
    with pytest.raises(InvertkitError, match="The loss is not finite at step 1; look at: "):
        dry_run(job, steps=8)


def test_a_resolved_page_gives_the_same_picture(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path)
    small = ["--set", "stages=[{size: 16, steps: 2}, {size: 20, steps: 2}]"]
    shown = invertkit("show", "imagine", "--budget", "preview", *small)
    assert shown.code == 0
    page = tmp_path / "resolved.yaml"
    page.write_text(shown.out)
    for name, arguments in (
        ("original", ["imagine", "--budget", "preview", *small]),
        ("resolved", [page]),
    ):
        answer = invertkit(
            "run", *arguments, *inputs[:2], "--device", "cpu", "-q", "--out", tmp_path / name
        )
        assert answer.code == 0, answer
    # a page that was shown, run and written is run again
    again = invertkit(
        "run", tmp_path / "original" / "recipe.yaml", *inputs[:2], "--device", "cpu", "-q",
        "--out", tmp_path / "again",
    )  # fmt: skip
    assert again.code == 0, again
    pictures = {
        (tmp_path / name / "images" / "seed-0-last.png").read_bytes()
        for name in ("original", "again")
    }
    assert len(pictures) == 1
    first, second = (
        package.run(page_, image=inputs[1], device="cpu", overrides=overrides, budget=budget)
        for page_, overrides, budget in (
            ("imagine", [small[1]], "preview"),
            (page, [], None),
        )
    )
    assert torch.equal(first.images, second.images)


# ---------------------------------------------------------------------- YAML without traps


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("2023-02-01", "2023-02-01"),
        ("'1'", "1"),
        ("12", 12),
        ("[1, 2.0]", [1, 2.0]),
        ("inf", float("inf")),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    read = parse_yaml(text, where="here")
    assert read == value
    assert type(read) is type(value)


def test_lines_of_values_are_found() -> None:
    text = "a: 1\nb:\n  c: 2\n  d:\n    - x\n    - {y: 3}\n"
    assert line_of(text, ["a"]) == 1
    assert line_of(text, ["b", "c"]) == 3
    assert line_of(text, ["b", "d", 1, "y"]) == 6
    assert line_of(text, ["b", "d", 7]) == 4
    assert line_of(text, ["b", "missing"]) == 2
    assert line_of(text, ["a", "below"]) == 1
    assert line_of(text, ["missing"]) is None
    assert line_of("a: [", ["a"]) is None


def test_a_line_is_named_only_where_the_page_itself_says_it() -> None:
    text = "a: 1\nb: {c: 2}\n"

    def told(sentence: str, resolved: Any) -> str:
        with pytest.raises(RecipeError) as fault, naming_lines(text, resolved):
            raise RecipeError(sentence)
        return str(fault.value)

    own = {"a": 1, "b": {"c": 2}}
    assert told("a: wrong.", own) == "a (line 1): wrong."
    assert told("b.c: wrong.\na: too.", own) == "b.c (line 2): wrong.\na (line 1): too."
    assert told("b.d: missing.", own) == "b.d (line 2): missing."
    assert told("b.c: wrong.", {"a": 1, "b": {"c": 3}}) == "b.c: wrong."
    assert told("No path here: nothing.", own) == "No path here: nothing."
    assert told("x: missing.", own) == "x: missing."
    with pytest.raises(RecipeError, match=r"^a: wrong$"), naming_lines(None, own):
        raise RecipeError("a: wrong")


# ---------------------------------------------------------------------- laws

words = st.text("abcxyz_", min_size=1, max_size=4)
leaves = (
    st.integers(-99, 99)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
    | st.text("abc onf", max_size=5)
)
branches = leaves | st.lists(leaves, max_size=3) | st.dictionaries(words, leaves, max_size=3)
trees = st.dictionaries(
    words,
    branches | st.lists(branches, max_size=3) | st.dictionaries(words, branches, max_size=3),
    min_size=1,
    max_size=4,
)


def paths(node: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    below = (
        ((str(key), value) for key, value in node.items())
        if isinstance(node, dict)
        else ((str(i), value) for i, value in enumerate(node))
        if isinstance(node, list)
        else ()
    )
    for key, value in below:
        yield (*at, key)
        yield from paths(value, (*at, key))


def value_at(node: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        node = node[int(key)] if isinstance(node, list) else node[key]
    return node


@given(tree=trees, value=leaves | st.lists(leaves, max_size=2), data=st.data())
def test_what_is_set_is_read_back_and_nothing_else_changes(
    tree: dict[str, Any], value: Any, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(list(paths(tree))))
    before = copy.deepcopy(tree)
    changed = override(tree, [f"{'.'.join(path)}={json.dumps(value)}"])
    assert tree == before
    assert value_at(changed, path) == value
    for other in paths(tree):
        if other[: len(path)] != path and path[: len(other)] != other:
            assert value_at(changed, other) == value_at(tree, other)


@given(tree=trees, key=words)
def test_a_new_key_may_be_set_in_any_mapping(tree: dict[str, Any], key: str) -> None:
    assert override(tree, [f"new{key}=3"]) == {**tree, f"new{key}": 3}
    assert override(tree, ["a=1", "a=2"])["a"] == 2


@given(tree=trees)
def test_merging_nothing_changes_nothing(tree: dict[str, Any]) -> None:
    assert merge(tree, {}) == tree
    assert merge({}, tree) == tree
    assert merge(tree, tree) == tree


@given(a=trees, b=trees)
def test_merging_twice_is_merging_once_and_what_is_laid_on_wins(
    a: dict[str, Any], b: dict[str, Any]
) -> None:
    before = copy.deepcopy((a, b))
    once = merge(a, b)
    assert merge(once, b) == once
    assert set(once) == {*a, *b}
    assert (a, b) == before
    for path in paths(b):
        if not isinstance(value := value_at(b, path), dict):
            assert value_at(once, path) == value


def test_a_part_whose_type_changes_is_replaced_whole() -> None:
    base = {"type": "total_variation", "form": "l2", "weight": 3, "start": 5}

    def term(over: dict[str, Any]) -> Any:
        return merge({"objective": {"x": base}}, {"objective": {"x": over}})["objective"]["x"]

    assert term({"type": "norm"}) == {"type": "norm", "weight": 3, "start": 5}
    assert term({"type": "total_variation", "weight": 1})["form"] == "l2"
    assert merge({"type": "adam", "lr": 1}, {"type": "lbfgs"}) == {"type": "lbfgs"}
    copied = merge(base, {"type": "norm", "space": ["x"]})
    copied["space"].append("y")
    assert "space" not in base


def test_choices_are_laid_on_in_the_order_of_the_page() -> None:
    raw = {
        "name": "x",
        "a": 0,
        "b": 0,
        "choices": {
            "first": {"default": "one", "options": {"one": {"a": 1}, "two": None}},
            "second": {
                "default": {"cpu": "small", "cuda": "big"},
                "options": {"small": {"b": 1}, "big": {"a": 9, "b": 2}},
            },
        },
    }

    def chosen(device: str, **wanted: str) -> tuple[int, int]:
        page = choose(raw, wanted, device=device)
        return page["a"], page["b"]

    assert chosen("cpu") == (1, 1)
    assert chosen("cuda") == (9, 2)
    assert chosen("cpu", first="two") == (0, 1)
    assert chosen("cpu", first="two", second="big") == (9, 2)
    resolved = choose(raw, {}, device="cpu")
    assert resolved["chosen"] == {"first": "one", "second": "small"}
    assert "choices" not in resolved
    assert choose(resolved, {}, device="cuda") == resolved


def test_what_a_page_says_outweighs_every_option_of_the_page_it_starts_from(
    tmp_path: Path,
) -> None:
    page = tmp_path / "mine.yaml"
    page.write_text(
        "extends: magic\nobjective:\n  nearest: {weight: 7}\n"
        "stages:\n  - {size: 16, steps: 3}\n"
        "choices:\n  budget:\n    options:\n      preview:\n        result: best\n"
    )
    for budget in ("preview", "full"):
        made = choose(read_layers(page), {"budget": budget}, device="cpu")
        assert made["stages"] == [{"size": 16, "steps": 3}]
        assert made["objective"]["nearest"]["weight"] == 7
        assert made["result"] == ("best" if budget == "preview" else "last")


def test_an_option_holds_the_method_of_the_page_that_it_extends() -> None:
    preview = choose(read_raw("magic"), {"budget": "preview"}, device="cpu")
    patches = read_raw("patch-synthesis")
    for key in ("variable", "models", "optimizer", "stages", "fit", "result"):
        assert preview[key] == patches[key]
    counted = {name: term for name, term in preview["objective"].items() if term is not None}
    assert counted.pop("patches") == {**patches["objective"]["patches"], "start": 0}
    assert counted == {name: patches["objective"][name] for name in counted}
    assert counted.keys() | {"patches"} == patches["objective"].keys()
    assert preview["name"] == "magic"  # what a page says of itself stays
    assert preview["source"] != patches["source"]


@pytest.mark.parametrize("mode", ["synthesis", "location"])
def test_the_standard_budget_of_magic_has_the_released_terms_and_holds_nothing(mode: str) -> None:
    full, standard = (
        choose(read_raw("magic"), {"budget": budget, "mode": mode}, device="cpu")
        for budget in ("full", "standard")
    )

    def types(page: dict[str, Any], key: str) -> set[str]:
        return {part["type"] for part in page[key].values() if part is not None}

    assert types(full, "objective") - types(standard, "objective") == {"norm"}
    assert types(standard, "objective") <= types(full, "objective")
    assert types(standard, "players") == types(full, "players") == {"segmenter", "patch_critic"}
    assert standard["players"]["segmenter"]["when"] == "before"  # as in the paper
    assert standard["variable"]["type"] == full["variable"]["type"] == "pixels"
    regions = {
        term["region"]
        for term in standard["objective"].values()
        if term is not None and term["type"] == "feature_statistics"
    }
    assert regions == {"object", "background"}
    steps = sum(stage["steps"] for stage in standard["stages"])
    assert standard["objective"]["patches"]["start"] < steps
    assert standard["players"]["critic"]["start"] < standard["objective"]["patches"]["start"]


def test_an_options_own_keys_outweigh_the_page_that_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("fit: crop\nresult: best\nname: base\nmemory: 2\n")
    (tmp_path / "own.yaml").write_text(
        "extends: deep-dream\nchoices: {a: {default: b, options: "
        "{b: {extends: base.yaml, result: last}, c: {}}}}\n"
    )
    layers = read_layers(tmp_path / "own.yaml")
    chosen = choose(layers, {"a": "b"}, device="cpu")
    assert (chosen["fit"], chosen["result"], chosen["memory"]) == ("crop", "last", 2)
    assert chosen["name"] == "own"
    assert "memory" not in choose(layers, {"a": "c"}, device="cpu")


def test_a_page_of_ones_own_extends_one_of_the_package(tmp_path: Path) -> None:
    page = tmp_path / "mine.yaml"
    page.write_text("extends: magic\nobjective:\n  control: {weight: 3}\n  size: null\n")
    (tmp_path / "second.yaml").write_text("extends: mine.yaml\nsummary: The second.\n")
    raw = read_raw(tmp_path / "second.yaml")
    made = validate(choose(raw, {"budget": "full"}, device="cpu"))
    assert made.name == "second"
    assert made.summary == "The second."
    assert made.objective["control"].weight == 3
    assert "size" not in made.objective
    assert made.objective["patches"].type == "critic_score"


@given(recipe=st.sampled_from(RECIPES), device=st.sampled_from(["cpu", "cuda"]))
def test_a_page_that_is_written_is_read_back(recipe: str, device: str) -> None:
    raw = choose(read_raw(recipe), {}, device=device)
    back = parse_yaml(dump_yaml(raw), where="here")
    assert back == raw
    assert list(back)[:2] == ["version", "name"]


junk = st.sampled_from([
    None, 3, -1, 1.5, float("nan"), True, "word", "", [], [1], {}, {"type": 3}, {"type": "adam"},
    {"type": "nothing"}, [[]], {"x": {"y": []}},
])  # fmt: skip


@settings(max_examples=150)
@given(value=junk, data=st.data())
def test_a_page_with_any_value_replaced_is_taken_or_refused_with_a_sentence(
    value: Any, data: st.DataObject
) -> None:
    raw = tiny_page(
        variable={"type": "hold", "inner": {"type": "pixels"}},
        players={"critic": {"type": "patch_critic", "kernels": [3, 3], "strides": [1, 1],
                            "widths": [4]}},
        choices={"budget": {"default": {"cpu": "a", "cuda": "b"}, "options": {
            "a": {"objective": {"score": {"type": "critic_score", "weight": 2}}}, "b": {}}}},
        notes={"budget.a": "the first"},
        chosen={},
    )  # fmt: skip
    raw = copy.deepcopy(raw)
    path = data.draw(st.sampled_from(list(paths(raw))))
    holder = value_at(raw, path[:-1])
    holder[int(path[-1]) if isinstance(holder, list) else path[-1]] = value
    image, mask, target = scene_tensors()
    written = dump_yaml(raw)
    said = "taken"
    try:
        resolved = choose(raw, {}, device="cpu")
        page = validate(resolved)
        from invertkit.core.images.inputs import Inputs
        from invertkit.recipe.build import build

        build(
            page, [Inputs.of({"image": image, "mask": mask, "target": target})], seeds=(0,),
            device=torch.device("cpu"), registry=Registry(),
        )  # fmt: skip
    except InvertkitError as error:
        said = str(error)
    assert said
    assert "Traceback" not in said
    assert written


# ---------------------------------------------------------------------- the schema


def test_the_shipped_schema_is_up_to_date() -> None:
    assert json.loads(shipped_schema()) == make_schema(Registry()), (
        "run `python -c 'from invertkit.recipe.schema import write_shipped_schema as w; w()'`"
    )


def test_the_schema_knows_every_part_and_every_option() -> None:
    schema = json.loads(shipped_schema())
    assert set(Page.model_fields) == set(schema["properties"])
    registry = Registry()
    place = set(TermPage.model_fields)
    for kind in KINDS:
        nodes = {
            node["properties"]["type"]["const"]: node for node in schema["$defs"][kind]["oneOf"]
        }
        assert sorted(nodes) == registry.names(kind)
        for name, node in nodes.items():
            wanted = set(signature_model(registry.load(kind, name)).model_fields) | {"type"}
            wanted |= place if kind == "objective" else set()
            assert set(node["properties"]) == wanted
            assert node["properties"]["type"]["description"]
            assert node["additionalProperties"] is False
            assert "type" in node["required"]


def test_every_reference_in_the_schema_leads_somewhere() -> None:
    schema = json.loads(shipped_schema())

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    for reference in references(schema):
        assert reference.startswith("#/$defs/")
        assert reference.removeprefix("#/$defs/") in schema["$defs"], reference


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_schema_has_every_key_of_every_page(recipe: str) -> None:
    schema = json.loads(shipped_schema())
    own = parse_yaml((recipes_folder() / f"{recipe}.yaml").read_text(), where=recipe)
    assert set(own) <= set(schema["properties"])
    required = [need["required"] for need in schema["anyOf"]]
    assert any(set(need) <= set(own) for need in required)

    def part(kind: str, node: dict[str, Any]) -> None:
        known = {n["properties"]["type"]["const"]: n for n in schema["$defs"][kind]["oneOf"]}
        assert set(node) <= set(known[node["type"]]["properties"])
        if "inner" in node:
            part(kind, node["inner"])

    resolved = choose(read_raw(recipe), {}, device="cuda")
    for kind, nodes in (
        ("variable", [resolved["variable"]]),
        ("optimizer", [resolved["optimizer"]]),
        ("objective", resolved["objective"].values()),
        ("player", resolved.get("players", {}).values()),
        ("model", resolved.get("models", {}).values()),
    ):
        for node in nodes:
            if node is not None:
                part(kind, node)


def test_parts_are_named_in_snake_case() -> None:
    assert [snake_case(name) for name in ("MeanRed", "PatchSWD", "LBFGS", "KLDivergence")] == [
        "mean_red", "patch_swd", "lbfgs", "kl_divergence",
    ]  # fmt: skip


# ---------------------------------------------------------------------- parts of one's own

OWN = '''
from invertkit import Classifier, Objective
from torch import nn
from torch.nn import Module


class MeanRed(Objective):
    """How far the mean red is from a wanted one."""

    def __init__(self, *, aim: float = 0.5) -> None:
        self.aim = aim

    def forward(self, view):
        return (view.image[:, 0].mean((1, 2)) - self.aim).square()


def flat() -> Classifier:
    """A network that sees the mean colour."""
    return Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
'''


def test_a_part_in_a_file_of_ones_own_is_used_and_listed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    registry = Registry().with_parts(tmp_path / "mine.py")
    assert "mean_red" in registry.names("objective")
    assert "flat" in registry.names("model")
    assert registry.summary("objective", "mean_red") == (
        "How far the mean red is from a wanted one."
    )
    nodes = make_schema(registry)["$defs"]["objective"]["oneOf"]
    assert any(node["properties"]["type"]["const"] == "mean_red" for node in nodes)
    page = write_page(
        tmp_path, inputs=[], fit=None, models={"classifier": {"type": "flat"}},
        objective={"red": {"type": "mean_red", "aim": 0.75, "weight": 5},
                   "class": {"type": "cross_entropy", "target": 2, "weight": 1e-9}},
        stages=[{"size": 16, "steps": 80}],
    )  # fmt: skip
    out = tmp_path / "out"
    result = package.run(page, parts=[tmp_path / "mine.py"], device="cpu", out=out)
    assert result.history["red"][0, -1] < 1e-3
    assert torch.equal(package.resume(out).images, result.images)


def test_a_part_of_an_installed_package_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    import invertkit.recipe.registry as module
    from invertkit.objectives.priors import Range

    points = [EntryPoint("stays", "invertkit.objectives.priors:Range", "invertkit.objectives")]
    monkeypatch.setattr(
        module.importlib.metadata,
        "entry_points",
        lambda group: points if group == "invertkit.objectives" else [],
    )
    registry = Registry()
    assert "stays" in registry.names("objective")
    assert registry.load("objective", "stays") is Range
    assert registry.summary("objective", "stays")
