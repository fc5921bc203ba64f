"""The loop of adversarial training: what it does to weights, checkpoints and reports."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError, WeightsError
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.loading.safetensors_file import metadata
from invertkit.training.classifier.card import save_classifier
from invertkit.training.classifier.normalized import Normalized
from invertkit.training.classifier.start import Start, starting_network
from invertkit.training.classifier.train import TrainingPlan, accuracy, train_classifier
from invertkit.training.data.batches import InMemory, Share, TrainingBatch
from invertkit.training.data.photographs import PhotographSet, load_photographs
from invertkit.training.loop.checkpoints import CHECKPOINT, read_checkpoint, write_checkpoint
from invertkit.training.loop.history import TrainingHistory, TrainingMoment
from invertkit.training.robustness.attack import Attack
from invertkit.training.robustness.pgd import pgd
from tests.helpers import KITNET
from tests.photographs import write_photographs

WIDTHS = (4, 4, 8, 8)
CLASSES = ("blue", "red")
QUIET: Callable[[str], None] = lambda line: None


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> PhotographSet:
    folder = write_photographs(tmp_path_factory.mktemp("data") / "photographs")
    return load_photographs(folder, resolution=16)


def plan(**changes: object) -> TrainingPlan:
    options = {"attack": Attack(steps=2, random_start=True), "epochs": 3, "clean_epochs": 1,
               "size": 16, "batch": 4, "lr": 0.1, "widths": WIDTHS}  # fmt: skip
    return TrainingPlan(**{**options, **changes})  # type: ignore[arg-type]


def kitnet(*, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Start:
    start = starting_network(classes=classes, widths=WIDTHS, seed=seed)
    return replace(start, mean=(0.4, 0.4, 0.5), std=(0.3, 0.2, 0.3))


def alike(first: nn.Module, second: nn.Module) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


# ---------------------------------------------------------------------- what it does


def test_a_tiny_training_lowers_the_loss_and_can_be_stored(
    photographs: PhotographSet, tmp_path: Path
) -> None:
    said: list[str] = []
    chosen, before = plan(epochs=5, ema=0.5), torch.random.get_rng_state()
    model = train_classifier(chosen, photographs, out=tmp_path, start=kitnet(), report=said.append)
    assert torch.equal(torch.random.get_rng_state(), before)
    lost = [float(line.split("loss ")[1].split()[0]) for line in said[1:]]
    assert said[0] == "kitnet, random weights; 12 photographs."
    assert len(lost) == 5
    assert lost[-1] < lost[0]
    assert accuracy(model, photographs, size=16) > 0.9

    path = tmp_path / "classifier.safetensors"
    save_classifier(model, chosen, kitnet(), CLASSES, path)
    facts = {key: json.loads(value) for key, value in metadata(path).items()}
    assert facts["classes"] == ["blue", "red"]
    assert facts["architecture"] == "kitnet"
    assert facts["widths"] == [*WIDTHS]
    assert facts["plan"]["attack"]["eps"] == 0.05
    loaded = open_classifier(path)
    assert loaded.classes == CLASSES
    assert loaded.size == 16
    images = photographs.images[:3].float() / 255
    with torch.no_grad():
        assert torch.allclose(loaded(images), model(images), atol=0.05)  # stored as float16


def test_weights_beyond_float16_are_stored_whole(tmp_path: Path) -> None:
    start = kitnet()
    with torch.no_grad():
        start.net.get_submodule("fc").weight.mul_(1e7)  # type: ignore[operator, union-attr]
    model = Normalized(start.net, torch.zeros(3), torch.ones(3))
    save_classifier(model, plan(), start, CLASSES, tmp_path / "c.safetensors")
    with safe_open(tmp_path / "c.safetensors", framework="pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert kept["fc.weight"].dtype == torch.float32
    assert kept["stem.0.weight"].dtype == torch.float16
    assert all(value.isfinite().all() for value in kept.values())


def test_one_step_is_the_step_of_the_equation(photographs: PhotographSet, tmp_path: Path) -> None:
    """Attack in evaluation mode, update in training mode, by hand."""
    attack = Attack("l2", 0.5, 2)
    chosen = plan(attack=attack, epochs=1, clean_epochs=0, lr_schedule="constant", batch=12,
                  momentum=0.0, nesterov=False, smoothing=0.2, weight_decay=0.01)  # fmt: skip
    start = kitnet()
    by_hand = deepcopy(start.net).to(memory_format=torch.channels_last)
    (batch,) = InMemory(photographs).epoch(0, size=16, batch=12, seed=0, share=Share())
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (start.mean, start.std))

    def model(images: Tensor) -> Tensor:
        return by_hand((images - mean) / std)  # type: ignore[no-any-return]

    by_hand.eval()
    whole: Any = model
    shown = batch.images.to(memory_format=torch.channels_last)
    attacked = pgd(attack, whole, shown, batch.labels)
    by_hand.train()
    loss = F.cross_entropy(model(attacked), batch.labels, label_smoothing=0.2)
    by_hand.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in by_hand.parameters():
            slope = parameter.grad
            assert slope is not None
            if parameter.ndim > 1:
                slope = slope + 0.01 * parameter
            parameter -= 0.1 * slope
    trained = train_classifier(chosen, photographs, out=tmp_path, start=start, report=QUIET)
    for (name, value), wanted in zip(
        trained.net.state_dict().items(), by_hand.state_dict().values(), strict=True
    ):
        assert torch.allclose(value.double(), wanted.double(), atol=1e-6), name


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_norms_keep_their_statistics_to_the_bit_and_the_rest_learns(
    *, frozen: bool, photographs: PhotographSet, tmp_path: Path
) -> None:
    start = kitnet()
    before = deepcopy(start.net.state_dict())
    trained = train_classifier(
        plan(freeze_norms=frozen), photographs, out=tmp_path, start=start, report=QUIET
    )
    for name, value in trained.net.state_dict().items():
        if "num_batches" in name:
            assert (int(value) == 0) == frozen
        else:
            assert torch.equal(value, before[name]) == (frozen and "running" in name), name


def test_frozen_norms_freeze_nothing_else(photographs: PhotographSet, tmp_path: Path) -> None:
    """Dropout goes on: at a share of 1 the head sees nothing, and only its bias has a slope."""
    start = kitnet()
    start.net.fc = nn.Sequential(nn.Dropout(1.0), nn.Linear(8, 2))
    before = deepcopy(start.net.fc[1])
    chosen = plan(freeze_norms=True, attack=Attack(eps=0.0), weight_decay=0.0)
    trained = train_classifier(chosen, photographs, out=tmp_path, start=start, report=QUIET)
    head: Any = trained.net.get_submodule("fc.1")
    assert torch.equal(head.weight, before.weight)
    assert not torch.equal(head.bias, before.bias)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_share_of_the_start_is_mixed_into_the_result_alone(
    ema: float, photographs: PhotographSet, tmp_path: Path
) -> None:
    """Weights and statistics are the mean; the training itself, and so its checkpoint, is not."""
    start, kept = kitnet(), kitnet()
    plain = train_classifier(
        plan(ema=ema), photographs, out=tmp_path / "plain", start=start, report=QUIET
    )
    mixed = train_classifier(
        plan(ema=ema, start_share=0.25), photographs, out=tmp_path / "mixed", start=kitnet(),
        report=QUIET,
    )  # fmt: skip
    first = kept.net.state_dict()
    for name, value in mixed.net.state_dict().items():
        if value.is_floating_point():
            wanted = 0.75 * plain.net.state_dict()[name] + 0.25 * first[name]
            assert torch.allclose(value, wanted, atol=1e-6), name
    states = [
        read_checkpoint(tmp_path / name / CHECKPOINT, device=torch.device("cpu"))["model"]
        for name in ("plain", "mixed")
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_adam_takes_the_steps_of_pytorchs_on_frozen_norms(
    photographs: PhotographSet, tmp_path: Path
) -> None:
    """Two steps by hand, in evaluation mode throughout; norms and biases do not decay."""
    attack = Attack("l2", 0.5, 1)
    chosen = plan(attack=attack, epochs=2, clean_epochs=0, lr_schedule="constant", batch=12,
                  lr=0.01, optimizer="adam", freeze_norms=True, smoothing=0.0,
                  weight_decay=0.1)  # fmt: skip
    start = kitnet()
    net = deepcopy(start.net).to(memory_format=torch.channels_last).eval()
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (start.mean, start.std))
    first = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
    second = deepcopy(first)

    def model(images: Tensor) -> Tensor:
        return net((images - mean) / std)  # type: ignore[no-any-return]

    whole: Any = model
    for step in (1, 2):
        (batch,) = InMemory(photographs).epoch(step - 1, size=16, batch=12, seed=0, share=Share())
        shown = batch.images.to(memory_format=torch.channels_last)
        attacked = pgd(attack, whole, shown, batch.labels)
        net.zero_grad()
        F.cross_entropy(model(attacked), batch.labels).backward()
        with torch.no_grad():
            for name, value in net.named_parameters():
                assert value.grad is not None
                if value.ndim > 1:
                    value *= 1 - 0.01 * 0.1
                first[name] = 0.9 * first[name] + 0.1 * value.grad
                second[name] = 0.999 * second[name] + 0.001 * value.grad.square()
                slope = first[name] / (1 - 0.9**step)
                value -= 0.01 * slope / ((second[name] / (1 - 0.999**step)).sqrt() + 1e-8)
    trained = train_classifier(chosen, photographs, out=tmp_path, start=start, report=QUIET)
    for name, value in trained.net.named_parameters():
        assert torch.allclose(value, net.get_parameter(name), atol=2e-4), name


def test_low_epochs_show_smaller_pictures(photographs: PhotographSet, tmp_path: Path) -> None:
    rows: list[Any] = []
    train_classifier(
        plan(size=20, low_epochs=2, low_size=16), photographs, out=tmp_path, start=kitnet(),
        report=QUIET, observers=[lambda moment: rows.append(moment.row)], log_every=1,
    )  # fmt: skip
    assert [row.size for row in rows] == [16] * 6 + [20] * 3
    assert [row.eps for row in rows] == pytest.approx([0] * 3 + [0.04] * 3 + [0.05] * 3)
    assert [row.step for row in rows] == [*range(1, 10)]


def test_bfloat16_trains_too(photographs: PhotographSet, tmp_path: Path) -> None:
    model = train_classifier(
        plan(epochs=1, clean_epochs=0, bf16=True), photographs, out=tmp_path, report=QUIET
    )
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_without_labels_the_network_keeps_to_what_it_said(
    norm: Any, photographs: PhotographSet, tmp_path: Path
) -> None:
    labelled = train_classifier(
        plan(epochs=4), photographs, out=tmp_path / "a", start=kitnet(), report=QUIET
    )
    start = replace(kitnet(), net=labelled.net)
    before = deepcopy(labelled).eval()
    unlabelled = PhotographSet(photographs.images, torch.zeros_like(photographs.labels), ())
    eps = 1.5 if norm == "l2" else 0.08
    chosen = plan(label_free=True, epochs=20, clean_epochs=0, lr=0.05,
                  attack=Attack(norm, eps, 2, random_start=True))  # fmt: skip
    model = train_classifier(chosen, unlabelled, out=tmp_path / "b", start=start, report=QUIET)
    images = photographs.images.float() / 255
    with torch.no_grad():
        said = before(images).softmax(1)
        assert torch.equal(model(images).argmax(1), said.argmax(1))

    def divergence(network: nn.Module) -> float:
        points = pgd(Attack(norm, eps, 10, eps / 4), network, images, said)
        with torch.no_grad():
            now = F.log_softmax(network(points), 1)
            return float(F.kl_div(now, said, reduction="batchmean"))

    assert divergence(model) < 0.7 * divergence(before)


def test_folding_changes_nothing_but_rounding(
    photographs: PhotographSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"label_free": True, "epochs": 2, "clean_epochs": 0, "lr": 0.01}
    usual, folds = torch.nn.Conv2d.forward, [0]
    trained = []

    def counted(self: nn.Conv2d, image: torch.Tensor) -> torch.Tensor:
        folds[0] += self.bias is not None
        return usual(self, image)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", counted)
    for fold in (False, True):
        folds[0] = 0
        trained.append(
            train_classifier(
                plan(fold=fold, **options), photographs, out=tmp_path / str(fold),
                start=kitnet(), report=QUIET,
            )
        )  # fmt: skip
        assert (folds[0] > 0) is fold
    apart = [
        (a.double() - b.double()).abs().max()
        for a, b in zip(
            trained[0].state_dict().values(), trained[1].state_dict().values(), strict=True
        )
    ]
    assert 0 < max(apart) < 1e-4


# ---------------------------------------------------------------------- stopping and going on


def interrupted(step: int, number: int = signal.SIGINT) -> Callable[[TrainingMoment], None]:
    def observe(moment: TrainingMoment) -> None:
        if moment.step == step:
            os.kill(os.getpid(), number)

    return observe


@pytest.fixture(scope="module")
def whole(photographs: PhotographSet, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("whole")
    model = train_classifier(
        plan(ema=0.9), photographs, out=out, start=kitnet(), report=QUIET,
        observers=[TrainingHistory(out / "history.csv")], log_every=2,
    )  # fmt: skip
    return model, numbers(out / "history.csv")


def numbers(path: Path) -> list[list[str]]:
    """The rows without their speed."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row[:-1] for row in csv.reader(file)]


