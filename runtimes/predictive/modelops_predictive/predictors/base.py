"""What a loaded model is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
Inputs = Mapping[str, Array]
"""Tensors by name, in the order they came; texts are arrays of Python strings."""


class CannotLoad(Exception):
    """The model cannot be served; the text is one sentence with what to do."""


class BadInput(Exception):
    """The request does not fit the model; the text is one sentence for the caller."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the protocol describes it; -1 stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Predictor(Protocol):
    """One loaded model; asked from several threads at a time."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """Return what it wants; empty where it does not say."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """Return what it can answer, the ones first that it answers unasked."""

    def answer(self, inputs: Inputs, wanted: Sequence[str]) -> Mapping[str, Array]:
        """Return the outputs called *wanted*, none of them unknown; empty: those given unasked.

        Raises:
            BadInput: the inputs do not fit.
        """
