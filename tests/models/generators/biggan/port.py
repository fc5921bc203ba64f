"""Published files of BigGAN-deep in small, and its forward restated."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from invertkit.models.generators.biggan.config import BigGANConfig
from invertkit.models.generators.biggan.files import without_spectral_norm
from invertkit.models.generators.biggan.network import BigGANDeep
from tests.helpers import normal

# Every kind of block: keeping and halving, at one side and doubling it; 16 pixels.
SMALL = BigGANConfig(
    layers=((False, 4, 4), (True, 4, 2), (True, 2, 2), (False, 2, 1)),
    attention=2,
    latent=6,
    embedding=5,
    channel_width=8,
    classes=7,
    n_stats=51,
)


# As the published files list them: doubling?, channels in, channels out.
COMMON = "F16,16 T16,16 F16,16 T16,8"


PUBLISHED = {
    128: f"{COMMON} F8,8 T8,4 F4,4 T4,2 F2,2 T2,1",
    256: f"{COMMON} F8,8 T8,8 F8,8 T8,4 F4,4 T4,2 F2,2 T2,1",
    512: f"{COMMON} F8,8 T8,8 F8,8 T8,4 F4,4 T4,2 F2,2 T2,1 F1,1 T1,1",
}


State = dict[str, Tensor]


def port_shapes(config: BigGANConfig) -> dict[str, tuple[int, ...]]:
    """The entries of a published file: their names and shapes."""
    shapes: dict[str, tuple[int, ...]] = {}
    condition, unit = config.latent + config.embedding, config.channel_width

    def normed(name: str, *shape: int, bias: bool = False) -> None:
        shapes[f"{name}.weight_orig"] = shape
        shapes[f"{name}.weight_u"] = shape[:1]
        shapes[f"{name}.weight_v"] = (math.prod(shape[1:]),)
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def statistics(name: str, channels: int) -> None:
        shapes[f"{name}.running_means"] = shapes[f"{name}.running_vars"] = (
            config.n_stats,
            channels,
        )

    def attention(name: str, wide: int) -> None:
        normed(f"{name}.snconv1x1_theta", wide // 8, wide, 1, 1)
        normed(f"{name}.snconv1x1_phi", wide // 8, wide, 1, 1)
        normed(f"{name}.snconv1x1_g", wide // 2, wide, 1, 1)
        normed(f"{name}.snconv1x1_o_conv", wide, wide // 2, 1, 1)
        shapes[f"{name}.gamma"] = (1,)

    def block(name: str, before: int, after: int) -> None:
        middle = before // 4
        steps = ((before, middle, 1), (middle, middle, 3), (middle, middle, 3), (middle, after, 1))
        for j, (a, b, side) in enumerate(steps):
            statistics(f"{name}.bn_{j}", a)
            normed(f"{name}.bn_{j}.scale", a, condition)
            normed(f"{name}.bn_{j}.offset", a, condition)
            normed(f"{name}.conv_{j}", b, a, side, side, bias=True)

    shapes["embeddings.weight"] = (config.embedding, config.classes)
    normed("generator.gen_z", 16 * unit * config.layers[0][1], condition, bias=True)
    index = 0
    for number, (_, before, after) in enumerate(config.layers):
        if number == config.attention:
            attention(f"generator.layers.{index}", before * unit)
            index += 1
        block(f"generator.layers.{index}", before * unit, after * unit)
        index += 1
    last = config.layers[-1][2] * unit
    statistics("generator.bn", last)
    shapes["generator.bn.weight"] = shapes["generator.bn.bias"] = (last,)
    normed("generator.conv_to_rgb", last, last, 3, 3, bias=True)
    return shapes


def port_state(config: BigGANConfig, *, seed: int = 0) -> State:
    """A published file of random weights; its singular vectors are, as there, one step good."""
    drawing = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in port_shapes(config).items():
        drawn = torch.randn(shape, generator=drawing)
        state[name] = {
            "running_means": 0.3 * drawn,
            "running_vars": 0.5 + drawn.square(),
            "gamma": 0.7 + drawn.abs(),
            "bias": 0.2 * drawn,
        }.get(name.rpartition(".")[2], 0.4 * drawn)
    for name in [name for name in state if name.endswith("weight_orig")]:
        matrix = state[name].flatten(1)
        stem = name.removesuffix("orig")
        state[f"{stem}v"] = F.normalize(matrix.T @ state[f"{stem}u"], dim=0)
        state[f"{stem}u"] = F.normalize(matrix @ state[f"{stem}v"], dim=0)
    return state


small_state = partial(port_state, SMALL)


def small_net(**changes: Any) -> BigGANDeep:
    net = BigGANDeep(SMALL, **changes)
    net.load_state_dict(without_spectral_norm(small_state(), name="small"))
    return net


def inputs(batch: int = 2) -> tuple[Tensor, Tensor]:
    return normal(batch, SMALL.latent), normal(batch, SMALL.embedding, seed=1)


def write_json(path: Path, config: BigGANConfig = SMALL, **changes: Any) -> None:
    facts = {
        "output_dim": config.resolution,
        "z_dim": config.latent,
        "class_embed_dim": config.embedding,
        "channel_width": config.channel_width,
        "num_classes": config.classes,
        "layers": [list(layer) for layer in config.layers],
        "attention_layer_position": config.attention,
        "eps": config.eps,
        "n_stats": config.n_stats,
    } | changes
    path.write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))


def plain(state: State, name: str) -> Tensor:
    weight = state[f"{name}.weight_orig"]
    matrix = weight.reshape(weight.shape[0], -1)
    return weight / (state[f"{name}.weight_u"] @ matrix @ state[f"{name}.weight_v"])


def restated(state: State, latent: Tensor, embedding: Tensor, *, truncation: float) -> Tensor:
    """SMALL's forward, one operation after the other, from the entries of the file."""
    condition = torch.cat([latent, embedding], 1)

    def at(name: str) -> Tensor:
        grid = np.linspace(0, 1, SMALL.n_stats)
        columns = [np.interp(truncation, grid, column) for column in state[name].T.numpy()]
        return torch.tensor(columns)[None, :, None, None]

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = at(f"{name}.running_means"), at(f"{name}.running_vars")
        if f"{name}.weight" in state:
            scale, offset = state[f"{name}.weight"][None], state[f"{name}.bias"][None]
        else:
            scale = 1 + condition @ plain(state, f"{name}.scale").T
            offset = condition @ plain(state, f"{name}.offset").T
        normalised = (x - mean) / torch.sqrt(variance + SMALL.eps)
        return torch.relu(normalised * scale[:, :, None, None] + offset[:, :, None, None])

    def conv(x: Tensor, name: str) -> Tensor:
        weight = plain(state, name)
        return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def attention(x: Tensor, name: str) -> Tensor:
        query, key, value = (conv(x, f"{name}.snconv1x1_{p}") for p in ("theta", "phi", "g"))
        seen = torch.zeros_like(value)
        key, value = (
            y.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5)).flatten(2)
            for y in (key, value)
        )
        for b in range(len(x)):
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    match = torch.softmax(query[b, :, row, column] @ key[b], 0)
                    seen[b, :, row, column] = value[b] @ match
        return x + state[f"{name}.gamma"] * conv(seen, f"{name}.snconv1x1_o_conv")

    start = condition @ plain(state, "generator.gen_z").T + state["generator.gen_z.bias"]
    x = start.reshape(len(latent), 4, 4, -1).permute(0, 3, 1, 2)
    index = 0
    for number, (upsample, before, after) in enumerate(SMALL.layers):
        if number == SMALL.attention:
            x = attention(x, f"generator.layers.{index}")
            index += 1
        name = f"generator.layers.{index}"
        y = norm(conv(norm(x, f"{name}.bn_0"), f"{name}.conv_0"), f"{name}.bn_1")
        y = conv(twice(y) if upsample else y, f"{name}.conv_1")
        y = conv(norm(y, f"{name}.bn_2"), f"{name}.conv_2")
        y = conv(norm(y, f"{name}.bn_3"), f"{name}.conv_3")
        skip = x if before == after else x[:, : x.shape[1] // 2]
        x = y + (twice(skip) if upsample else skip)
        index += 1
    return torch.tanh(conv(norm(x, "generator.bn"), "generator.conv_to_rgb")[:, :3])


def as_binary(folder: Path) -> Path:
    state: Any = OrderedDict(small_state())
    state._metadata = OrderedDict({"": {"version": 1}})  # as module.state_dict() leaves it
    path = folder / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=False)  # as PyTorch of 2019 did
    return path


def as_safetensors(folder: Path) -> Path:
    save_file(small_state(), folder / "model.safetensors")
    return folder / "model.safetensors"
