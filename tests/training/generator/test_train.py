from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.metrics.frechet import frechet
from invertkit.models.generators.kitgan import ClassHead, KitDiscriminator, KitEncoder, KitGenerator
from invertkit.models.generators.open import (
    embedded_discriminator,
    embedded_encoder,
    embedded_generator,
)
from invertkit.models.loading.safetensors_file import metadata
from invertkit.training.data.photographs import Photographs
from invertkit.training.generator import command as command
from invertkit.training.generator import train as module
from invertkit.training.generator.encoder import train_encoder
from invertkit.training.generator.measures import (
    Measured,
    accuracy_score,
    expect_same_classes,
    generated,
    last_features,
    measure_generator,
    patch_distance,
    pictures,
    some_of,
)
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.generator.train import (
    CHECKPOINT,
    Players,
    average,
    folded,
    hinge,
    settle,
    train_generator,
)
from tests.faces import invertkit
from tests.helpers import global_generators_unmoved, normal, same, tiny_classifier, uniform
from tests.training.classifier.test_train import write_photographs

QUIET: Callable[[str], None] = lambda _: None
PLAN = GeneratorPlan(
    steps=8,
    batch=4,
    latent=6,
    embedding=4,
    widths=(16, 8, 8, 8),
    guide_layers=("layer1", "layer3"),
    guide_size=16,
    encoder_steps=4,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch-norm statistics over two batches instead of 64."""

    def few(generator: KitGenerator, plan: GeneratorPlan, *, classes: int) -> None:
        settle(generator, plan, classes=classes, batches=2)

    monkeypatch.setattr(module, "settle", few)


def some_photographs(count: int = 30, classes: int = 3, seed: int = 0) -> Photographs:
    """Noise around a brightness that tells the class, in no order."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=draw)
    labels[:classes] = torch.arange(classes)
    noise = torch.randint(-30, 30, (count, 3, 32, 32), generator=draw)
    images = (40 + 170 * labels[:, None, None, None] // max(1, classes - 1) + noise).clamp(0, 255)
    return Photographs(images.to(torch.uint8), labels, tuple("abcdef"[:classes]))


def tiny_net(plan: GeneratorPlan = PLAN, classes: int = 3) -> KitGenerator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = KitGenerator(
            classes, latent=plan.latent, embedding=plan.embedding, widths=plan.widths
        )
    settle(net, plan, classes=classes, batches=2)
    return net


# ---------------------------------------------------------------------- parts of a step


@given(real=st.lists(st.floats(-3, 3), min_size=1, max_size=6), made=st.floats(-3, 3))
def test_the_hinge_loss_is_its_formula(real: list[float], made: float) -> None:
    scores = torch.tensor([*real, made, -made], dtype=torch.float64)
    wanted = sum(max(0.0, 1 - score) for score in real) / len(real)
    wanted += (max(0.0, 1 + made) + max(0.0, 1 - made)) / 2
    assert hinge(scores, len(real)).item() == pytest.approx(wanted)


def test_the_average_is_its_formula_and_leaves_buffers() -> None:
    mean, now = tiny_net(), tiny_net()
    with torch.no_grad():
        for parameter in now.parameters():
            parameter.add_(1)
    now.bn.reset_running_stats()
    before, buffers = deepcopy(dict(mean.named_parameters())), deepcopy(dict(mean.named_buffers()))
    average(mean, now, 0.9)
    average(mean, now, 0.9)
    for name, parameter in mean.named_parameters():
        assert torch.allclose(parameter, before[name] + (1 - 0.9**2), atol=1e-6), name
    assert same(buffers, dict(mean.named_buffers()))


def test_the_head_is_a_projection_on_summed_features() -> None:
    head = ClassHead(5, 3, group=2, spectral=False)
    features, labels = normal(4, 5, 2, 3).float(), torch.tensor([2, 2, 0, 0])
    summed = features.clamp(min=0).sum((2, 3))
    for row in range(4):
        pair = summed[row // 2 * 2 : row // 2 * 2 + 2]
        spread = ((pair[0] - pair[1]).square() / 4 + 1e-6).sqrt()
        wanted = (
            head.linear.weight[0] @ summed[row]
            + head.linear.bias[0]
            + head.spread.weight[0] @ spread
            + head.spread.bias[0]
            + head.embedding.weight[labels[row]] @ summed[row]
        )
        assert torch.isclose(head(features, labels)[row], wanted, atol=1e-5)


def test_a_generator_that_draws_a_class_alike_is_found_out() -> None:
    head = ClassHead(5, 2, group=4, spectral=False)
    nn.init.zeros_(head.linear.weight)
    nn.init.zeros_(head.embedding.weight)
    nn.init.ones_(head.spread.weight)
    nn.init.zeros_(head.linear.bias)
    nn.init.zeros_(head.spread.bias)
    varied, labels = normal(8, 5, 2, 2).float(), torch.tensor([0] * 4 + [1] * 4)
    alike = torch.cat([varied[:4], varied[4:5].expand(4, -1, -1, -1)])
    scores = head(alike, labels)
    assert (scores[4:] < 5 * 1.1e-3).all()
    assert (scores[:4] > 0.1).all()
    assert torch.equal(scores[:4], head(varied, labels)[:4])


@pytest.mark.parametrize("guided", [True, False])
def test_the_heads_look_at_groups_of_the_plans_size(guided: bool) -> None:  # noqa: FBT001
    guide = tiny_classifier(torch.float32) if guided else None
    players = Players(replace(PLAN, group=2), 3, guide)
    heads = [m for m in players.modules() if isinstance(m, ClassHead)]
    assert len(heads) == (3 if guided else 1)
    assert {head.group for head in heads} == {2}
    image, labels = uniform(4, 3, 32, 32).float(), torch.tensor([0, 0, 1, 1])
    assert len(players.scores(image, labels)) == len(heads)
    assert not any("guide" in name for name in players.state_dict())


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    asked=st.lists(st.integers(0, 29), min_size=1, max_size=5),
    draw=st.floats(0, 1, exclude_max=True, width=32),
)
def test_rows_are_of_the_classes_asked_for(
    labels: list[int], asked: list[int], draw: float
) -> None:
    images = torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8)
    data = module._ByClass(Photographs(images, torch.tensor(labels), tuple("abcd")))
    classes = torch.tensor([labels[place % len(labels)] for place in asked])
    draws = torch.tensor([draw, 0.0, 1 - 2**-24]).expand(len(classes), -1)
    rows = data.rows_of(classes, draws)
    assert torch.equal(torch.tensor(labels)[rows], classes[:, None].expand(-1, 3))
    for label, (_, first, last) in zip(classes.tolist(), rows.tolist(), strict=True):
        assert first == labels.index(label)
        assert last == len(labels) - 1 - labels[::-1].index(label)


@pytest.mark.parametrize("count", [4095, 4096, 4097, 5000, 65_537])
def test_the_largest_draw_stays_in_its_class(count: int) -> None:
    labels = torch.zeros(count + 1, dtype=torch.long)
    labels[-1] = 1
    data = module._ByClass(Photographs(torch.zeros(count + 1, 3, 1, 1), labels, ("a", "b")))
    assert data.rows_of(torch.tensor([0]), torch.tensor([[1 - 2**-24]])).item() == count - 1


def test_draws_follow_from_the_step_alone() -> None:
    data = module._ByClass(some_photographs())
    plan = replace(PLAN, batch=8)
    first = module._draws(plan, data, 3, "cpu")
    module._draws(plan, data, 4, "cpu")
    again = module._draws(plan, data, 3, "cpu")
    other = module._draws(plan, data, 4, "cpu")
    assert same(list(first), list(again))
    assert not torch.equal(first[2], other[2])
    images, labels, latent, wanted = first
    assert images.shape == (8, 3, 32, 32)
    assert -1 <= images.min() < images.max() <= 1
    assert latent.shape == (8, PLAN.latent)
    for classes in (labels, wanted):
        assert (classes.unflatten(0, (-1, 4)).diff(dim=1) == 0).all()


def test_folded_norms_change_nothing_but_rounding() -> None:
    classifier, images = tiny_classifier(), uniform(2, 3, 32, 32)
    taps = ("stem", "layer1", "layer2", "layer3", "logits")
    before, after = (net.observe(images, taps) for net in (classifier, folded(classifier)))
    for name in taps:
        assert torch.allclose(before[name], after[name], atol=1e-10), name
    assert len(classifier.batch_norms()) == 8  # the one that was given is as it was
    assert folded(classifier).batch_norms() == {}
    assert not any(p.requires_grad for p in folded(classifier).parameters())


# ---------------------------------------------------------------------- training


def test_a_resumed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    data, guide = some_photographs(), tiny_classifier(torch.float32)
    before = deepcopy(guide.state_dict())
    said: list[str] = []

    def stop(line: str) -> None:
        said.append(line)
        raise KeyboardInterrupt

    with global_generators_unmoved():
        whole, judge = train_generator(
            PLAN, data, out=tmp_path / "whole", guide=guide, report=QUIET, every=3
        )
        with pytest.raises(KeyboardInterrupt):
            train_generator(PLAN, data, out=tmp_path / "half", guide=guide, report=stop, every=4)
        kept = tmp_path / "half" / CHECKPOINT
        assert torch.load(kept, weights_only=True)["step"] == 4
        rest, judge_too = train_generator(
            PLAN, data, out=tmp_path / "half", guide=guide, resume=kept, report=said.append
        )
    assert same(whole.state_dict(), rest.state_dict())
    assert same(judge.state_dict(), judge_too.state_dict())
    ends = [torch.load(tmp_path / x / CHECKPOINT, weights_only=True) for x in ("whole", "half")]
    assert same(*ends)
    assert ends[0]["step"] == 8
    assert ends[0]["climbing"]["param_groups"][0]["lr"] == pytest.approx(PLAN.lr / 2)  # cooldown
    assert [path.name for path in (tmp_path / "half").iterdir()] == [CHECKPOINT]
    assert re.fullmatch(r"step 8/8 real [+-]\d\.\d\d, made [+-]\d\.\d\d, \d+ pictures/s", said[-1])
    assert same(before, guide.state_dict())


def test_another_seed_trains_other_weights(tmp_path: Path) -> None:
    data, plan = some_photographs(), replace(PLAN, steps=1, guide_layers=())
    nets = [
        train_generator(replace(plan, seed=seed), data, out=tmp_path, report=QUIET)[0]
        for seed in (0, 0, 1)
    ]
    assert same(nets[0].state_dict(), nets[1].state_dict())
    assert not torch.equal(nets[0].to_rgb.weight, nets[2].to_rgb.weight)


def test_a_checkpoint_without_a_plan_is_taken(tmp_path: Path) -> None:
    data, plan = some_photographs(), replace(PLAN, steps=2, guide_layers=())
    done, _ = train_generator(plan, data, out=tmp_path, report=QUIET)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del state["plan"]
    torch.save(state, tmp_path / "old.pt")
    again, _ = train_generator(plan, data, out=tmp_path, resume=tmp_path / "old.pt", report=QUIET)
    assert same(done.state_dict(), again.state_dict())
    with pytest.raises(InputError, match="is at step 2, beyond the 1 asked for"):
        train_generator(
            replace(plan, steps=1), data, out=tmp_path, resume=tmp_path / "old.pt", report=QUIET
        )


def test_wrong_checkpoints_are_told(tmp_path: Path) -> None:
    data, plan = some_photographs(), replace(PLAN, steps=1, guide_layers=())
    train_generator(plan, data, out=tmp_path, report=QUIET)
    kept = tmp_path / CHECKPOINT

    def refused(plan: GeneratorPlan, data: Photographs, path: Path, message: str) -> None:
        with pytest.raises(InputError, match=message):
            train_generator(plan, data, out=tmp_path / "x", resume=path, report=QUIET)
        assert not (tmp_path / "x").exists()

    refused(replace(plan, lr=1e-3), data, kept, r"was begun with lr 0\.0003, not 0\.001\. Go on")
    refused(plan, some_photographs(classes=2), kept, "is not a checkpoint of this training")
    refused(plan, data, tmp_path / "none.pt", r"not a checkpoint of this training \(.*No such file")
    (tmp_path / "bad.pt").write_bytes(kept.read_bytes()[:500])
    refused(plan, data, tmp_path / "bad.pt", "is not a checkpoint of this training")
    longer = replace(plan, encoder_steps=9, steps=2)
    train_generator(longer, data, out=tmp_path, resume=kept, report=QUIET)
    assert torch.load(kept, weights_only=True)["plan"]["steps"] == 2


def test_a_checkpoint_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / CHECKPOINT
    module._write({"step": 1}, path)

    def full(data: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"cannot be written .*No space left.* is whole\."):
        module._write({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_training_that_diverges_ends_with_a_sentence(tmp_path: Path) -> None:
    plan = replace(PLAN, guide_layers=(), lr=math.inf)
    with pytest.raises(InputError, match=r"not finite before step 8; .* smaller --lr"):
        train_generator(plan, some_photographs(), out=tmp_path, report=QUIET)
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_trains_too(tmp_path: Path) -> None:
    net, _ = train_generator(
        replace(PLAN, steps=2, bf16=True), some_photographs(), out=tmp_path,
        guide=tiny_classifier(torch.float32), report=QUIET,
    )  # fmt: skip
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in net.parameters())


def test_settled_statistics_are_those_of_the_features() -> None:
    net = tiny_net()
    draw = torch.Generator().manual_seed(5)
    seen: list[Tensor] = []
    hook = net.bn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for _ in range(4):
        latent = torch.randn(128, PLAN.latent, generator=draw)
        labels = torch.randint(3, (128,), generator=draw)
        net(latent, net.embeddings.weight.T[labels])
    hook.remove()
    features = torch.cat(seen)
    assert net.bn.running_mean is not None
    assert net.bn.running_var is not None
    assert not net.training
    scale = features.std()
    assert (features.mean((0, 2, 3)) - net.bn.running_mean).abs().max() < 0.1 * scale
    assert torch.allclose(features.var((0, 2, 3)), net.bn.running_var, rtol=0.2)


def test_training_the_encoder_lowers_its_error() -> None:
    net = tiny_net()

    def error(steps: int) -> float:
        plan = replace(PLAN, encoder_steps=steps, batch=16)
        encoder = train_encoder(plan, net, classes=3, report=QUIET)
        latent = torch.randn(64, PLAN.latent, generator=torch.Generator().manual_seed(9))
        labels = torch.arange(64) % 3
        latent = latent.clamp(-2, 2)
        table = net.embeddings.weight.T
        with torch.no_grad():
            return F.mse_loss(encoder(net(latent, table[labels]), table[labels]), latent).item()

    with global_generators_unmoved():
        assert error(60) < 0.7 * error(1)


# ---------------------------------------------------------------------- the file


def stored(path: Path, classes: tuple[str, ...] = ("cat", "sheep", "dog")) -> KitGenerator:
    net = tiny_net()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        judge = KitDiscriminator(3)
        encoder = KitEncoder(latent=PLAN.latent, embedding=PLAN.embedding)
    command.save_generator(net, judge.eval(), encoder, path, plan=PLAN, classes=classes)
    return net


def test_the_file_gives_the_same_networks_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ((0.5, 0.4), (0.6, 0.7))
    monkeypatch.setattr(command, "object_statistics", lambda *_, **__: where)
    path = tmp_path / "generator.safetensors"
    net = stored(path)
    loaded = embedded_generator(weights=path)
    assert loaded.classes == ("cat", "sheep", "dog")
    assert loaded.statistics.centre == (0.5, 0.4)
    assert loaded.statistics.size == (0.6, 0.7)
    labels = torch.arange(3)
    made = pictures(net, PLAN, labels)
    latent = torch.randn(3, PLAN.latent, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    table = loaded.tables["embedding"]
    again = loaded.generate(latent=latent, embedding=table)
    assert torch.allclose(made, again, atol=4e-3)
    assert not torch.equal(made[0], made[1])
    facts = {key: json.loads(value) for key, value in metadata(path).items()}
    assert facts["plan"]["steps"] == 8
    found = embedded_encoder(weights=path).encode(made, embedding=table)
    assert found["latent"].shape == (3, PLAN.latent)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        judge = KitDiscriminator(3).eval()
    trunk = embedded_discriminator(weights=path)
    here = trunk.observe(made, ("block3",))["block3"]
    with torch.no_grad():
        there = judge.block3(judge.block2(judge.block1(made * 2 - 1)))
    assert torch.allclose(here, there, atol=5e-3 * float(there.abs().max()))


def test_objects_are_somewhere_in_the_picture() -> None:
    (row, column), size = command.object_statistics(
        tiny_net(), PLAN, classes=("cat", "sheep", "dog"), count=30
    )
    assert 0 < row < 1
    assert 0 < column < 1
    assert all(0 < side <= 1 for side in size)


def test_the_statistics_find_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that looks at a box only: its centre and size come out."""

    class Box(nn.Module):
        classes = ("a", "b")

        def forward(self, image: Tensor) -> Tensor:
            inside = image[:, :, 8:24, 32:64].sum((1, 2, 3))  # of 64×64
            return torch.stack([inside, -inside], 1)

    monkeypatch.setattr(command, "embedded", Box)
    centre, size = command.object_statistics(tiny_net(), PLAN, classes=("b", "a", "x"), count=9)
    assert centre == pytest.approx((0.25, 0.75), abs=0.01)
    assert size == pytest.approx((0.25, 0.5), abs=0.02)


def test_the_sheet_and_the_single_pictures(tmp_path: Path) -> None:
    net = tiny_net()
    sheet = command.sheet(net, PLAN, classes=3, columns=2)
    assert sheet.shape == (3, 3 * 34, 2 * 34)
    made = pictures(net, PLAN, torch.arange(3).repeat_interleave(2))
    assert torch.equal(sheet[:, 35:67, 1:33], made[2])
    command.export(net, PLAN, tmp_path / "samples", classes=("a", "b", "c"), count=4)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert names == [f"samples/{x}.png" for x in ("a/000000", "a/000003", "b/000001", "c/000002")]
    with Image.open(tmp_path / names[0]) as picture:
        assert picture.size == (32, 32)


# ---------------------------------------------------------------------- measures


def test_distances_between_sets_are_zero_to_themselves_and_symmetric() -> None:
    first, second = some_photographs(20), some_photographs(20, seed=1)
    far = replace(first, images=255 - first.images // 4)
    net = tiny_classifier(torch.float32)
    measures: list[Callable[[Photographs, Photographs], float]] = [
        lambda a, b: frechet(*(last_features(x, classifier=net) for x in (a, b))),
        patch_distance,
    ]
    for distance in measures:
        assert distance(first, first) == pytest.approx(0, abs=1e-4)
        assert distance(first, second) == pytest.approx(distance(second, first), rel=1e-3)
        assert distance(first, far) > 3 * distance(first, second)


def test_the_patch_distance_of_flat_pictures_is_known() -> None:
    """A difference of d in every pixel is d · |sum of the direction| along each direction."""
    dark, light = (
        Photographs(
            torch.full((2, 3, 8, 8), v, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b")
        )
        for v in (51, 102)
    )
    found = patch_distance(dark, light, side=2, directions=4000)
    # the sum of 12 numbers on the unit sphere is nearly N(0, 1)
    assert found == pytest.approx(0.2 * math.sqrt(2 / math.pi), rel=0.06)


def test_the_patch_distance_sees_texture_that_the_mean_does_not() -> None:
    flat = Photographs(
        torch.full((9, 3, 32, 32), 128, dtype=torch.uint8), torch.zeros(9).long(), ("a",)
    )
    noise = replace(flat, images=(uniform(9, 3, 32, 32) * 255).to(torch.uint8))
    assert patch_distance(flat, noise) > 0.1


def test_accuracy_falls_where_pictures_are_not_of_their_class() -> None:
    train, test = some_photographs(60), some_photographs(30, seed=1)
    options = {"epochs": 6, "size": 16, "batch": 10, "widths": (4, 4, 8, 8)}
    with global_generators_unmoved():
        right = accuracy_score(train, test, **options)  # type: ignore[arg-type]
    swapped = replace(train, labels=(train.labels + 1) % 3)
    assert right > 0.8
    assert accuracy_score(swapped, test, **options) < 0.3  # type: ignore[arg-type]


def test_every_class_gets_as_many_pictures() -> None:
    data = some_photographs(30)
    taken = some_of(data, per_class=4)
    assert torch.bincount(taken.labels).tolist() == [4, 4, 4]
    for image, label in zip(taken.images, taken.labels, strict=True):
        found = [torch.equal(image, other) for other in data.images]
        assert sum(found) == 1
        assert data.labels[found.index(True)] == label
    net = tiny_net()
    made = generated(net, PLAN, per_class=2, classes=data.classes)
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]
    wanted = pictures(net, PLAN, made.labels, seed=2)
    assert (made.images.float() / 255 - wanted).abs().max() <= 0.5 / 255 + 1e-6


def test_all_measures_are_given_with_their_scale() -> None:
    data, test = some_photographs(30), some_photographs(12, seed=1)
    found = list(measure_generator(tiny_net(), PLAN, train=data, test=test, per_class=10, epochs=2))
    assert len(found) == 3
    assert all(math.isfinite(one.made) and math.isfinite(one.real) for one in found)
    assert found[0].made > found[0].real  # an untrained generator
    assert found[1].made > found[1].real
    assert str(Measured("x", 1.23456, 0.5)) == "x: 1.235 (as many training photographs: 0.5)"
    with pytest.raises(InputError, match=r"classes trained on \(a, b, c\), got a, b\.$"):
        expect_same_classes(data, some_photographs(classes=2))


# ---------------------------------------------------------------------- the command


def train(*options: object, data: Path, out: Path) -> tuple[object, ...]:
    return (
        "train", "generator", "--data", data, "--out", out, "--steps", 1, "--batch", 4,
        "--encoder-steps", 1, "--guide-size", 16, "--device", "cpu", *options,
    )  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with tiny networks and measures."""
    where = ((0.5, 0.5), (0.8, 0.8))
    monkeypatch.setattr(command, "object_statistics", lambda *_, **__: where)
    measured = [Measured("a measure", 1.0, 2.0)]
    monkeypatch.setattr(command, "measure_generator", lambda *_, **__: measured)


@pytest.mark.usefixtures("small")
def test_the_command_leaves_weights_and_pictures(tmp_path: Path) -> None:
    data, out = write_photographs(tmp_path / "photographs", side=32), tmp_path / "trained"
    answer = invertkit(*train("--test", data, "--samples", 3, data=data, out=out))
    assert answer.code == 0, answer
    assert answer.out == f"{out}/generator.safetensors\n"
    for line in ("step 1/1 real", "encoder step 1/1", "generator.safetensors: ", "samples: 3",
                 "a measure: 1 (as many training photographs: 2)"):  # fmt: skip
        assert line in answer.err
    names = sorted(path.name for path in out.iterdir())
    assert names == [CHECKPOINT, "generator.safetensors", "samples", "samples.png"]
    loaded = embedded_generator(weights=out / "generator.safetensors")
    assert loaded.classes == ("blue", "red")

    again = invertkit(*train(data=data, out=out))
    assert (
        f"is of an earlier training. Go on with it by --resume {out}/{CHECKPOINT}" in again.sentence
    )
    rest = invertkit(*train("--resume", out / CHECKPOINT, data=data, out=tmp_path / "second"))
    assert rest.code == 0
    second = embedded_generator(weights=tmp_path / "second" / "generator.safetensors")
    assert same(loaded.state_dict(), second.state_dict())


def test_the_options_default_to_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[GeneratorPlan] = []

    def keep(*, plan: GeneratorPlan, **_: object) -> Path:
        given.append(plan)
        return Path("x")

    monkeypatch.setattr(command, "train_and_measure_generator", keep)
    asked = ("train", "generator", "--data", "d", "--out", "o", "--device", "cpu")
    assert invertkit(*asked).out == "x\n"
    assert invertkit(*asked, "--no-guide", "--bf16", "--lr", "1e-3", "--critic-lr", "2e-3",
                     "--guide-size", 32, "--seed", 7).code == 0  # fmt: skip
    assert given == [
        GeneratorPlan(),
        GeneratorPlan(guide_layers=(), bf16=True, lr=1e-3, critic_lr=2e-3, guide_size=32, seed=7),
    ]


def test_help_does_not_import_torch() -> None:
    script = """
import sys
from invertkit.cli import main
sys.argv = ["invertkit", "train", "generator", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--critic-lr" in done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--batch", "6"], "expected --steps at least 1 and --batch a multiple of 4, got 1 and 6."),
        (["--steps", "0"], "got 0 and 4."),
        (["--lr", "nan"], "expected --lr and --critic-lr above 0 and at most 1, got nan"),
        (["--critic-lr", "0"], "above 0 and at most 1"),
        (["--guide-size", "8"], "--guide-size at least 16"),
        (["--encoder-steps", "0"], "--encoder-steps at least 1"),
        (["--seed", "-1"], "--seed from 0 to 4294967295"),
        (["--samples", "-1"], "expected --samples not below 0, got -1."),
        (["--data", "none"], "none: no such folder or zip file."),
        (["--test", "none"], "none: no such folder or zip file."),
        (["--resume", "none.pt"], "none.pt: is not a checkpoint of this training"),
        (["--device", "tpu"], "device: expected auto, cpu, cuda"),
    ],
)
def test_wrong_options_are_told(tmp_path: Path, options: list[str], sentence: str) -> None:
    data = write_photographs(tmp_path / "photographs", side=32)
    assert sentence in invertkit(*train(*options, data=data, out=tmp_path / "out")).sentence
    assert not (tmp_path / "out").exists()


def test_a_test_set_of_other_classes_is_told_before_training(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "photographs", side=32)
    other = write_photographs(tmp_path / "other", side=32)
    (other / "red").rename(other / "green")
    answer = invertkit(*train("--test", other, data=data, out=tmp_path / "out"))
    assert "of the classes trained on (blue, red), got blue, green." in answer.sentence


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "photographs", side=32)
    answer = invertkit(*train(data=data, out=data / "red" / "0.png" / "x"))
    assert "cannot be written" in answer.sentence


def test_an_interruption_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = write_photographs(tmp_path / "photographs", side=32), tmp_path / "out"

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "train_encoder", interrupt)
    answer = invertkit(*train("--no-guide", data=data, out=out))
    assert answer.code == 130
    assert answer.out == ""
    wanted = f"Interrupted. Go on with the same options and --resume {out}/{CHECKPOINT}.\n"
    assert answer.err.endswith(wanted)
    monkeypatch.setattr(command, "train_generator", interrupt)
    answer = invertkit(*train(data=data, out=tmp_path / "other"))
    assert answer.code == 130
    assert answer.err == "Interrupted before the first checkpoint.\n"


def test_weights_of_something_else_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"architecture": '"kitnet"'})
    with pytest.raises(Exception, match="was not made by `invertkit train generator`"):
        embedded_generator(weights=path)