@pytest.mark.parametrize("step", [1, 3, 5, 8])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_goes_on_where_it_was_stopped(
    step: int, number: int, whole: Any, photographs: PhotographSet, tmp_path: Path
) -> None:
    def train(*, resume: bool, at: int, stop: int = 0) -> nn.Module:
        return train_classifier(
            plan(ema=0.9), photographs, out=tmp_path, start=kitnet(), resume=resume, report=QUIET,
            observers=[
                interrupted(stop, number), TrainingHistory(tmp_path / "history.csv", step=at),
            ], log_every=2,
        )  # fmt: skip

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(resume=False, at=0, stop=step)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert read_checkpoint(tmp_path / CHECKPOINT, device=torch.device("cpu"))["step"] == step
    model = train(resume=True, at=step)
    assert alike(model, whole[0])
    assert numbers(tmp_path / "history.csv") == whole[1]


def test_adam_goes_on_where_it_was_stopped(photographs: PhotographSet, tmp_path: Path) -> None:
    chosen = plan(optimizer="adam", lr=0.01, freeze_norms=True)

    def train(out: Path, *, stop: int = 0, resume: bool = False) -> nn.Module:
        return train_classifier(chosen, photographs, out=out, start=kitnet(), resume=resume,
                                report=QUIET, observers=[interrupted(stop)])  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", stop=4)
    assert alike(train(tmp_path / "stopped", resume=True), train(tmp_path / "whole"))


