"""`edit`: change the object of a finished projection, and blend it back into its photograph."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import Tensor

from invertkit import __version__
from invertkit.apps.editing.compose import Placing, Region, compose, generate
from invertkit.apps.editing.directions import (
    REACH,
    Steering,
    class_blend,
    principal_directions,
    steering_directions,
)
from invertkit.core.images.load import Inputs, save_png, to_picture
from invertkit.errors import InputError, WeightsError
from invertkit.models.generators.generator import Generator
from invertkit.models.loading.weights_file import metadata, read_weights
from invertkit.recipe.build import build_part, stage_part
from invertkit.recipe.page import Page, validate
from invertkit.recipe.registry import Registry
from invertkit.runs import checkpoint
from invertkit.runs.folder.write import new_folder
from invertkit.runs.job import pick_device
from invertkit.variables.base import Variable
from invertkit.variables.latent import Latent, Transformed, Tuned
from invertkit.variables.transforms.base import Transform

log = logging.getLogger("invertkit")

COMPONENTS: Final = 16
"""How many principal components there are to choose from."""

_TILE, _LABEL, _GAP = 256, 18, 4
_COLUMNS = 9
_STEPS = 3
_MOST_FRAMES = 99


@final
@dataclass(frozen=True)
class Change:
    """What is changed at strength 1.

    Args:
        label: The new class, by name or number.
        components: Steps along principal components, by number.
        shift: To the right and down, in sides of the generator's picture.
        zoom: How much larger.
    """

    label: str | int | None = None
    components: Mapping[int, float] | None = None
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0

    @property
    def words(self) -> list[str]:
        """Each of its parts; none if nothing changes."""
        found = [] if self.label is None else [f"class {self.label}"]
        for number, amount in (self.components or {}).items():
            found.append(f"component {number}:{amount:g}")
        if self.shift != (0, 0):
            found.append(f"shift {self.shift[0]:g},{self.shift[1]:g}")
        return found if self.zoom == 1 else [*found, f"zoom {self.zoom:g}"]

    def walks(self) -> dict[Steering, float]:
        """How far to go along each learned direction."""
        wanted: dict[Steering, float] = {
            "shift_x": self.shift[0],
            "shift_y": self.shift[1],
            "zoom": math.log(self.zoom),
        }
        return {name: amount for name, amount in wanted.items() if amount}


@final
@dataclass(frozen=True)
class Edited:
    """Edited pictures, one for each strength.

    Args:
        images: The photograph with the edited object blended in.
        generated: The generator's own edited pictures.
        strengths: Of the edit.
        photograph: What they were blended into.
        projection: The generator's picture as the run left it.
        region: Where the photograph could change.
        change: What was changed at strength 1.
        facts: What was done, as in `edit.json`.
    """

    images: Float[Tensor, "n 3 h w"]
    generated: Float[Tensor, "n 3 s s"]
    strengths: tuple[float, ...]
    photograph: Float[Tensor, "3 h w"]
    projection: Float[Tensor, "3 s s"]
    region: Bool[Tensor, "1 h w"]
    change: Change
    facts: Mapping[str, Any]

    def sheet(self) -> Image.Image:
        """Photograph, projection, edited and blended pictures, labelled."""
        title = f"{self.facts['run']}, seed {self.facts['seed']}: {_said(self.change)}"
        start = [("photograph", self.photograph), ("projection", self.projection)]
        if len(self.strengths) == 1:
            at = "" if self.strengths[0] == 1 else f" at strength {self.strengths[0]:g}"
            edited = [(f"edited{at}", self.generated[0])] if self.change.words else []
            return _grid([[*start, *edited, ("blended", self.images[0])]], title)
        shown = _spread(len(self.strengths))
        rows = zip(start, ("blended", "edited"), (self.images, self.generated), strict=True)
        return _grid(
            [
                [first, *((f"{what}, strength {self.strengths[i]:g}", row[i]) for i in shown)]
                for first, what, row in rows
            ],
            title,
        )

    def frames(self) -> list[Image.Image]:
        """The blended pictures, each under its strength."""
        title = _said(self.change)
        return [
            _grid([[(f"strength {strength:+.2f}: {title}", image)]], tile=image.shape[-2])
            for strength, image in zip(self.strengths, self.images, strict=True)
        ]


def edit(
    run: str | Path,
    *,
    label: str | int | None = None,
    components: Mapping[int, float] | None = None,
    shift: tuple[float, float] = (0.0, 0.0),
    zoom: float = 1.0,
    strength: float | Sequence[float] = 1.0,
    seed: int | None = None,
    region: Region = "mask",
    mixed: bool = False,
    size: int = 512,
    steps: int = 200,
    device: str = "auto",
    models: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
) -> Edited:
    """Change the object of a finished projection, and blend it back into its photograph.

    The edits add up; without any, the projection itself is blended in. Directions that have to be
    learned are kept in `directions/` of the run's folder.

    Args:
        run: Folder that `invertkit run project` left.
        label: Class to go to, by name or number.
        components: Steps along the generator's principal components, by number from 0, in
            standard deviations of the latent.
        shift: To the right and down, in sides of the generator's picture.
        zoom: How much larger; below 1, smaller.
        strength: How far to go, 1 for all of it; or several, for a sweep.
        seed: Which image of the run; by default that of the lowest loss.
        region: Where the photograph may change: in the `mask`, or in a `box` around it.
        mixed: Keep the photograph's own gradients where they are the larger ones.
        size: Side of the blended pictures, never more than the photograph's own.
        steps: Of Adam, for the directions of shift and zoom.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        models: The networks that were given to the run from Python, if any were.
        out: Folder to write; without it no picture is written.

    Returns:
        Pictures, one for each strength.

    Raises:
        InputError: The folder holds no finished projection, or an edit does not exist.
    """
    began = time.monotonic()
    change = Change(label, dict(components or {}), shift, zoom)
    strengths = _strengths(strength)
    _check(change, strengths)
    done = _Projection(Path(run), seed, device=pick_device(device), models=models or {})
    change = _known(change, done.generator)
    folder = _folder(Path(out)) if out is not None else None
    try:
        latents, embeddings, learned = _moved(done, change, strengths, steps=steps)
        generator, weights = done.generator, done.tensors.get("weights")
        pictures = generate(generator, latents, embeddings, weights)
        plain = generate(generator, done.tensors["latent"], done.tensors["embedding"], weights)
        photograph, mask = done.photograph(size)
        images, inside = compose(
            photograph,
            pictures.cpu(),
            mask,
            placing=Placing(done.transform, done.tensors.get("transform")),
            region=region,
            mixed=mixed,
        )
    except BaseException:
        if folder is not None and not any(folder.iterdir()):
            folder.rmdir()
        raise
    facts: dict[str, Any] = {
        "run": Path(run).resolve().name,
        "recipe": done.page.name,
        "seed": done.seed,
        "change": asdict(change),
        "strengths": list(strengths),
        "region": region,
        "mixed": mixed,
        "size": list(photograph.shape[-2:]),
        "blended_pixels": int(inside.sum()),
        "mask_pixels": int(mask.sum()),
        "directions": learned,
        "generator": generator.description,
        "device": str(done.device),
        "seconds": round(time.monotonic() - began, 2),
        "invertkit": __version__,
    }
    result = Edited(
        images, pictures.cpu(), strengths, photograph, plain[0].cpu(), inside, change, facts
    )
    if region == "mask" and facts["blended_pixels"] < 0.95 * facts["mask_pixels"]:
        log.info(
            f"The generated picture reaches {facts['blended_pixels'] / facts['mask_pixels']:.0%} "
            "of the mask; the rest keeps the photograph."
        )
    if folder is not None:
        _write(result, folder)
    return result


def edit_as_written(
    run: Path,
    *,
    label: str | None,
    components: Sequence[str],
    shift: str | None,
    zoom: float,
    strength: float | None,
    sweep: str | None,
    seed: int | None,
    region: str,
    mixed: bool,
    size: int,
    steps: int,
    device: str,
    out: Path | None,
) -> Path:
    """`edit` with its options as texts; the folder it wrote, by default one in `RUN/edits`.

    Raises:
        InputError: An option cannot be read, or as `edit`.
    """
    if region not in ("mask", "box"):
        raise InputError(f"--region: expected mask or box, got {region!r}.")
    if strength is not None and sweep is not None:
        raise InputError("--sweep: has strengths of its own; leave out --strength.")
    strengths: Sequence[float] = (1.0 if strength is None else strength,)
    if sweep is not None:
        first, last, count = _numbers("--sweep", sweep, ":", 3, "FROM:TO:COUNT, such as 0:1:9")
        if count < 2 or count > _MOST_FRAMES or count != int(count):
            raise InputError(f"--sweep: expected 2 to {_MOST_FRAMES} strengths, got {count:g}.")
        steps_up = int(count) - 1
        strengths = [(first * (steps_up - i) + last * i) / steps_up for i in range(steps_up + 1)]
    moves: dict[int, float] = {}
    for text in components:
        number, amount = _numbers(
            "--component", text if ":" in text else f"{text}:{_STEPS}", ":", 2,
            "N or N:STEPS, such as 2 or 2:-1.5",
        )  # fmt: skip
        if number != int(number):
            raise InputError(f"--component: expected a whole number, got {number:g}.")
        moves[int(number)] = amount
    right, down = (
        (0.0, 0.0)
        if shift is None
        else _numbers("--shift", shift, ",", 2, "RIGHT,DOWN, such as 0.1,0")
    )
    change = Change(label, moves, (right, down), zoom)
    name = _name(change, strengths, region=region, mixed=mixed)
    folder = out or run / "edits" / (name if seed is None else f"seed={seed}_{name}")
    edit(
        run,
        label=label,
        components=moves,
        shift=(right, down),
        zoom=zoom,
        strength=strengths,
        seed=seed,
        region="box" if region == "box" else "mask",
        mixed=mixed,
        size=size,
        steps=steps,
        device=device,
        out=folder,
    )
    return folder


def _numbers(option: str, text: str, separator: str, count: int, form: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(separator)]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise InputError(f"{option}: expected {form}, got {text!r}.")
    return values


def _name(change: Change, strengths: Sequence[float], *, region: str, mixed: bool) -> str:
    """What a folder is called after what was changed."""
    words = change.words or ["blend"]
    if len(strengths) > 1:
        words.append(f"sweep {strengths[0]:g},{strengths[-1]:g},{len(strengths)}")
    elif strengths[0] != 1:
        words.append(f"strength {strengths[0]:g}")
    words += [region] * (region != "mask") + ["mixed"] * mixed
    plain = (word.replace(" ", "=", 1).replace(":", ",") for word in words)
    return "_".join(re.sub(r"[^\w.,+=-]+", "-", word) for word in plain)


# ---------------------------------------------------------------------- what is asked for


def _strengths(strength: float | Sequence[float]) -> tuple[float, ...]:
    values = (strength,) if isinstance(strength, int | float) else tuple(strength)
    if not values or not all(math.isfinite(value) for value in values):
        raise InputError(f"strength: expected a finite number or several, got {strength!r}.")
    return tuple(float(value) for value in values)


def _check(change: Change, strengths: tuple[float, ...]) -> None:
    if not change.words and strengths != (1.0,):
        raise InputError(
            "strength: there is nothing to edit. Give a class, a component, a shift or a zoom; "
            "without any, the projection itself is blended in, which has no strength."
        )
    if not math.isfinite(change.zoom) or change.zoom <= 0:
        raise InputError(f"zoom: expected a factor above 0, such as 1.2, got {change.zoom:g}.")
    if len(change.shift) != 2 or not all(math.isfinite(value) for value in change.shift):
        raise InputError(f"shift: expected two finite numbers, got {change.shift}.")


def _known(change: Change, generator: Generator) -> Change:
    """The change, with the class by its name.

    Raises:
        InputError: The generator has no such class or component.
    """
    count = min(COMPONENTS, generator.latent)
    for number, amount in (change.components or {}).items():
        if not 0 <= number < count:
            raise InputError(f"component: expected 0 to {count - 1}, got {number}.")
        if not math.isfinite(amount):
            raise InputError(f"component: expected a finite amount, got {amount}.")
    if change.label is None:
        return change
    known = generator.classes[generator.label(change.label)]
    return Change(known, change.components, change.shift, change.zoom)


def _folder(folder: Path) -> Path:
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder}: exists and is not empty, and nothing is overwritten. Choose another "
            "folder with `--out`."
        )
    return new_folder(folder)


# ---------------------------------------------------------------------- the run


@final
class _Projection:
    """What a finished run found, and the networks to go on with.

    Raises:
        InputError: It is missing, unfinished, or not a projection.
    """

    def __init__(
        self, run: Path, seed: int | None, *, device: torch.device, models: Mapping[str, Any]
    ) -> None:
        self.run, self.device = run, device
        if not run.is_dir():
            raise InputError(
                f"{run}: no such folder; expected that of a finished `invertkit run project`."
            )
        begun, state = checkpoint.load(run)
        registry = Registry()
        for path in begun["parts"]:
            registry = registry.with_parts(Path(path))
        self.page: Page = validate(begun["recipe"])
        if name := begun["photographs"][0]["name"]:
            raise InputError(
                f"{run}: is a run over several photographs; edit one of them, such as {run / name}."
            )
        self.inputs = Inputs.load(begun["photographs"][0])
        self.transform, latent = _unwrapped(run, self.page, registry)
        batches = state["done"]
        losses = {
            kept: loss
            for batch in batches
            for kept, loss in zip(batch["seeds"], batch["best_losses"], strict=True)
        }
        if state["now"] is not None or any(kept not in losses for kept in begun["seeds"]):
            raise InputError(f"{run}: is unfinished; first `invertkit resume {run}`.")
        self.seed = min(losses, key=lambda kept: losses[kept]) if seed is None else seed
        if self.seed not in losses:
            known = ", ".join(map(str, losses))
            raise InputError(f"seed: {run} has no image of seed {seed}; it has: {known}.")
        self.generator = self._generator(latent.model, begun["models"], registry, models)
        self.tensors = self._tensors()

    def _generator(
        self, name: str, given: Sequence[str], registry: Registry, models: Mapping[str, Any]
    ) -> Generator:
        if name in given and name not in models:
            raise InputError(
                f"{self.run}: was made with a generator given from Python; edit it from there: "
                f"`invertkit.edit({str(self.run)!r}, models={{{name!r}: …}}, …)`."
            )
        node = self.page.models.get(name)
        made = models.get(name) or build_part(
            "model",
            {"type": node} if isinstance(node, str) else node,
            at=f"models.{name}",
            registry=registry,
        )
        if not isinstance(made, Generator):
            raise InputError(f"models.{name}: expected a generator, got {type(made).__name__}.")
        before = _described(self.run / "recipe.yaml", name)
        if before is not None and before != made.description:
            raise InputError(
                f"{self.run}: was made with {before}; here is {made.description}, to which its "
                "latents mean nothing. Project the photograph again."
            )
        return made.to(self.device)

    def _tensors(self) -> dict[str, Tensor]:
        path = self.run / "tensors" / f"seed-{self.seed}.safetensors"
        if not path.is_file():
            raise InputError(f"{path}: no such file; the run's folder is not whole.")
        found = read_weights(path)
        wanted = {
            "latent": self.generator.latent,
            "embedding": self.generator.table.shape[1],
            "weights": self.generator.tunable_size(),
        }
        if self.transform is not None:
            wanted["transform"] = self.transform.size
        for name, length in wanted.items():
            if name == "weights" and name not in found:
                continue
            if name not in found or tuple(found[name].shape) != (1, length):
                raise InputError(
                    f"{path}: expected a tensor {name!r} of shape (1, {length}), as "
                    f"{self.generator.description} has it; the run's folder is not whole."
                )
        return {name: value.to(self.device) for name, value in found.items()}

    def photograph(self, size: int) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "1 h w"]]:
        """The part that the run saw, as large as it is but for `size`; and its mask."""
        image, mask = self.inputs.image, self.inputs.mask
        if image is None or mask is None:
            lacking = "photograph" if image is None else "mask"
            raise InputError(f"{self.run}: has no {lacking}, so there is nowhere to blend.")
        if size < 16:
            raise InputError(f"size: expected at least 16 pixels, got {size}.")
        height, width = image.shape[-2:]
        fit = self.page.fit
        own = round(math.sqrt(height * width)) if fit == "keep" else min(height, width)
        fitted = self.inputs.at(self.inputs.size(min(own, size), fit), fit)
        assert fitted.image is not None  # noqa: S101 # as there was one
        assert fitted.mask is not None  # noqa: S101
        return fitted.image[0], fitted.mask[0]


def _unwrapped(run: Path, page: Page, registry: Registry) -> tuple[Transform | None, Latent]:
    """The transform and the latents that the last stage optimised."""
    at, node = "variable", page.variable
    for key, stage in page.in_order():
        if stage.variable is not None:
            at = f"stages.{key}.variable"
            node = stage_part("variable", stage.variable, page) or page.variable
    variable: Variable = build_part("variable", node, at=at, registry=registry)
    if isinstance(variable, Tuned):
        variable = variable.inner
    if isinstance(variable, Transformed):
        return variable.transform, variable.inner
    if isinstance(variable, Latent):
        return None, variable
    raise InputError(
        f"{run}: is a run of {page.name}, which projects nothing into a generator; expected one of "
        "`invertkit run project`."
    )


def _described(page: Path, name: str) -> str | None:
    """What the header of a resolved page calls a model."""
    if not page.is_file():
        return None
    found = re.search(
        rf"^# Model {re.escape(name)}: (.*)\.$", page.read_text(encoding="utf-8"), re.MULTILINE
    )
    return found[1] if found else None


# ---------------------------------------------------------------------- moving


def _moved(
    done: _Projection, change: Change, strengths: Sequence[float], *, steps: int
) -> tuple[Float[Tensor, "n z"], Float[Tensor, "n e"], dict[str, Any]]:
    """Latents and embeddings at every strength, and what is known of the directions."""
    generator = done.generator
    latent, embedding = done.tensors["latent"], done.tensors["embedding"]
    move, learned = torch.zeros_like(latent), {}
    for name, part, facts in _parts(done, change, steps=steps):
        move = move + part.to(latent)
        learned[name] = facts
    latents = torch.cat([latent + strength * move for strength in strengths])
    if change.label is None:
        return latents, embedding.expand(len(latents), -1), learned
    new = generator.table[generator.label(change.label)]
    embeddings = torch.cat([class_blend(embedding, new, strength) for strength in strengths])
    return latents, embeddings, learned


def _parts(
    done: _Projection, change: Change, *, steps: int
) -> Iterator[tuple[str, Float[Tensor, " z"], dict[str, Any]]]:
    generator = done.generator
    if change.components:
        count = min(COMPONENTS, generator.latent)

        def analyse() -> dict[str, Tensor]:
            found = principal_directions(generator, count=count)
            return {"directions": found.directions, "variances": found.variances}

        kept = _kept(done, "components", {"count": count}, analyse)
        for number, amount in change.components.items():
            said = {"amount": amount, "variance": round(float(kept["variances"][number]), 5)}
            yield f"component {number}", amount * kept["directions"][:, number], said
    for edit_name, amount in change.walks().items():
        reach = REACH[edit_name]

        def learn(edit_name: Steering = edit_name) -> dict[str, Tensor]:
            walk = steering_directions(generator, edit_name, steps=steps)
            return {
                "direction": walk.direction,
                "losses": torch.tensor([walk.still, walk.loss]),
            }

        kept = _kept(done, edit_name, {"steps": steps}, learn)
        before, after = kept["losses"].tolist()
        log.info(
            f"{edit_name}: the learned direction leaves {after / max(before, 1e-12):.0%} of the "
            "distance to a picture that is edited outright, on latents it has not seen."
        )
        if abs(amount) > reach:
            log.info(f"{edit_name}: {amount:.2g} is beyond ±{reach:g}, as far as it was learned.")
        facts = {"amount": amount, "loss_without": before, "loss": after}
        yield edit_name, amount * kept["direction"], facts


def _kept(
    done: _Projection,
    name: str,
    options: Mapping[str, Any],
    make: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Tensors from `directions/` of the run's folder; made and written where they are lacking."""
    path = done.run / "directions" / f"{name}.safetensors"
    facts = {"generator": done.generator.description, **{k: str(v) for k, v in options.items()}}
    try:
        if path.is_file() and metadata(path) == facts:
            return read_weights(path)
    except WeightsError:
        log.info(f"{path}: is damaged, and made again.")
    log.info(f"{name}: working out the direction; it is kept for the next edit of this run.")
    made = {key: value.contiguous() for key, value in make().items()}
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(exist_ok=True)
        save_file(made, partial, metadata=facts)
        partial.replace(path)
    except OSError as error:
        log.info(f"{path}: cannot be written ({error.strerror or error}), so it is not kept.")
    return made


