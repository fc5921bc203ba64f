"""Numbers with a range, as a recipe's options take them."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Lt

Positive = Annotated[float, Gt(0)]


NonNegative = Annotated[float, Ge(0)]


Count = Annotated[int, Ge(1)]


Index = Annotated[int, Ge(0)]


Decay = Annotated[float, Ge(0), Lt(1)]
