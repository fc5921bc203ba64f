"""What both of two processes do: shared batch norm against the plain one, then a training.

python -m tests.training.processes.two_processes OUT invertkit train …
"""

from __future__ import annotations

import json
import os
import sys
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.training.processes.batch_norm import share_batch_norms
from invertkit.training.processes.team import Team, team_of


def networks() -> dict[str, nn.Module]:
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    plain = nn.BatchNorm2d(3)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    found = {
        "plain": nn.Sequential(plain),
        "cumulative": nn.Sequential(nn.BatchNorm2d(3, momentum=None)),
        "bare": nn.Sequential(nn.BatchNorm2d(3, affine=False, track_running_stats=False)),
        "activated": nn.Sequential(BatchNormAct2d(3)),
        "deep": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 2, 3)),
    }
    return {name: net.double() for name, net in found.items()}


def furthest(pairs: list[tuple[Tensor, Tensor]]) -> float:
    return max(float((a.double() - b.double()).detach().abs().max()) for a, b in pairs)


def compared(team: Team, net: nn.Module) -> float:
    """Largest difference from the network that sees the whole batch, over three steps."""
    whole = deepcopy(net)
    shared = team.join(net)
    rows = slice(4 * team.share.rank, 4 * team.share.rank + 4)
    pairs = []
    for step in range(3):
        images = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(step)).double()
        mine, all_of_them = (part.clone().requires_grad_() for part in (images[rows], images))
        here, there = shared(mine), whole(all_of_them)
        pairs.append((here, there[rows]))
        net.zero_grad()
        whole.zero_grad()
        weights = torch.arange(there[0].numel()).double().sin().reshape(there[0].shape)
        team.backward((F.silu(here) * weights).sum((1, 2, 3)).mean())
        (F.silu(there) * weights).sum((1, 2, 3)).mean().backward()
        assert mine.grad is not None
        assert all_of_them.grad is not None
        pairs.append((mine.grad / 2, all_of_them.grad[rows]))  # the mean over twice as many images
        pairs += [
            (a.grad, b.grad)
            for a, b in zip(net.parameters(), whole.parameters(), strict=True)
            if a.grad is not None and b.grad is not None
        ]
        pairs += zip(net.state_dict().values(), whole.state_dict().values(), strict=True)
    net.eval()
    whole.eval()
    pairs.append((net(images[rows]), whole(images[rows])))
    return furthest(pairs)


def compare_batch_norms(out: Path) -> None:
    """Write how far each network is from the one that sees the whole batch, and leave the team."""
    team = team_of(torch.device("cpu"))
    assert team.share.world == 2
    assert team.sum(torch.tensor(team.share.rank + 1.0)) == 3
    differences = {}
    for name, net in networks().items():
        if any(True for _ in net.parameters()):
            differences[name] = compared(team, net)
        else:
            whole, images = deepcopy(net), torch.rand(8, 3, 6, 6).double()
            share_batch_norms(net, device=team.device)
            torch.distributed.broadcast(images, 0)
            rows = slice(4 * team.share.rank, 4 * team.share.rank + 4)
            differences[name] = furthest([(net(images[rows]), whole(images)[rows])])
    (out / f"{os.environ['RANK']}.json").write_text(json.dumps(differences))
    team.wait()
    team.leave()


def main() -> None:
    torch.set_num_threads(1)
    compare_batch_norms(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    from invertkit.cli import main as invertkit

    invertkit()


if __name__ == "__main__":
    main()