# ---------------------------------------------------------------------- pictures


def _said(change: Change) -> str:
    return ", ".join(change.words) or "the projection as it is"


def _spread(count: int) -> list[int]:
    """At most so many places as fit on a sheet, the first and the last among them."""
    shown = min(count, _COLUMNS)
    return [round(i * (count - 1) / (shown - 1)) for i in range(shown)]


def _grid(
    rows: Sequence[Sequence[tuple[str, Tensor]]], title: str = "", *, tile: int = _TILE
) -> Image.Image:
    """Pictures of one height under their labels."""
    tiles = [[(label, _sized(to_picture(image), tile)) for label, image in row] for row in rows]
    columns = [max(tile.width for _, tile in column) for column in zip(*tiles, strict=True)]
    top = _LABEL if title else 0
    size = (
        sum(columns) + _GAP * (len(columns) - 1),
        top + len(rows) * (tile + _LABEL),
    )
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    draw.text((2, 1), title, fill="black", font=font)
    for r, row in enumerate(tiles):
        left = 0
        for (label, picture), width in zip(row, columns, strict=True):
            draw.text((left + 2, top + r * (tile + _LABEL) + 1), label, fill="black", font=font)
            canvas.paste(picture, (left, top + r * (tile + _LABEL) + _LABEL))
            left += width + _GAP
    return canvas


