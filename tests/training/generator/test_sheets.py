"""Pictures of a generator, singly and on a sheet."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from invertkit.training.generator.sheets import export, pictures, sheet
from tests.training.generator.tiny import PLAN, tiny_net


def test_pictures_are_those_of_the_latents_drawn_by_the_seed() -> None:
    net, labels = tiny_net(), torch.tensor([2, 0, 2])
    draw = torch.Generator().manual_seed(4)
    latent = torch.randn(3, PLAN.latent, generator=draw).clamp(-2, 2)
    wanted = net(latent, net.embeddings.weight.T[labels]) / 2 + 0.5
    torch.testing.assert_close(pictures(net, labels, seed=4), wanted)


def test_the_sheet_and_the_single_pictures(tmp_path: Path) -> None:
    net = tiny_net()
    whole = sheet(net, classes=3, columns=2)
    assert whole.shape == (3, 3 * 34, 2 * 34)
    made = pictures(net, torch.arange(3).repeat_interleave(2))
    assert torch.equal(whole[:, 35:67, 1:33], made[2])
    export(net, tmp_path / "samples", classes=("a", "b", "c"), count=4)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert names == [f"samples/{x}.png" for x in ("a/000000", "a/000003", "b/000001", "c/000002")]
    with Image.open(tmp_path / names[0]) as picture:
        assert picture.size == (32, 32)
