"""The names that a checkpoint may mention; a file that mentions others is refused at once.

None of them is ever looked up, so a name outside the list could not run either. But whoever put
`os.system` into a checkpoint meant it to run, and a user should hear of that.
"""

from __future__ import annotations

import sys
from typing import Final

# Python's own modules of other versions and systems, which `sys.stdlib_module_names` lacks here.
_OLD_SYSTEM_MODULES: Final = frozenset({"__builtin__", "commands", "os2", "popen2", "pip"})
_OBJECTS_OF_TRAINING: Final = (
    "torch.optim.", "torch.nn.modules.", "torch.nn.parallel.", "torch.nn.parameter.", "torch.amp.",
    "torch.cuda.amp.",
)  # fmt: skip
_KNOWN_NAMES: Final = frozenset(
    {
        *(f"torch.{kind}Storage" for kind in (
            "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
        )),
        "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
        "torch.Size", "torch.device", "torch.Tensor", "torch.storage.UntypedStorage",
        "torch.storage.TypedStorage", "torch.serialization._get_layout",
        "torch.torch_version.TorchVersion",
        "collections.OrderedDict", "collections.defaultdict", "collections.deque",
        "collections.Counter", "argparse.Namespace", "copyreg._reconstructor",
        "types.SimpleNamespace",
        "_codecs.encode", "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath",
        "datetime.datetime", "datetime.timedelta", "functools.partial",
        *(f"{module}.{kind}" for module in ("builtins", "__builtin__") for kind in (
            "set", "frozenset", "slice", "complex", "bytearray", "object", "int", "float", "str",
            "bool", "list", "dict", "tuple", "bytes", "range", "__main__", "setattr",
        )),
        *(f"numpy.{module}.multiarray.{kind}" for module in ("core", "_core") for kind in (
            "scalar", "_reconstruct",
        )),
        "numpy.dtype", "numpy.ndarray", "numpy.float64", "numpy.float32", "numpy.int64",
        *(f"dill.{module}{kind}" for module in ("", "_dill.", "dill.") for kind in (
            "_load_type", "_create_type", "_create_function", "_create_code", "_create_cell",
            "_create_weakref", "_create_dtypemeta", "_get_attr", "_import_module",
            "_create_namedtuple", "_create_ftype", "_create_lock", "_create_rlock", "_setattr",
        )),
    }
)  # fmt: skip


def known_name(module: str, name: str) -> bool:
    """Whether a checkpoint of a training script may well mention `module.name`.

    Of Python itself, torch and numpy: what tensors, optimizers and dill need. Of other packages,
    and of the training script: classes, and, for dill, the names around a function.

    Example:
        >>> known_name("torch.optim.sgd", "SGD"), known_name("os", "system")
        (True, False)
    """
    if f"{module}.{name}" in _KNOWN_NAMES:
        return True
    is_class = name.isidentifier() and name.lstrip("_")[:1].isupper()
    outer = module.split(".")[0]
    if outer in ("torch", "numpy"):
        return is_class and f"{module}.".startswith(_OBJECTS_OF_TRAINING)
    if outer in sys.stdlib_module_names or outer in _OLD_SYSTEM_MODULES:
        return False
    return is_class or name == "__dict__"
