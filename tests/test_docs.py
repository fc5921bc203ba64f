"""The documentation is true of the code: what it shows runs, and what it names exists."""

import ast
import inspect
import pydoc
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml

import invertkit
from invertkit.cli import app
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.engine.problem import Status
from invertkit.recipe.overlay import read_raw, recipe_names
from invertkit.recipe.registry import Registry
from invertkit.recipe.tables import KINDS
from invertkit.runs import api
from invertkit.runs.dry_run import dry_run
from invertkit.runs.prepare import prepare_job
from tests.faces import write_inputs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
EXTENDING = DOCS / "extending.md"


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of that language, indented ones too, without their indent."""
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^\1```", text_of(page), flags=re.MULTILINE | re.DOTALL
    )
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---------------------------------------------------------------------- extending.md


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    """A folder with the very files that docs/extending.md shows."""
    for language in ("python", "yaml"):
        body = blocks(EXTENDING, language)[0]
        name = body.split("\n", maxsplit=1)[0].removeprefix("# ")
        (tmp_path / name).write_text(body, encoding="utf-8")
    return tmp_path


def test_the_page_on_extending_runs_as_it_stands(own_files: Path) -> None:
    result = invertkit.run(
        own_files / "my.yaml", parts=[own_files / "my_losses.py"], device="cpu", progress=False
    )
    colour = result.history["colour"][0]
    wanted = torch.tensor(result.recipe["objective"]["colour"]["colour"])
    assert result.status is Status.FINISHED
    assert result.recipe["objective"]["colour"]["type"] == "mean_colour"
    assert len(colour) == 20
    assert colour[-1] < 0.9 * colour[0]
    reached = (result.images[0].mean((1, 2)) - wanted).square().sum()
    assert torch.isclose(reached, colour[-1], rtol=0.2)


def test_the_commands_on_extending_name_the_files_it_shows(own_files: Path) -> None:
    words = {word for block in blocks(EXTENDING, "sh") for word in shlex.split(block)}
    assert {path.name for path in own_files.iterdir()} <= words


def test_the_second_objective_on_extending_runs_too(own_files: Path) -> None:
    (gram,) = (block for block in blocks(EXTENDING, "py") if "class Gram" in block)
    more = own_files / "gram.py"
    more.write_text(f"from invertkit import Objective\n\n\n{gram}", encoding="utf-8")
    ready = prepare_job(
        own_files / "my.yaml",
        device="cpu",
        parts=[own_files / "my_losses.py", more],
        overrides=["objective.colour={type: gram, weight: 1}"],
    )
    assert dry_run(ready) == 4


def test_the_network_on_extending_runs_too(own_files: Path) -> None:
    (colours,) = (block for block in blocks(EXTENDING, "py") if "class Colours" in block)
    (own_files / "colours.py").write_text(colours, encoding="utf-8")
    parts = [own_files / name for name in ("my_losses.py", "colours.py")]
    sets = ["models.classifier={type: colours}", "objective.dream.layer=redness"]
    ready = prepare_job(own_files / "my.yaml", device="cpu", parts=parts, overrides=sets)
    assert dry_run(ready) == 4
    wrong = [sets[0], "objective.dream.layer=blueness"]
    ready = prepare_job(own_files / "my.yaml", device="cpu", parts=parts, overrides=wrong)
    with pytest.raises(
        invertkit.RecipeError, match="two maps of colour has no layer 'blueness'; it has: br"
    ):
        ready.problem((0,))


def test_the_tests_on_extending_pass(own_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(own_files))
    (source,) = (block for block in blocks(EXTENDING, "py") if "def test_" in block)
    space: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(source, space)
        tests = [value for name, value in space.items() if name.startswith("test_")]
        assert tests
        for test in tests:
            test()


def test_a_generator_of_your_own_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = (block for block in blocks(EXTENDING, "py") if '"z": 128' in block)
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, names=("image", "mask"))
    (tmp_path / "image.png").rename("photo.jpg")
    net = torch.nn.Sequential(torch.nn.Linear(128, 3 * 8 * 8), torch.nn.Unflatten(1, (3, 8, 8)))
    space: dict[str, Any] = {"net": net}
    exec(block.replace('"steps": 200', '"steps": 2').replace('"size": 64', '"size": 8'), space)
    assert (tmp_path / "mine" / "result.png").is_file()
    assert space["edited"].facts["directions"].keys() == {"component 0"}


def test_a_style_generator_of_your_own_runs_as_it_stands(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(EXTENDING, "py") if "def my_style_gan" in block)

    class Synthesis(torch.nn.Module):
        def forward(self, w: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return w.mean(1)[:, :3, None, None] + noise.expand(-1, 3, -1, -1)

    moments = {"w_mean": torch.ones(512), "w_deviation": torch.full((14, 1), 0.5)}
    torch.save({"synthesis": {}, **moments}, tmp_path / "net.pt")
    space: dict[str, Any] = {"Synthesis": Synthesis}
    exec(block, space)
    generator = space["my_style_gan"](weights=tmp_path / "net.pt")
    (lines,) = (yaml.safe_load(each) for each in blocks(EXTENDING, "yaml")[1:])
    variable = Registry().load("variable", lines["variable"].pop("type"))(**lines["variable"])
    bound = variable.bind({"generator": generator})
    assert bound.names == ("w", "noise") == tuple(lines["optimizer"]["over"])
    scene = Scene((8, 8), models={"generator": generator})
    start = bound.start(scene, Randomness((0,)))
    assert torch.equal(start["w"], torch.ones(1, 14, 512))
    assert bound.image(start, scene).shape == (1, 3, 8, 8)


def test_the_message_on_extending_is_the_one_that_comes(own_files: Path) -> None:
    page = own_files / "my.yaml"
    page.write_text(text_of(page).replace("[0.2, 0.4, 0.6]", "[0.2, 0.4]"), encoding="utf-8")
    ready = prepare_job(page, device="cpu", parts=[own_files / "my_losses.py"])
    with pytest.raises(invertkit.RecipeError) as caught:
        ready.problem((0,))
    assert f"`{caught.value}`" in text_of(EXTENDING)


# ---------------------------------------------------------------------- everything is mentioned


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_is_on_the_page_that_helps_to_choose(kind: Any) -> None:
    page = text_of(DOCS / "choosing.md")
    assert [name for name in Registry().names(kind) if f"`{name}`" not in page] == []


def test_every_recipe_has_a_page_in_the_list_and_the_navigation() -> None:
    navigation = text_of(ROOT / "mkdocs.yml")
    listed = text_of(DOCS / "recipes" / "index.md")
    for name in recipe_names():
        page = DOCS / "recipes" / f"{name}.md"
        assert page.is_file()
        assert text_of(page).startswith(f"# {name}\n")
        assert f"recipes/{name}.md" in navigation
        assert f"({name}.md)" in listed


@pytest.mark.parametrize("name", recipe_names())
def test_the_source_that_a_recipe_cites_is_in_the_bibliography(name: str) -> None:
    cited = read_raw(name).get("cite", "")
    assert not cited or f"{{{cited}," in text_of(DOCS / "references.bib")


def test_the_bibliography_and_its_page_have_the_same_entries() -> None:
    keys = re.findall(r"^@\w+\{(\w+),", text_of(DOCS / "references.bib"), flags=re.MULTILINE)
    shown = re.findall(r"^- `(\w+)`", text_of(DOCS / "references.md"), flags=re.MULTILINE)
    assert sorted(keys) == sorted(shown)
    assert len(set(keys)) == len(keys)


def test_every_key_of_a_page_is_explained() -> None:
    from invertkit.recipe.page import Page, TermPage

    page = text_of(DOCS / "writing-a-recipe.md")
    keys = {*Page.model_fields, *TermPage.model_fields}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_every_module_of_the_package_is_on_one_api_page() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "invertkit").rglob("*.py")
        if not path.stem.startswith("__") and "cli" not in path.parts
    }
    rooms = [
        room
        for page in (DOCS / "api").glob("*.md")
        for room in re.findall(r"^::: (\S+)", text_of(page), flags=re.MULTILINE)
    ]
    pages = {
        module: [room for room in rooms if f"{module}.".startswith(f"{room}.")]
        for module in modules
    }
    assert {module: found for module, found in pages.items() if len(found) != 1} == {}
    assert "show_submodules: true" in text_of(ROOT / "mkdocs.yml")


def test_every_room_says_in_a_sentence_what_it_is_for() -> None:
    rooms = (ROOT / "invertkit").rglob("__init__.py")
    silent = [named(room) for room in rooms if not ast.get_docstring(ast.parse(text_of(room)))]
    assert silent == []


# ---------------------------------------------------------------------- links


def prose(page: Path) -> str:
    """The text without fenced blocks and code spans."""
    text = re.sub(r"^( *)```.*?^\1```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown makes them."""
    titles = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles]
    return {re.sub(r"[-\s]+", "-", title) for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_internal_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), f"{target}: no such file"
        assert not anchor or anchor in anchors(there), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_and_names_of_the_package_that_a_page_mentions_exist(page: Path) -> None:
    for file in re.findall(r"`((?:invertkit|tests|benchmarks)/[\w/.-]+\.\w+)`", text_of(page)):
        assert (ROOT / file).is_file(), f"{file}: no such file"
    for name in re.findall(r"\binvertkit(?:\.[A-Za-z_]\w*)+", text_of(page)):
        assert pydoc.locate(name) is not None, f"{name}: no such name"


