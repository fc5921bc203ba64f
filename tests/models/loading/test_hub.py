"""Weights from the hub: the real client, its real cache in a folder made here, offline."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from invertkit.errors import InputError, WeightsError
from invertkit.models.classifiers.catalogue import ENTRIES, Entry
from invertkit.models.loading import hub
from invertkit.models.loading.hub import weights_of
from tests.models.loading.checkpoints import (
    Payload,
    checkpoint_of_training,
    hub_cache,
    robustness_layout,
    state_of,
)

NAME = "shufflenet-l2-eps0"
HUB = "madrylab/robust-imagenet-models"


def offline(cache: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """A new Python whose hub client reads its settings anew: no network, this cache."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cache.parent / "home"),
        "HF_HUB_CACHE": str(cache),
        "TORCH_HOME": str(cache.parent / "torch"),
        "OMP_NUM_THREADS": "1",
        **more,
    }
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a published file in the published layout, and two timm models."""
    folder = tmp_path_factory.mktemp("hub")
    state = state_of("shufflenet_v2_x1_0")
    torch.save(checkpoint_of_training(robustness_layout(state)), folder / "w.ckpt")
    hub_cache(folder / "cache", HUB, {"shufflenet_l2_eps0.ckpt": folder / "w.ckpt"})
    config = {"architecture": "resnet10t", "num_classes": 3, "pretrained_cfg": {
        "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "label_names": ["a", "b", "c"],
        "input_size": [3, 160, 160], "first_conv": "conv1.0", "classifier": "fc"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    small = state_of("timm:resnet10t", classes=3)
    save_file(small, folder / "model.safetensors")
    hub_cache(folder / "cache", "own/good", {
        name: folder / name for name in ("config.json", "model.safetensors")})  # fmt: skip
    torch.save({**small, "extra": Payload(folder / "ran")}, folder / "pytorch_model.bin")
    hub_cache(folder / "cache", "own/hostile", {
        name: folder / name for name in ("config.json", "pytorch_model.bin")})  # fmt: skip
    return folder / "cache"


def test_a_model_fetched_by_name_runs_in_magic_unchanged(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = offline(
        cache, "-m", "invertkit", "run", "magic", "--set", f"models.classifier={NAME}",
        "--set", "stages=[{size: 48, steps: 2}]", "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (out / "result.png").is_file()
    page = (out / "recipe.yaml").read_text()
    assert f"{NAME} (shufflenet_l2_eps0.ckpt, sha256 " in page + done.stderr + done.stdout


def test_the_commands_find_it_in_the_cache(cache: Path) -> None:
    done = offline(cache, "-m", "invertkit", "models", "fetch", NAME)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.is_file()
    assert cache in path.parents


def test_what_is_not_there_offline_is_one_sentence(cache: Path) -> None:
    done = offline(cache, "-m", "invertkit", "models", "fetch", "resnet50-l2-eps0.05")
    assert done.returncode == 2
    (line,) = done.stderr.strip().split("\n")
    assert "cannot be fetched (HF_HUB_OFFLINE is set)" in line
    assert f"/{HUB}/resolve/main/resnet50_l2_eps0.05.ckpt" in line
    assert "`weights:`" in line
    done = offline(cache, "-m", "invertkit", "models", "fetch", "cifar10-resnet50-l2-eps0.5")
    assert done.returncode == 2
    (line,) = done.stderr.strip().split("\n")
    assert "HF_HUB_OFFLINE is set" in line
    assert "cifar_l2_0_5.pt?dl=1" in line


def test_models_of_the_hub_that_timm_builds(cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "open.py"
    script.write_text(
        "import sys\n"
        "from invertkit.models.classifiers.verify import verify\n"
        f"found = verify({NAME!r})\n"
        "print(found.normaliser, '|', found.published, '|', found.architecture, found.duplicates)\n"
        "from invertkit.errors import WeightsError\n"
        "from invertkit.models.classifiers.open import open_classifier\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        c = open_classifier(name)\n"
        "        print(c.description, c.classes, c.mean, c.size)\n"
        "    except WeightsError as error:\n"
        "        print('refused:', error)\n"
    )
    done = offline(cache, script, "hf-hub:own/good", "hf-hub:own/hostile", "hf-hub:own/none")
    assert done.returncode == 0, done.stderr
    verified, good, hostile, none = done.stdout.strip().split("\n")
    agreed, published, fits = verified.split(" | ")
    assert agreed.endswith("in the file's entries; as the catalogue says")
    assert published == "no checksum is published"
    assert fits == f"shufflenet_v2_x1_0 {len(state_of('shufflenet_v2_x1_0'))}"
    assert good.startswith("hf-hub:own/good (its own weights, model.safetensors, sha256 ")
    assert good.endswith("('a', 'b', 'c') (0.1, 0.2, 0.3) 160")
    assert hostile.startswith("refused: The weights of hf-hub:own/hostile hold more than tensors")
    assert not (cache.parent / "ran").exists()
    assert none.startswith("refused: The weights of hf-hub:own/none are not in the cache")


# ---------------------------------------------------------------------- links


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Entry, Path]]:
    """An entry whose link leads to a server on this machine, and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    make = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        entry = ENTRIES["cifar10-resnet50-l2-eps0.5"]
        yield replace(entry, url=f"http://127.0.0.1:{server.server_port}/{entry.file}"), folder
        server.shutdown()


@pytest.fixture(autouse=True)
def _shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_a_file_behind_a_link_is_fetched_once(served: tuple[Entry, Path]) -> None:
    entry, folder = served
    (folder / entry.file).write_bytes(b"weights")
    assert not hub.is_cached(entry)
    path = weights_of(entry)
    assert path.read_bytes() == b"weights"
    assert hub.is_cached(entry)
    (folder / entry.file).unlink()
    assert weights_of(entry) == path


def test_a_file_behind_a_link_may_be_kept_in_a_folder(
    served: tuple[Entry, Path], tmp_path: Path
) -> None:
    entry, folder = served
    (folder / entry.file).write_bytes(b"weights")
    assert hub.fetch(entry, folder=tmp_path / "mine") == tmp_path / "mine" / entry.file
    assert weights_of(entry, tmp_path / "mine") == tmp_path / "mine" / entry.file


def test_a_link_that_leads_nowhere_is_one_sentence(served: tuple[Entry, Path]) -> None:
    entry, _ = served
    with pytest.raises(WeightsError, match=r"cannot be fetched \(HTTP Error 404") as caught:
        hub.fetch(entry)
    assert entry.url in str(caught.value)
    assert not hub.is_cached(entry)


def test_a_file_that_is_not_the_published_one_is_refused(served: tuple[Entry, Path]) -> None:
    entry, folder = served
    (folder / entry.file).write_bytes(b"weights")
    with pytest.raises(WeightsError, match="cannot be fetched"):
        hub.fetch(replace(entry, sha256="0" * 64))
    assert not hub.is_cached(entry)
    hub.fetch(entry)
    with pytest.raises(WeightsError, match="is not the published file of"):
        weights_of(replace(entry, sha256="0" * 64))


def test_a_folder_that_cannot_be_written_is_one_sentence(
    served: tuple[Entry, Path], tmp_path: Path
) -> None:
    entry, folder = served
    (folder / entry.file).write_bytes(b"weights")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((InputError, WeightsError)):
        hub.fetch(entry, folder=tmp_path / "file")


def test_a_folder_without_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no resnet50_l2_eps0.05.ckpt, which is the file"):
        weights_of(ENTRIES["resnet50-l2-eps0.05"], tmp_path)
