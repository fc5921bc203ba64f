"""What fewer bits in the networks' products do to the picture.

    python benchmarks/precision.py DATA --edits tiger,leopard,duck

DATA is a folder of edits, `NAME/{image.jpg,mask.png,target_position.png}`. Every edit is made in
float32, in float32 with another seed (how far apart pictures are that are equally good), in bf16,
and in TF32, which a CPU does not have: there the factors of every convolution and matrix product,
forward and backward, are rounded to 10 bits before it. The table gives the mean absolute
difference to the float32 picture in levels of 255 where pixels are free, the IoU of the object
with the target by a judge trained for the photograph, and the distance of patches.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

import invertkit
from invertkit.core.images.inputs import load_inputs
from invertkit.core.images.specs import SHORT
from invertkit.metrics.judge import train_judge
from invertkit.metrics.mask_iou import mask_iou
from invertkit.metrics.patch_similarity import bidirectional_similarity

BARE = {"objective.nearest": None, "objective.patches": None}
"""Without the terms that compare patches, so that the classifier makes the picture."""


@final
class Tf32(TorchDispatchMode):
    """Rounds what products multiply to 10 bits of mantissa, to nearest, ties to even."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func._overloadpacket in flop_registry and func.namespace == "aten":
            args = tree_map_only(Tensor, rounded, args)
        return func(*args, **(kwargs or {}))


def rounded(numbers: Tensor) -> Tensor:
    """float32 numbers to 10 bits of mantissa; others as they are."""
    if numbers.dtype != torch.float32:
        return numbers
    bits = numbers.contiguous().view(torch.int32)
    even = (bits >> 13) & 1
    return ((bits + 0xFFF + even) & ~0x1FFF).view(torch.float32).reshape(numbers.shape)


WAYS: dict[str, tuple[dict[str, Any], type[AbstractContextManager[Any]]]] = {
    "float32": ({"precision": "float32"}, nullcontext),
    "float32, seed 1": ({"precision": "float32", "seed": 1}, nullcontext),
    "tf32": ({"precision": "float32", "compile": "off"}, Tf32),
    "bf16": ({"precision": "bf16"}, nullcontext),
}


def measured(folder: Path, recipe: str, overrides: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each way of making one edit."""
    paths = [folder / name for name in ("image.jpg", "mask.png", "target_position.png")]
    wanted, judge = torch.empty(0), None
    for name, (options, context) in WAYS.items():
        with context():
            result = invertkit.run(
                recipe,
                image=paths[0],
                mask=paths[1],
                target=paths[2],
                device="cpu",
                overrides=overrides,
                progress=False,
                **options,
            )
        picture = result.images
        height, width = picture.shape[-2:]
        inputs = load_inputs(dict(zip(("image", "mask", "target"), paths, strict=True)), SHORT).at(
            (height, width), result.recipe.get("fit", "stretch")
        )
        image, mask, target = map(inputs.need, ("image", "mask", "target"))
        judge = judge or train_judge(image, mask)
        if name == "float32":
            wanted = picture
        free = (wanted - image).abs().amax(1, keepdim=True) > 0
        apart = ((picture - wanted).abs() * free).sum() / (3 * free.sum()) * 255
        yield {
            "edit": folder.name,
            "way": name,
            "difference": round(apart.item(), 2),
            "iou": round(
                mask_iou(picture, target, image, mask, judge=judge).item(),
                4,
            ),
            "patch_distance": round(bidirectional_similarity(picture, image).item(), 5),
            "seconds": round(result.seconds, 1),
        }


def main() -> None:
    """Measure and print, as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of edits")
    parser.add_argument("--edits", default="", help="names, with commas; all by default")
    parser.add_argument("--recipe", default="magic")
    parser.add_argument("--bare", action="store_true", help="without the terms of patches")
    options = parser.parse_args()
    names = (
        options.edits.split(",")
        if options.edits
        else sorted(path.name for path in options.data.iterdir() if path.is_dir())
    )
    writer: csv.DictWriter[str] | None = None
    for name in names:
        for row in measured(options.data / name, options.recipe, BARE if options.bare else {}):
            if writer is None:
                writer = csv.DictWriter(sys.stdout, list(row))
                writer.writeheader()
            writer.writerow(row)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
