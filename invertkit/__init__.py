"""invertkit: compose losses, variables and optimizers to invert any network.

`invertkit.run(recipe="magic", image=…, mask=…, target=…)` is the way in; the names below are
imported when they are first used, so that `import invertkit` takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invertkit.apps.ablation.run import ablate as ablate
    from invertkit.apps.ablation.table import Ablation as Ablation
    from invertkit.apps.editing.edit import edit as edit
    from invertkit.apps.editing.pictures import Edited as Edited
    from invertkit.apps.gradients.run import gradients as gradients
    from invertkit.apps.gradients.table import Gradients as Gradients
    from invertkit.core.view import View as View
    from invertkit.errors import InputError as InputError
    from invertkit.errors import InvertkitError as InvertkitError
    from invertkit.errors import RecipeError as RecipeError
    from invertkit.errors import WeightsError as WeightsError
    from invertkit.models.classifiers.classifier import Classifier as Classifier
    from invertkit.objectives.base import Objective as Objective
    from invertkit.optimizers.base import Optimizer as Optimizer
    from invertkit.players.base import Player as Player
    from invertkit.recipe.overlay import recipe_names as recipe_names
    from invertkit.runs.api import resume as resume
    from invertkit.runs.api import resume_each as resume_each
    from invertkit.runs.api import run as run
    from invertkit.runs.api import run_each as run_each
    from invertkit.runs.result import Result as Result
    from invertkit.variables.base import Variable as Variable

from invertkit.core.version import __version__ as __version__

_WHERE = {
    "Ablation": "invertkit.apps.ablation.table",
    "Classifier": "invertkit.models.classifiers.classifier",
    "Edited": "invertkit.apps.editing.pictures",
    "Gradients": "invertkit.apps.gradients.table",
    "InputError": "invertkit.errors",
    "InvertkitError": "invertkit.errors",
    "Objective": "invertkit.objectives.base",
    "Optimizer": "invertkit.optimizers.base",
    "Player": "invertkit.players.base",
    "RecipeError": "invertkit.errors",
    "Result": "invertkit.runs.result",
    "Variable": "invertkit.variables.base",
    "View": "invertkit.core.view",
    "WeightsError": "invertkit.errors",
    "ablate": "invertkit.apps.ablation.run",
    "edit": "invertkit.apps.editing.edit",
    "gradients": "invertkit.apps.gradients.run",
    "recipe_names": "invertkit.recipe.overlay",
    "resume": "invertkit.runs.api",
    "resume_each": "invertkit.runs.api",
    "run": "invertkit.runs.api",
    "run_each": "invertkit.runs.api",
}

__all__ = [  # noqa: RUF022: alphabetical, capitals first
    "Ablation",
    "Classifier",
    "Edited",
    "Gradients",
    "InputError",
    "InvertkitError",
    "Objective",
    "Optimizer",
    "Player",
    "RecipeError",
    "Result",
    "Variable",
    "View",
    "WeightsError",
    "ablate",
    "edit",
    "gradients",
    "recipe_names",
    "resume",
    "resume_each",
    "run",
    "run_each",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'invertkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