def _sized(picture: Image.Image, height: int) -> Image.Image:
    width = max(1, round(picture.width * height / picture.height))
    if (width, height) == picture.size:
        return picture
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _write(result: Edited, folder: Path) -> None:
    text = {"edit": _said(result.change), "software": f"invertkit {__version__}"}
    try:
        save_png(result.images[-1], folder / "edited.png", text=text)
        if len(result.strengths) > 1:
            (folder / "frames").mkdir()
            for i, (strength, image) in enumerate(
                zip(result.strengths, result.images, strict=True)
            ):
                save_png(image, folder / "frames" / f"{i:02}_{strength:+.3f}.png", text=text)
            _save_animation(result.frames(), folder / "animation.gif")
        result.sheet().save(folder / "sheet.png")
        (folder / "edit.json").write_text(json.dumps(result.facts, indent=2), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}).") from None


def _save_animation(frames: Sequence[Image.Image], path: Path) -> None:
    """There and back again, all frames in the colours of one palette."""
    montage = Image.new("RGB", (frames[0].width * 3, frames[0].height))
    for i, frame in enumerate((frames[0], frames[len(frames) // 2], frames[-1])):
        montage.paste(frame, (i * frame.width, 0))
    palette = montage.quantize(256)
    order = [*frames, *frames[-2:0:-1]]
    times = [120] * len(order)
    times[0] = times[len(frames) - 1] = 600
    small = [frame.quantize(palette=palette) for frame in order]
    small[0].save(path, save_all=True, append_images=small[1:], duration=times, loop=0)
