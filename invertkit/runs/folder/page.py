"""The report of a run, one self-contained HTML file."""

from __future__ import annotations

import base64
import io
import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import torch
from PIL import Image
from torch import Tensor

from invertkit.core.version import __version__
from invertkit.recipe.page import dump_yaml

if TYPE_CHECKING:
    from invertkit.runs.result import Result

_COLOURS: Final = (
    "#1b6ca8", "#c8553d", "#588b3a", "#8a4fae", "#b8860b", "#2a9d8f", "#d1495b", "#5c677d",
)  # fmt: skip


def resolved_page(result: Result) -> str:
    """The recipe as it ran, with version, seeds, device and weights in its header."""
    lines = [
        f"# Resolved by invertkit {__version__} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        f"# Python {platform.python_version()}, torch {torch.__version__}, "
        f"device {result.device}, seeds {', '.join(map(str, result.seeds))}.",
        *(f"# Model {name}: {what}." for name, what in result.models.items()),
    ]
    return "\n".join(lines) + "\n" + dump_yaml(dict(result.recipe))


def html(result: Result, picture: Image.Image, facts: dict[str, Any]) -> str:
    """One self-contained page: pictures, loss curves by term, timing, an animation."""
    from jinja2 import Environment

    template = (resources.files("invertkit.runs.folder") / "report.html.jinja").read_text(
        encoding="utf-8"
    )
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    history = result.history
    total = history.pop("total")
    return environment.from_string(template).render(
        name=result.recipe.get("name", "recipe"),
        summary=result.recipe.get("summary", ""),
        source=result.recipe.get("source", ""),
        sentence=facts["sentence"],
        facts=facts,
        models=result.models,
        picture=_data_url(picture, "PNG"),
        animation=_animation(result.frames),
        curves=[
            {"name": name, "svg": curve(values[0].tolist(), _COLOURS[i % len(_COLOURS)])}
            for i, (name, values) in enumerate({"total": total, **history}.items())
        ],
        page=resolved_page(result),
        version=__version__,
    )


def _data_url(picture: Image.Image, form: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{data}"


def _animation(frames: Sequence[Tensor]) -> str:
    """An animated WebP of the way; nothing if there are fewer than two frames."""
    if len(frames) < 2:
        return ""
    height, width = frames[-1].shape[-2:]
    pictures = [
        Image.fromarray(frame.permute(1, 2, 0).numpy()).resize(
            (2 * width, 2 * height), Image.Resampling.BICUBIC
        )
        for frame in frames
    ]
    times = [120] * (len(pictures) - 1) + [1500]
    return _data_url(
        pictures[0],
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=times,
        loop=0,
        quality=80,
    )


def curve(values: Sequence[float], colour: str, *, width: int = 360, height: int = 110) -> str:
    """A line over the steps as SVG; logarithmic where all values are positive.

    Example:
        >>> curve([1.0, 0.5, 0.25], "#000", width=8).endswith("<small>1 → 0.25 (log scale)</small>")
        True
    """
    points = [(i, value) for i, value in enumerate(values) if math.isfinite(value)]
    if len(points) < 2:
        return ""
    positive = all(value > 0 for _, value in points)
    ys = [math.log10(value) if positive else value for _, value in points]
    low, high = min(ys), max(ys)
    spread = (high - low) or 1.0
    stride = max(1, len(points) // width)
    path = " ".join(
        f"{4 + (width - 8) * i / max(1, len(values) - 1):.1f},"
        f"{4 + (height - 8) * (1 - (y - low) / spread):.1f}"
        for (i, _), y in list(zip(points, ys, strict=True))[::stride]
    )
    first, last = points[0][1], points[-1][1]
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.4" points="{path}"/></svg>'
        f"<small>{first:.4g} → {last:.4g}{' (log scale)' if positive else ''}</small>"
    )
