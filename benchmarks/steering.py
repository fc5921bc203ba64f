"""How much of the distance to a moved picture shift and zoom leave, on latents not learned from.

    python benchmarks/steering.py
    python benchmarks/steering.py --generator trained/generator.safetensors --pictures 24

Of each move: the learned straight walk, and a descent of some steps from its end, with z and the
class embedding (`invertkit edit --refine`). Latents, classes and strengths are drawn as the walk's
held-out ones; the distance is that of `invertkit.apps.editing.refining`, summed over the pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from invertkit.apps.editing.directions import REACH, steering_directions
from invertkit.apps.editing.refining import refined
from invertkit.models.generators.open import embedded_generator


def main() -> None:
    """Measure and print a row for each move."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", type=Path, help="of `invertkit train generator`")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--steps", type=int, default=200, help="to learn the walk by")
    parser.add_argument("--refine", type=int, nargs="*", default=[0, 30, 60])
    parser.add_argument("--moves", nargs="*", choices=list(REACH), default=list(REACH))
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = embedded_generator(weights=options.generator)
    print(generator.description)
    print("| move | " + " | ".join(f"{steps} steps" for steps in options.refine) + " |")
    print("|---" * (1 + len(options.refine)) + "|", flush=True)
    for move in options.moves:
        walk = steering_directions(generator, move, steps=options.steps)
        draws = torch.Generator().manual_seed(1)
        deviates = torch.randn(options.pictures, len(walk.direction), generator=draws)
        amounts = (2 * torch.rand(options.pictures, generator=draws) - 1) * REACH[move]
        labels = torch.randint(len(generator.classes), (options.pictures,), generator=draws)
        start = {
            name: generator.tables[name][labels] if name in generator.tables else deviates
            for name in generator.latents
        }
        leading = generator.leading
        walked = start | {leading: start[leading] + amounts[:, None] * walk.direction}
        cells = []
        for steps in options.refine:
            found = refined(generator, start, walked, {move: amounts}, steps=steps)
            cells.append(f"{float(found.losses.sum() / found.still.sum()):.2f}")
        print(f"| {move} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
