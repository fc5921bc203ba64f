"""Tensors out of PyTorch checkpoints that hold pickled objects too, without running any of them.

`torch.load(weights_only=True)` refuses a checkpoint whose optimizer, schedule or arguments were
pickled as objects, which is how the robustness library wrote its files (with dill). The tensors
can still be had safely, because unpickling itself calls nothing but what it is handed:

1. The only callables a pickle can reach are those that `find_class` returns. Ours never imports
   and never looks anything up. It returns a fresh, empty class, a kind of `Thing`, whose objects
   remember its name and what they are made from. Calling such an object is an error, and neither
   it nor its class can be changed: what the file would set is noted, or refused. (dill describes
   a class by calling two functions of its own; here they return one more empty class.)
2. What comes out is therefore a description: dictionaries, lists, numbers, text, `Thing`s. Our
   own code then reads from it those `Thing`s that are named as torch names a tensor, checks
   their storage, offset, size and stride against the bytes in the file, and copies the bytes.

What makes a reader crash or fill the memory is refused too: see `unpickler`, `containers` and
`tensors`. A name that has no place in a checkpoint (`os.system`, `builtins.eval`, …) could not run
either, but such a file is refused at once: somebody meant it to run. `names` tells which.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from invertkit.models.loading.inert.containers import read_legacy, read_zip
from invertkit.models.loading.inert.faults import DamagedError, ForeignNameError


def read_inert(path: Path) -> Any:
    """What a checkpoint holds, with tensors read and every other object left as a description.

    Args:
        path: A file of `torch.save`, in the zip container or the older one.

    Returns:
        The outer object. Mappings and sequences are plain, tensors are copies on the CPU, a
        whole pickled network is the dictionary of its tensors, and any other object is None.

    Raises:
        ForeignNameError: It names what has no place in a checkpoint.
        DamagedError: It is truncated or malformed.

    Example:
        >>> import argparse, tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "w.pt")
        ...     args = argparse.Namespace(lr=0.1)
        ...     torch.save({"args": args, "weight": torch.ones(2)}, path)
        ...     read_inert(path)
        {'args': None, 'weight': tensor([1., 1.])}
    """
    try:
        if zipfile.is_zipfile(path):
            return read_zip(path)
        return read_legacy(path)
    except (ForeignNameError, DamagedError):
        raise
    except Exception as error:
        # A malformed pickle may raise anything: it makes Python's own code run on odd values.
        raise DamagedError(str(error).strip().split("\n")[0] or type(error).__name__) from None
