"""The pictures that the package finds by name."""

from __future__ import annotations

import pytest
import yaml

from invertkit.core.images import demo
from invertkit.core.images.demo import find_picture
from invertkit.core.images.load import load_image
from invertkit.core.images.masks import load_mask

NAMES = list(yaml.safe_load(demo._LIST.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_is_there_and_every_photograph_names_its_author(name: str) -> None:
    picture = find_picture(name)
    assert picture.path.is_file()
    masks = {"flower-mask": "flower", "flower-target": "flower", "cat-mask": "cat"}
    if name in masks:
        mask = load_mask(picture.path)
        assert mask.shape[-2:] == load_image(find_picture(masks[name]).path).shape[-2:]
        assert 0.05 < float(mask.float().mean()) < 0.8
    else:
        assert "a photograph by " in picture.credit
