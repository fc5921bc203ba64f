"""Projections into generators with other latents than those of the house, and edits of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import invertkit as package
from invertkit.apps.editing.directions import principal_directions, steering_directions
from invertkit.runs.observers import STOP
from invertkit.variables.latent import Latent
from tests.faces import write_inputs, write_page
from tests.latents import plain_generator, style_generator, zeta_space

STEPS = 4
PAGES: Mapping[str, Any] = {
    "plain": {"variable": {"type": "transformed", "inner": {"type": "latent"}}},
    "style": {
        "variable": {"type": "latent", "embedding": "given", "label": "round", "noise": {"w": 0}},
        "optimizer": {"type": "adam", "lr": 0.05, "rates": {"noise": 0.1, "kind": 0.2}},
    },
    "zeta": {
        "variable": {"type": "latent", "space": "zeta"},
        "optimizer": {"type": "adam", "lr": 0.05, "over": ["zeta"]},
    },
}
NAMES = {
    "plain": {"z", "transform"}, "style": {"w", "noise", "kind"}, "zeta": {"zeta", "z"},
}  # fmt: skip


def models(which: str) -> dict[str, Any]:
    if which == "style":
        return {"generator": style_generator().float()}
    plain: dict[str, Any] = {"generator": plain_generator().float()}
    return plain | ({"zeta": zeta_space(named="z").float()} if which == "zeta" else {})


def project(folder: Path, which: str, **options: Any) -> Path:
    write_inputs(folder)
    page = write_page(
        folder,
        **{
            "models": None, "inputs": ["image", "mask"], "fit": "crop",
            "objective": {"match": {"type": "pixel_distance", "region": "object"}},
            "optimizer": {"type": "adam", "lr": 0.05, "over": ["z"]},
            "stages": [{"size": 8, "steps": STEPS}], "result": "last",
        } | PAGES[which],
    )  # fmt: skip
    run = folder / "run"
    package.run(
        page, image=folder / "image.png", mask=folder / "mask.png", models=models(which), out=run,
        device="cpu", seeds=2, **options,
    )  # fmt: skip
    return run


@pytest.fixture(scope="module", params=sorted(PAGES))
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp(request.param), request.param).resolve()


def which_of(run: Path) -> str:
    return next(which for which in PAGES if which in run.parent.name)


def test_the_folder_holds_the_latents_by_name(done: Path) -> None:
    tensors = load_file(done / "tensors" / "seed-1.safetensors")
    assert set(tensors) == NAMES[which_of(done)]
    generator = models(which_of(done))["generator"]
    for name, spec in generator.latents.items():
        assert tensors[name].shape == (1, *spec.shape)
    if which_of(done) == "style":
        assert tensors["noise"].abs().max() <= 3
        table = generator.tables["kind"]
        assert 0 < (tensors["kind"] - table[0]).abs().max() < 0.2


def test_an_interrupted_run_goes_on_to_the_same_latents(done: Path, tmp_path: Path) -> None:
    which, steps = which_of(done), []

    def third(report: Any) -> Any:
        steps.append(report.step)
        return STOP if len(steps) == STEPS + 2 else None

    run = project(tmp_path, which, observers=[third])
    package.resume(run, models=models(which))
    for seed in (0, 1):
        name = f"tensors/seed-{seed}.safetensors"
        wanted, found = load_file(done / name), load_file(run / name)
        assert wanted.keys() == found.keys()
        assert all(torch.equal(wanted[each], found[each]) for each in wanted)


def test_edits_move_the_leading_latent_and_nothing_else(done: Path) -> None:
    which = which_of(done)
    generator = models(which)["generator"]
    edited = package.edit(
        done, components={0: 2.0, 3: -1.0}, shift=(0.1, 0), steps=2, refine=0,
        models=models(which), device="cpu", seed=0,
    )  # fmt: skip
    tensors = load_file(done / "tensors" / "seed-0.safetensors")
    directions = load_file(done / "directions" / "components.safetensors")["directions"]
    walk = load_file(done / "directions" / "shift_x.safetensors")["direction"]
    spec = generator.latents[generator.leading]
    deviates = 2 * directions[:, 0] - directions[:, 3] + 0.1 * walk
    move = spec.deviation * deviates.reshape(spec.shape)
    latents = {name: tensors[name] for name in generator.latents}
    latents[generator.leading] = latents[generator.leading] + move
    torch.testing.assert_close(edited.generated, generator.generate(**latents))
    assert "\n" not in repr(edited)
    assert repr(edited).startswith("<Edited: ")
    assert len(repr(edited)) < 140


def test_only_a_generator_with_classes_goes_to_another(done: Path) -> None:
    which = which_of(done)
    change: dict[str, Any] = {"label": "square", "models": models(which), "device": "cpu"}
    if which != "style":
        with pytest.raises(
            package.InputError, match="a plain generator has no class embedding, so there is no cla"
        ):
            package.edit(done, **change)
        return
    edited = package.edit(done, seed=0, **change)
    tensors = load_file(done / "tensors" / "seed-0.safetensors")
    generator = models(which)["generator"]
    expected = generator.generate(**{**tensors, "kind": generator.tables["kind"][1:]})
    torch.testing.assert_close(edited.generated, expected)


def test_a_variable_from_python_is_given_again(tmp_path: Path) -> None:
    variable = Latent(embedding="random", noise={"w": 0.0})
    run = project(tmp_path, "style", variable=variable)
    with pytest.raises(package.InputError, match=r"variable given from Python; edit it from there"):
        package.edit(run, models=models("style"), device="cpu")
    edited = package.edit(
        run, label="square", models=models("style"), variable=variable, device="cpu"
    )
    assert edited.change.label == "square"


@pytest.mark.parametrize(
    "make", [plain_generator, lambda: style_generator(mean=1.0)], ids=["plain", "style"]
)
def test_directions_are_found_for_any_latents(make: Callable[[], package.Generator]) -> None:
    generator = make().float()
    numbers = generator.latents[generator.leading].numbers
    found = principal_directions(generator, samples=64, count=4)
    assert found.directions.shape == (numbers, 4)
    torch.testing.assert_close(found.directions.norm(dim=0), torch.ones(4))
    assert found.components.shape == (4, 3 * 8 * 8)  # of its pictures: it names no layer
    walk = steering_directions(generator, "shift_x", steps=40, lr=0.05)
    assert walk.direction.shape == (numbers,)
    assert walk.loss < walk.still
