"""One process, or several that train one network: Lightning Fabric behind a small face."""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from importlib.util import find_spec
from typing import Any, Final, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from invertkit.errors import InputError
from invertkit.training.data.batches import Share
from invertkit.training.processes.batch_norm import share_batch_norms

EXTRA: Final = "invertkit[train]"


@final
class Team:
    """The processes of a training, seen from one of them.

    Args:
        device: Of this process.
        fabric: What connects it to the others; None for a process alone.
        local: Processes on this machine.

    Attributes:
        device: As given.
        local: As given.
        share: Its part of every batch.
    """

    def __init__(self, device: torch.device, fabric: Any = None, *, local: int = 1) -> None:
        self.device, self._fabric, self.local = device, fabric, local
        self.share = Share(fabric.global_rank, fabric.world_size) if fabric else Share()

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.share.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.share.world == 1

    def join(self, model: nn.Module) -> nn.Module:
        """The module to run for the loss; its gradients are the mean over all processes.

        `model` itself stays what the attack runs on, and its batch norms become shared ones.
        """
        if self.alone:
            return model
        share_batch_norms(model, device=self.device)
        joined: nn.Module = self._fabric.setup_module(model, move_to_device=False)
        return joined

    def backward(self, loss: Tensor) -> None:
        """Gradients of the mean over processes of `loss`."""
        if self.alone:
            loss.backward()
        else:
            self._fabric.backward(loss)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes."""
        if not self.alone:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until every process is here."""
        if not self.alone:
            dist.barrier()

    def leave(self) -> None:
        """Say good-bye to the others; nothing may be asked of the team afterwards."""
        if not self.alone and dist.is_initialized():
            dist.destroy_process_group()


def team_of(device: torch.device, *, devices: int = 1, nodes: int = 1) -> Team:
    """This process with the others.

    Under `torchrun` the others are there already, and their numbers are taken from it. Otherwise
    `devices` processes are started by running this program's command line again.

    Args:
        device: Kind of device; with several processes each takes one of its own on CUDA.
        devices: Processes on this machine.
        nodes: Machines; with more than one, start the command on each, by `torchrun` or with
            `MASTER_ADDR`, `MASTER_PORT` and `NODE_RANK` set.

    Raises:
        InputError: The extra is missing, or the numbers cannot be.
    """
    if devices < 1 or nodes < 1:
        raise InputError(
            f"expected --devices and --nodes of at least 1, got {devices} and {nodes}."
        )
    # Only torchrun sets the second; `WORLD_SIZE` alone may be a cluster's.
    launched = int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if launched > 1:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        devices, nodes = local, launched // local
    if devices * nodes == 1:
        return Team(device)
    if find_spec("lightning_fabric") is None:
        raise InputError(
            f"training on several processes needs Lightning Fabric: `pip install '{EXTRA}'`, or "
            "train with --devices 1."
        )
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"expected --devices at most {torch.cuda.device_count()}, the GPUs of this machine, "
            f"got {devices}."
        )
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"several processes need cpu or cuda devices, got {device.type}.")
    return _launched(device, devices, nodes)


def _launched(device: torch.device, devices: int, nodes: int) -> Team:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies' age
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy

    # It announces every process, on every process.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    if "forward_sync_buffers" in known:  # PyTorch 2.15's name
        strategy = DDPStrategy(forward_sync_buffers=False)  # shared batch norms keep them alike
    else:
        strategy = DDPStrategy(broadcast_buffers=False)
    fabric = Fabric(accelerator=device.type, devices=devices, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    return Team(fabric.device, fabric, local=devices)