def test_every_picture_is_on_a_page() -> None:
    shown = " ".join(text_of(page) for page in PAGES)
    pictures = [path.name for path in (DOCS / "pictures").iterdir()]
    assert [name for name in pictures if f"pictures/{name}" not in shown] == []


def test_the_navigation_lists_every_page_and_nothing_else() -> None:
    settings = text_of(ROOT / "mkdocs.yml")
    listed = set(re.findall(r"([\w/-]+\.md)$", settings.split("\nnav:")[1], flags=re.MULTILINE))
    excluded = set(yaml.safe_load(settings.split("theme:")[0])["exclude_docs"].split())
    assert listed == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - excluded


# ---------------------------------------------------------------------- commands


def commands() -> Mapping[str, Mapping[str, bool]]:
    """Command -> its options, and whether each takes a value."""

    def options(command: Any) -> dict[str, bool]:
        return {
            name: not getattr(parameter, "is_flag", False)
            for parameter in command.params
            for name in (*parameter.opts, *parameter.secondary_opts)
            if name.startswith("-")
        }

    root: Any = typer.main.get_command(app)
    found = {}
    for name, command in root.commands.items():
        inner = getattr(command, "commands", {})
        found[name] = options(command)
        found.update({f"{name} {sub}": options(part) for sub, part in inner.items()})
    return found


