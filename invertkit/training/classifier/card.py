"""The weights of a trained classifier, what the file says of itself, and its page for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import torch

from invertkit.core.files import whole_file
from invertkit.errors import InputError
from invertkit.models.loading.safetensors_file import as_half, save_in_order
from invertkit.models.loading.weights_file import sha256
from invertkit.training.classifier.normalized import Normalized
from invertkit.training.classifier.plan import TrainingPlan, as_json
from invertkit.training.classifier.start import Start
from invertkit.training.robustness.robustness import RobustAccuracy, table


@final
@dataclass(frozen=True)
class Facts:
    """What a model card tells beside the plan.

    Args:
        start: What the training started from.
        source: The training photographs.
        count: How many there were.
        names: Their names, for the fingerprint; none if they have none.
        command: As it was typed.
        measured: By what was measured, the counts at each radius.
        test: The photographs that this was measured on.
    """

    start: Start
    source: str
    count: int
    names: Sequence[str] = ()
    command: str = ""
    measured: Mapping[str, Sequence[RobustAccuracy]] | None = None
    test: str = ""


def card(
    plan: TrainingPlan, model: Normalized, start: Start, classes: Sequence[str]
) -> dict[str, str]:
    """The metadata of a weights file; every value is JSON.

    `architecture` is `kitnet`, with its `widths`, or `timm:NAME`; then `classes`, `mean`, `std`,
    `size` of the input, `plan`, and `start`.
    """
    facts: dict[str, Any] = {"architecture": start.architecture}
    if start.widths is not None:
        facts["widths"] = start.widths
    facts |= {
        "classes": list(classes),
        "mean": [round(v, 6) for v in model.mean.flatten().tolist()],
        "std": [round(v, 6) for v in model.std.flatten().tolist()],
        "size": plan.size,
        "plan": as_json(plan),
        "start": start.origin,
    }
    return {key: json.dumps(value) for key, value in facts.items()}


def save_classifier(
    model: Normalized, plan: TrainingPlan, start: Start, classes: Sequence[str], path: Path
) -> None:
    """Weights as float16 safetensors, float32 where they would overflow, with `card` as metadata.

    Raises:
        InputError: The file cannot be written; one of that name before is untouched.
    """
    state = {}
    for name, value in model.net.state_dict().items():
        # Counters say nothing of a network that is only run, and a plain one does without.
        if "num_batches_tracked" in name:
            continue
        state[name] = as_half(value.detach().cpu()).contiguous().clone()
    try:
        with whole_file(path) as partial:
            save_in_order(state, partial, card(plan, model, start, classes))
            # safetensors makes files that only their owner may read.
            partial.chmod(0o644)
    except Exception as error:  # safetensors has errors of its own for a full disk
        raise InputError(
            f"{path}: cannot be written ({error!s:.120}). The checkpoint is whole: make room, "
            "then go on with --resume."
        ) from None


def write_card(
    path: Path, weights: Path, plan: TrainingPlan, facts: Facts, classes: Sequence[str]
) -> None:
    """The model card, a Markdown page.

    Args:
        path: Of the page.
        weights: The file it is about.
        plan: Of its training.
        facts: See `Facts`.
        classes: Names of the logits.

    Raises:
        InputError: It cannot be written.
    """
    shown = ", ".join(classes[:20]) + (f", … ({len(classes)} in all)" if len(classes) > 20 else "")
    parts = [
        f"# {facts.start.architecture}, {_robustness(plan)}",
        f"Trained by `invertkit train classifier`, invertkit {version('invertkit')}, PyTorch "
        f"{torch.__version__}.",
        "## Use",
        "```yaml\nclassifier: " + str(weights) + "\n```",
        f"Images in [0, 1], RGB, {plan.size}×{plan.size}; mean and standard deviation are in the "
        f"file's metadata. Classes: {shown}.",
        "## Measured",
        _measured(plan, facts),
        "## Data",
        f"{facts.count} photographs, `{facts.source}`"
        + (f"; SHA-256 of their names `{_fingerprint(facts.names)}`." if facts.names else "."),
        "## Objective",
        _objective(plan),
        "## Plan",
        f"Start: {facts.start.origin}.",
        "```json\n" + json.dumps(as_json(plan), indent=2) + "\n```",
        *(["## Command", f"```sh\n{facts.command}\n```"] if facts.command else []),
        "## Hashes",
        f"`{weights.name}`: SHA-256 `{sha256(weights)}`",
        "## Limits",
        _limits(plan),
    ]
    try:
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from None


def _robustness(plan: TrainingPlan) -> str:
    attack = plan.attack
    if plan.attack_at(plan.epochs - 1, 1.0) is None:
        return "trained without attack"
    return f"{attack.norm} ε = {attack.eps:g} at {plan.size}×{plan.size}"


def _measured(plan: TrainingPlan, facts: Facts) -> str:
    if not facts.measured:
        return "Nothing: no `--test` photographs were given."
    what = (
        "Agreement with the starting network's clean predictions" if plan.label_free else "Accuracy"
    )
    return (
        f"{what} in % ± its standard error, on `{facts.test}` at {plan.size}×{plan.size}; ε is "
        "measured there. PGD-N takes N steps of 2.5 ε / N and keeps the worst iterate.\n\n"
        + table(facts.measured)
    )


def _objective(plan: TrainingPlan) -> str:
    attack = plan.attack
    loss = (
        "the Kullback–Leibler divergence from the starting network's clean predictions"
        if plan.label_free
        else f"cross-entropy with label smoothing {plan.smoothing:g}"
    )
    if plan.attack_at(plan.epochs - 1, 1.0) is None:
        return f"Minimise {loss}, on clean photographs."
    step = attack.step_size if attack.step_size is not None else attack.eps * 2 / 3
    return (
        f"Minimise {loss} at the worst point that projected gradient descent finds in the "
        f"{attack.norm} ball of radius {attack.eps:g} around each photograph (MAGIC, Eq. 3): "
        f"{attack.steps} steps of {step:g}, {'random' if attack.random_start else 'no random'} "
        f"start, {attack.restarts} restarts, "
        f"{'best' if attack.keep_best and attack.steps > 1 else 'last'} iterate."
    )


def _limits(plan: TrainingPlan) -> str:
    return (
        "Trained for the gradients it gives to network inversion, not for safety: accuracy under "
        "PGD is an upper bound of robust accuracy, and holds for photographs like the tested ones "
        f"at {plan.size}×{plan.size}. It knows the classes above and calls everything one of them."
    )


def _fingerprint(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
