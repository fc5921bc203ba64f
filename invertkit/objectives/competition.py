"""What a second network says of the image: it competes with the classifier, or it checks it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.ranges import Positive
from invertkit.core.scene import LOGITS, Needs
from invertkit.core.view import View
from invertkit.errors import RecipeError
from invertkit.objectives.base import Objective, required_model


@final
class Competition(Objective):
    """1 − the Jensen–Shannon divergence between a teacher's softmax and a student's.

    Low where the two disagree, so images come out that the student does not know yet. Gradients
    go through both networks.

    Args:
        form: `paper`, the divergence itself in nats, so that values lie in [1 − ln 2, 1]; or
            `released`, what the code computes: softmaxes, and their mean m, cut to [0.01, 0.99],
            then ½ KL(m‖teacher) + ½ KL(m‖student) cut to [0, 1].
        temperature: Divides both networks' logits before the softmax. The paper names none, the
            released code takes 3.
        model: Name of the teacher.
        student: Name of the other classifier, with as many classes.

    Raises:
        RecipeError: The two networks have different numbers of classes.

    Source: Adaptive DeepInversion, R_compete, Yin et al. 2020 §3.3, and released code.
    """

    def __init__(
        self,
        *,
        form: Literal["paper", "released"] = "paper",
        temperature: Positive = 1.0,
        model: str = "classifier",
        student: str = "student",
    ) -> None:
        self.form, self.temperature = form, temperature
        self.model, self.student = model, student

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The logits of both.

        Raises:
            RecipeError: One is missing, or both are the same.
        """
        if self.model == self.student:
            raise RecipeError(
                f"`competition` lets two networks compete; `model` and `student` both name "
                f"{self.model!r}."
            )
        for name in (self.model, self.student):
            required_model(models, name)
        return {self.model: (LOGITS,), self.student: (LOGITS,)}

    def forward(self, view: View) -> Float[Tensor, " b"]:
        teacher = view.logits(model=self.model) / self.temperature
        student = view.logits(model=self.student) / self.temperature
        _expect_one_count(teacher, student, self.model, self.student)
        if self.form == "released":
            return 1 - released_divergence(teacher.softmax(1), student.softmax(1))
        return 1 - jensen_shannon(teacher.log_softmax(1), student.log_softmax(1))


@final
class Agreement(Objective):
    """−log of the probability that one network gives the class that another sees in the image.

    In a term of weight 0 it is the verifier of the released DeepInversion: it is recorded on
    every step and takes no part. The released code asks for the wanted class; here it is the one
    that the classifier sees in the image, which becomes the wanted one as soon as the method
    works.

    Args:
        model: Name of the network whose class is meant.
        verifier: Name of the network that is asked for it, with as many classes.

    Raises:
        RecipeError: The two networks have different numbers of classes.

    Source: the verifier of the released DeepInversion code.
    """

    def __init__(self, *, model: str = "classifier", verifier: str = "verifier") -> None:
        self.model, self.verifier = model, verifier

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The logits of both.

        Raises:
            RecipeError: One is missing.
        """
        for name in (self.model, self.verifier):
            required_model(models, name)
        return {self.model: (LOGITS,), self.verifier: (LOGITS,)}

    def forward(self, view: View) -> Float[Tensor, " b"]:
        seen = view.logits(model=self.model).detach()
        asked = view.logits(model=self.verifier)
        _expect_one_count(seen, asked, self.model, self.verifier)
        return F.cross_entropy(asked, seen.argmax(1), reduction="none")


def _expect_one_count(first: Tensor, second: Tensor, *names: str) -> None:
    """Whether two networks' logits are of as many classes."""
    if first.shape[1] != second.shape[1]:
        raise RecipeError(
            f"Models {names[0]!r} and {names[1]!r} are compared class by class, but have "
            f"{first.shape[1]} and {second.shape[1]} classes."
        )


def jensen_shannon(log_p: Float[Tensor, "b k"], log_q: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """½ KL(p‖m) + ½ KL(q‖m) with m = (p + q)/2, in nats: from 0, where p = q, to ln 2.

    Args:
        log_p: Logarithms of probabilities.
        log_q: Of others.

    Source: Lin 1991; Yin et al. 2020, Eq. 8.

    Example:
        >>> even = torch.tensor([[0.5, 0.5]]).log()
        >>> jensen_shannon(even, even).item()
        0.0
        >>> near_one, near_other = torch.tensor([[-1e-6, -50.0]]), torch.tensor([[-50.0, -1e-6]])
        >>> round(jensen_shannon(near_one, near_other).item() / math.log(2), 4)
        1.0
    """
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    halves = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return 0.5 * halves.sum(1)


def released_divergence(p: Float[Tensor, "b k"], q: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """½ KL(m‖p) + ½ KL(m‖q) of what is left after all three are cut to [0.01, 0.99]; in [0, 1].

    Cut, they do not add up to 1, and with a thousand classes most stand at 0.01 whatever the
    networks say: it goes by the few classes that either network believes in.

    Args:
        p: Probabilities.
        q: Others.

    Source: released DeepInversion code.

    Example:
        >>> even, one = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
        >>> released_divergence(even, even).item()
        0.0
        >>> round(released_divergence(even, one).item(), 4)
        0.3637
    """
    least, most = 0.01, 0.99
    mean = ((p + q) / 2).clamp(least, most)
    p, q = p.clamp(least, most), q.clamp(least, most)
    total = mean * (2 * mean.log() - p.log() - q.log())
    return (0.5 * total.sum(1)).clamp(0, 1)