def shown_commands(page: Path) -> Iterator[list[str]]:
    """Every `invertkit …` in the shell blocks, as words."""
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            for part in re.split(r"&&|\s>\s", line):
                words = shlex.split(part, comments=True)
                if words[:1] == ["invertkit"]:
                    yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_their_options_exist(page: Path) -> None:
    known = commands()
    for words in shown_commands(page):
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert name in known, f"invertkit {words[0]}: no such command"
        rest = words[len(name.split()) :]
        arguments = []
        while rest:
            word = rest.pop(0)
            if not word.startswith("-"):
                arguments.append(word)
                continue
            assert word in known[name], f"invertkit {name} has no {word}"
            value = rest.pop(0) if known[name][word] else ""
            if word == "--from":
                assert value in recipe_names()
        if name in ("run", "show") and arguments:
            assert arguments[0] in recipe_names() or arguments[0].endswith(".yaml")


def test_the_extras_that_pip_is_asked_for_exist() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    asked = {
        extra
        for page in PAGES
        for block in blocks(page, "sh")
        for group in re.findall(r"pip install .*?\.\[([\w,]+)\]", block)
        for extra in group.split(",")
    }
    assert {"test"} <= asked <= set(project["optional-dependencies"])


def test_the_readme_has_the_two_commands() -> None:
    lines = [line for block in blocks(ROOT / "README.md", "sh") for line in block.splitlines()]
    assert lines == [
        "pip install . && invertkit run magic",
        "pip install '.[test]' && pytest -n auto",
    ]