def test_a_stop_asked_for_between_two_steps_is_not_kept(
    photographs: PhotographSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = InMemory.epoch

    def asking(*args: Any, **options: Any) -> Iterator[TrainingBatch]:
        for batch in batches(*args, **options):
            signal.raise_signal(signal.SIGINT)
            yield batch

    monkeypatch.setattr(InMemory, "epoch", asking)
    with pytest.raises(KeyboardInterrupt):
        train_classifier(plan(), photographs, out=tmp_path, start=kitnet(), report=QUIET)
    kept = read_checkpoint(tmp_path / CHECKPOINT, device=torch.device("cpu"))
    assert kept["step"] == 1
    assert kept["tallies"].tolist()[2:] == [4, 0]


def test_photographs_kept_otherwise_are_another_training(
    photographs: PhotographSet, tmp_path: Path
) -> None:
    options: Any = {"out": tmp_path, "report": QUIET}
    train_classifier(plan(), photographs, start=kitnet(), **options)
    larger = PhotographSet(
        photographs.images.repeat_interleave(2, 2).repeat_interleave(2, 3),
        photographs.labels,
        photographs.classes,
    )
    with pytest.raises(InputError, match=r"photographs kept at 16 pixels, not kept at 32 pixels"):
        train_classifier(plan(), larger, start=kitnet(), resume=True, **options)


@given(step=st.integers(2, 9))
def test_a_killed_training_goes_on_from_its_last_checkpoint(
    step: int, whole: Any, photographs: PhotographSet, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(moment: TrainingMoment) -> None:
        if moment.step == step:
            raise Killed

    options: Any = {"out": tmp_path, "start": kitnet(), "report": QUIET}
    with pytest.raises(Killed):
        train_classifier(plan(ema=0.9), photographs, observers=[kill], save_every=0.0, **options)
    kept = read_checkpoint(tmp_path / CHECKPOINT, device=torch.device("cpu"))
    assert kept["step"] == step - 1
    options["start"] = kitnet()
    assert alike(train_classifier(plan(ema=0.9), photographs, resume=True, **options), whole[0])


@pytest.mark.parametrize(
    ("change", "start", "rows", "message"),
    [
        ({"lr": 0.2}, {}, 12, "was begun with lr 0.1, not 0.2"),
        ({}, {"origin": "other weights"}, 12, "kitnet, random weights, not kitnet, other weights"),
        ({}, {}, 8, "12 photographs, not 8"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    change: Any, start: Any, rows: int, message: str, photographs: PhotographSet, tmp_path: Path
) -> None:
    fewer = PhotographSet(photographs.images[:rows], photographs.labels[:rows], CLASSES)
    train_classifier(plan(epochs=2), photographs, out=tmp_path, start=kitnet(), report=QUIET)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match=message):
        train_classifier(
            plan(epochs=2, **change), fewer, out=tmp_path, start=replace(kitnet(), **start),
            resume=True, report=QUIET,
        )  # fmt: skip
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_no_checkpoint_is_a_sentence(
    content: bytes | None, photographs: PhotographSet, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(InputError, match=r"no such checkpoint|is not a whole checkpoint"):
        train_classifier(plan(), photographs, out=tmp_path, resume=True, report=QUIET)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """A disk on which no file grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_checkpoint_before(
    photographs: PhotographSet, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_classifier(
            plan(), photographs, out=tmp_path, start=kitnet(), report=QUIET,
            observers=[interrupted(2)],
        )  # fmt: skip
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with files_up_to(2_000), pytest.raises(InputError, match=r"The one before, if any, is whole"):
        train_classifier(
            plan(), photographs, out=tmp_path, start=kitnet(), resume=True, report=QUIET
        )
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    untrained = Normalized(kitnet().net, torch.zeros(3), torch.ones(3))
    path = tmp_path / "classifier.safetensors"
    with files_up_to(2_000), pytest.raises(InputError, match=r"classifier\.safetensors: cannot be"):
        save_classifier(untrained, plan(), kitnet(), CLASSES, path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT]


def test_a_diverged_training_keeps_the_checkpoint_before(
    photographs: PhotographSet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"loss was not finite before step \d.*smaller --lr"):
        train_classifier(
            plan(lr=1e30, clean_epochs=0, rise=0.0), photographs, out=tmp_path, start=kitnet(),
            report=QUIET, save_every=0.0, log_every=1,
        )  # fmt: skip
    kept = read_checkpoint(tmp_path / CHECKPOINT, device=torch.device("cpu"))
    assert all(value.isfinite().all() for value in kept["model"].values())


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    write_checkpoint({"a": torch.ones(3)}, path)
    with files_up_to(1_000), pytest.raises(InputError, match="cannot be written"):
        write_checkpoint({"a": torch.ones(10_000)}, path)
    assert torch.equal(read_checkpoint(path, device=torch.device("cpu"))["a"], torch.ones(3))
    torch.save({"format": 99}, path)
    with pytest.raises(InputError, match="has format 99"):
        read_checkpoint(path, device=torch.device("cpu"))


def test_too_few_photographs_are_a_sentence(photographs: PhotographSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has 12 photographs, fewer than a batch of 256"):
        train_classifier(plan(batch=256), photographs, out=tmp_path, report=QUIET)


# ---------------------------------------------------------------------- what it starts from


def test_trained_weights_are_a_start_that_keeps_or_replaces_the_head() -> None:
    kept = starting_network(classes=(), init=KITNET)
    assert kept.widths == (24, 48, 96, 192)
    assert (kept.size, len(kept.classes)) == (64, 10)
    whole = open_classifier(KITNET)
    assert alike(kept.net, whole.net)
    assert kept.mean == pytest.approx(whole.mean)
    same = starting_network(classes=kept.classes, init=KITNET)
    assert alike(same.net, kept.net)
    other = starting_network(classes=CLASSES, init=KITNET)
    state = other.net.state_dict()
    assert state["fc.weight"].shape == (2, 192)
    assert other.origin.endswith("with a new last layer")
    for name, value in kept.net.state_dict().items():
        assert name.startswith("fc.") or torch.equal(state[name], value)
    renamed = starting_network(classes=tuple("abcdefghij"), init=KITNET)  # as many, not the same
    assert not torch.equal(
        renamed.net.state_dict()["fc.weight"], kept.net.state_dict()["fc.weight"]
    )


def test_the_embedded_classifier_is_a_start() -> None:
    start = starting_network(classes=(), init="embedded")
    assert (start.architecture, start.size) == ("timm:tf_efficientnet_lite0", 224)
    assert (start.mean, start.std) == ((0.5,) * 3, (0.5,) * 3)
    assert start.classes == open_classifier("embedded").classes
    assert alike(start.net, open_classifier("embedded").net)


def test_a_timm_model_starts_with_its_own_normalisation_and_a_new_head(tmp_path: Path) -> None:
    start = starting_network(classes=CLASSES, model="timm:test_resnet", pretrained=False)
    assert (start.architecture, start.size, start.fixed) == ("timm:test_resnet", 160, False)
    assert start.net(torch.zeros(2, 3, 32, 32)).shape == (2, 2)
    assert start.mean == start.net.pretrained_cfg["mean"]  # type: ignore[comparison-overlap]
    ten = starting_network(classes=tuple("abcdefghij"), model="timm:test_resnet", pretrained=False)
    save_file(ten.net.state_dict(), tmp_path / "raw.safetensors")
    again = starting_network(
        classes=CLASSES, model="timm:test_resnet", init=tmp_path / "raw.safetensors"
    )
    for name, value in ten.net.state_dict().items():
        assert name.startswith("fc.") or torch.equal(again.net.state_dict()[name], value)
    assert again.net.state_dict()["fc.weight"].shape[0] == 2
    whole = starting_network(
        classes=tuple("abcdefghij"), model="timm:test_resnet", init=tmp_path / "raw.safetensors"
    )
    assert alike(whole.net, ten.net)


def test_the_same_seed_makes_the_same_network() -> None:
    assert alike(kitnet(seed=3).net, kitnet(seed=3).net)
    assert not alike(kitnet(seed=3).net, kitnet(seed=4).net)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"model": "resnet18"},
            InputError,
            "--model: expected kitnet or timm:NAME, got 'resnet18'",
        ),
        ({"model": "timm:resnot"}, InputError, "--model: expected kitnet or timm:NAME"),
        (
            {"model": "timm:resnet18", "init": KITNET},
            InputError,
            "holds a kitnet, not the timm",
        ),
        ({"init": "none.safetensors"}, WeightsError, "no such weights file"),
        ({"classes": ()}, InputError, "a new network needs labelled photographs"),
        ({"widths": (1, 2, 3)}, InputError, "widths: expected four numbers"),
    ],
)
def test_a_start_that_cannot_be_is_a_sentence(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        starting_network(**{"classes": CLASSES, **options})


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"some.weight": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors"):
        starting_network(classes=CLASSES, init=tmp_path / "other.safetensors")


def test_rows_are_what_they_say(photographs: PhotographSet, tmp_path: Path) -> None:
    seen: list[TrainingMoment] = []
    train_classifier(
        plan(epochs=2), photographs, out=tmp_path, start=kitnet(), report=QUIET,
        observers=[seen.append], log_every=2,
    )  # fmt: skip
    assert [moment.step for moment in seen] == [1, 2, 3, 4, 5, 6]
    rows = [moment.row for moment in seen if moment.row is not None]
    assert [row.step for row in rows] == [2, 3, 5, 6]
    assert [row.epoch for row in rows] == [1, 1, 2, 2]
    assert [row.eps for row in rows] == [0, 0, 0.05, 0.05]
    chosen = plan(epochs=2)
    assert [row.lr for row in rows] == [chosen.lr_at(row.step - 1, 3) for row in rows]
    assert all(0 <= row.accuracy <= 1 and row.loss > 0 for row in rows)
    assert set(asdict(rows[0])) == {"step", "epoch", "size", "eps", "lr", "loss", "accuracy",
                                    "images_per_second"}  # fmt: skip


class _Recorder(nn.Module):
    """A linear network that keeps what it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.seen = nn.Linear(3, 2), list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.seen.append(images.detach().clone())
        return self.fc(images.mean((2, 3)))  # type: ignore[no-any-return]


def test_random_starts_lie_on_the_sphere_and_never_come_again(tmp_path: Path) -> None:
    grey = torch.full((12, 3, 16, 16), 128, dtype=torch.uint8)  # on which no augmentation shows
    data = PhotographSet(grey, torch.arange(12) % 2, CLASSES)
    net = _Recorder()
    start = Start(net, "kitnet", CLASSES, mean=(0.0,) * 3, std=(1.0,) * 3)
    noise = plan(attack=Attack("l2", 0.5, 0, random_start=True), epochs=2, clean_epochs=0)
    train_classifier(noise, data, out=tmp_path, start=start, report=QUIET)
    moved = torch.cat(net.seen) - 128 / 255
    assert len(moved) == 24
    assert torch.allclose(moved.flatten(1).norm(dim=1), torch.tensor(0.5), atol=1e-5)
    angles = torch.corrcoef(moved.flatten(1))
    assert angles.fill_diagonal_(0).abs().max() < 0.2
