"""invertkit: compose losses, variables and optimizers to invert any network.

`invertkit.run(recipe="magic", image=…, mask=…, target=…)` is the way in. The public names stand in
`__init__.pyi`, once, for type checkers and for this file; each is imported when it is first used,
so that `import invertkit` takes milliseconds.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from invertkit.core.version import __version__ as __version__

_LINE = re.compile(r"^from (\S+) import ([A-Za-z]\w*) as \2$", re.MULTILINE)
_MODULES = {
    name: module
    for module, name in _LINE.findall(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'invertkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
