from __future__ import annotations

import os
import subprocess
import sys

import pytest

from invertkit.models.classifiers import architectures
from invertkit.models.classifiers.catalogue import (
    ENTRIES,
    find,
    near,
    select,
)


def test_every_published_model_has_its_line() -> None:
    """Salman et al.: four architectures over ten l2 radii, three over five linf, six at two."""
    published = [entry for entry in ENTRIES.values() if entry.source == "salman2020"]
    assert len(published) == 4 * 10 + 3 * 5 + 6 * 2
    assert len(select(architecture="wide_resnet50_4")) == 10
    assert {entry.eps for entry in select(norm="linf", source="salman2020")} == {0.5, 1, 2, 4, 8}
    for entry in published:
        assert entry.file == entry.name.replace("-", "_") + ".ckpt"
        assert entry.accuracy is not None
        assert 40 < entry.accuracy < 80
    named = (entry for entry in ENTRIES.values() if entry.name != "embedded")  # one of the twins
    files = [entry.file for entry in named if entry.file]
    assert len(set(files)) == len(files)
    library = {(e.dataset, e.norm, e.eps) for e in select(source="robustness")}
    assert library == {
        ("cifar10", "l2", 0), ("cifar10", "l2", 0.25), ("cifar10", "l2", 0.5), ("cifar10", "l2", 1),
        ("cifar10", "linf", 8), ("imagenet", "l2", 3), ("imagenet", "linf", 4),
        ("imagenet", "linf", 8), ("imagenet", "none", 0),
    }  # fmt: skip


def test_accuracy_falls_with_the_radius_in_every_family() -> None:
    """Except for noise at the smallest radii."""
    for architecture in ("resnet18", "resnet50", "wide_resnet50_2", "wide_resnet50_4"):
        for norm in ("l2", "linf"):
            found = select(architecture=architecture, norm=norm, source="salman2020")
            by_radius = [e.accuracy for e in sorted(found, key=lambda e: e.eps) if e.eps >= 0.1]
            assert by_radius == sorted(by_radius, reverse=True)
    eps = find("resnet50-l2-eps0.05")
    assert eps is not None
    assert eps.accuracy == 75.59
    assert "MAGIC" in eps.note


@pytest.mark.parametrize("name", list(ENTRIES))
def test_every_architecture_of_the_table_can_be_built(name: str) -> None:
    entry = ENTRIES[name]
    shapes = architectures._own_shapes(entry.architecture, 1000)
    assert shapes
    assert len(entry.mean) == len(entry.std) == 3
    assert entry.licence
    assert entry.paper


def test_names_are_found_however_the_radius_is_written() -> None:
    assert find("resnet50-l2-eps3.0") is ENTRIES["resnet50-l2-eps3"]
    assert find("resnet50-linf-eps4") is ENTRIES["resnet50-linf-eps4.0"]
    assert find("resnet50-l2-eps3.01") is None
    assert find("resnet50") is None
    assert near("resnet50-l2-eps0.06") == ["resnet50-l2-eps0.05"]


def test_filters() -> None:
    assert {e.architecture for e in select(architecture="resnet50")} == {"resnet50"}
    assert {e.architecture for e in select(architecture="wide")} == {
        "wide_resnet50_2", "wide_resnet50_4",
    }  # fmt: skip
    assert all(e.eps == 0.5 for e in select(eps=0.5))
    assert all(e.eps <= 0.05 for e in select(max_eps=0.05))
    assert all(e.eps == 0 or e.norm == "none" for e in select(norm="none"))
    assert len(select(norm="none")) > 8
    assert [e.name for e in select(words=["aaai"])] == ["resnet50-l2-eps0.05"]
    assert select(words=["no such word"]) == []
    assert select() == list(ENTRIES.values())


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from unittest import mock\n"
        "from invertkit.cli import main\n"
        "for words in (['models'], ['models', 'show', 'resnet50-l2-eps0.05'], ['models', '--json'],"
        " ['--help'], ['models', 'fetch', 'embedded']):\n"
        "    with mock.patch.object(sys, 'argv', ['invertkit', *words]):\n"
        "        try: main()\n"
        "        except SystemExit as end: assert not end.code, end.code\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip().endswith("False")