# ---------------------------------------------------------------------- Python and recipes


CALLS: Mapping[str, Callable[..., Any]] = {
    "invertkit.run": api.run,
    "invertkit.run_each": api.run_each,
    "invertkit.prepare": api.prepare,
    "invertkit.resume": api.resume,
    "result.save": invertkit.Result.save,
    "Classifier": invertkit.Classifier,
}
INPUTS: Mapping[Callable[..., Any], set[str]] = {
    call: {
        *(name for page in recipe_names() for name in read_raw(page).get("inputs") or ()),
    }
    for call in (api.run, api.run_each, api.prepare)
}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_calls_fit_the_signatures(page: Path) -> None:
    for source in [*blocks(page, "py"), *blocks(page, "python")]:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
                called = CALLS[ast.unparse(node.func)]
                known = {*inspect.signature(called).parameters, *INPUTS.get(called, ())}
                assert {keyword.arg for keyword in node.keywords if keyword.arg} <= known
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "result":
                fields = {*dir(invertkit.Result), *invertkit.Result.__dataclass_fields__}
                assert node.attr in fields


def test_the_pages_that_extend_another_are_valid(tmp_path: Path) -> None:
    checked = 0
    for page in PAGES:
        for body in blocks(page, "yaml"):
            if not body.startswith("extends:"):
                continue
            path = tmp_path / f"page-{checked}.yaml"
            path.write_text(body, encoding="utf-8")
            ready = prepare_job(path, device="cpu")
            ready.problem((0,))
            checked += 1
    assert checked >= 3


def test_the_search_and_the_variable_on_extending_run(own_files: Path) -> None:
    search, tinted = (own_files / f"{name}.py" for name in ("my_search", "tinted"))
    for path, word in ((search, "class CrossEntropy"), (tinted, "class Tinted")):
        (body,) = (block for block in blocks(EXTENDING, "py") if word in block)
        path.write_text(body, encoding="utf-8")
    part = "{type: cross_entropy, over: [latent], sigma: 1}"
    for recipe, key in (("project-cma", "optimizer"), ("project-basincma", "optimizer.outer")):
        sets = [f"stages.search.{key}={part}"]
        assert dry_run(prepare_job(recipe, device="cpu", parts=[search], overrides=sets)) == 2
    sets = [
        "variable={type: tinted}",
        "optimizer={type: adam, over: [grey, colour], rates: {colour: 0.1}}",
    ]
    parts = [own_files / "my_losses.py", tinted]
    assert (
        dry_run(prepare_job(own_files / "my.yaml", device="cpu", parts=parts, overrides=sets)) == 4
    )


@pytest.mark.parametrize("page", ["step-by-step", "extending"])
def test_the_python_of_a_page_runs_in_a_notebook(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    (tmp_path / "image.png").rename(tmp_path / "photo.jpg")
    names: dict[str, Any] = {}
    for source in blocks(DOCS / f"{page}.md", "py"):
        if "invertkit.prepare(" in source or "terms={" in source:
            exec(compile(source, page, "exec"), names)
    result = names["result"]
    assert result.status is Status.FINISHED
    if page == "extending":
        assert set(result.history) >= {"dream", "near"}
        assert "python:near" in (tmp_path / "near" / "recipe.yaml").read_text()
    else:
        assert (result.last[:, :, :3] < 0.2).all()
        assert names["picture"].shape == result.images.shape
        assert (tmp_path / "dream" / "report.html").is_file()
