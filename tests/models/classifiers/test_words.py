from __future__ import annotations

import importlib
import inspect

import pytest

from invertkit.models.classifiers.words import SOURCES, Source, is_file_name, source_of


@pytest.mark.parametrize(
    ("word", "is_file"),
    [
        ("resnet50-l2-eps0.05", False), ("timm:resnet50.a1_in1k", False), ("resnet50", False),
        ("hf-hub:own/model", False), ("torchvision:resnet50.IMAGENET1K_V1", False),
        ("model.safetensors", True), ("runs/x/classifier.safetensors", True), ("w.ckpt", True),
        ("checkpoint.pt.latest", True), ("./w", True), ("w.pth.tar", True),
    ],
)  # fmt: skip
def test_words_that_name_files(word: str, is_file: bool) -> None:  # noqa: FBT001
    assert is_file_name(word) is is_file


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("embedded", "embedded"), ("embedded-eps1", "ARCHITECTURE-NORM-epsRADIUS"),
        ("resnet50-l2-eps0.05", "ARCHITECTURE-NORM-epsRADIUS"), ("timm:resnet50", "timm:NAME"),
        ("torchvision:resnet50.IMAGENET1K_V1", "torchvision:NAME"), ("w.ckpt", "FILE"),
        ("hf-hub:own/model", "hf-hub:OWNER/NAME"), ("resnet50", None), ("timm:", None),
    ],
)  # fmt: skip
def test_every_word_has_its_source(word: str, form: str | None) -> None:
    source = source_of(word)
    assert (source.form if source else None) == form


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.form)
def test_every_source_of_the_table_has_its_module(source: Source) -> None:
    module = importlib.import_module(f"invertkit.models.classifiers.sources.{source.module}")
    assert list(inspect.signature(module.opened).parameters) == ["word", "weights", "pretrained"]
