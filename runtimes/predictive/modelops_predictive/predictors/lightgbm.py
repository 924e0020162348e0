"""LightGBM: boosters in its text format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelops_predictive import rows
from modelops_predictive.predictors.base import Array, BadInput, CannotLoad, Inputs, Tensor

OUTPUT = "predict"


class Booster:
    """A booster; its answer is what the objective gives, such as a probability."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self._names = tuple(booster.feature_name())

    @property
    def inputs(self) -> Sequence[Tensor]:
        return [Tensor(name, "FP64", (-1, 1)) for name in self._names]

    @property
    def outputs(self) -> Sequence[Tensor]:
        return [Tensor(OUTPUT, "FP64", (-1,))]

    def answer(self, inputs: Inputs, wanted: Sequence[str]) -> Mapping[str, Array]:
        table = rows.matrix(inputs, self._names, len(self._names))
        try:
            return {OUTPUT: self._booster.predict(table.astype("float64"))}
        except (TypeError, ValueError) as error:
            raise BadInput(f"inputs: {error}") from error


def load(file: Path) -> Booster:
    """Return the booster.

    Raises:
        CannotLoad: the file is damaged.
    """
    import lightgbm

    try:
        return Booster(lightgbm.Booster(model_file=str(file)))
    except (lightgbm.basic.LightGBMError, OSError, ValueError) as error:
        raise CannotLoad(
            f"{file.name}: needs LightGBM's text format, found other bytes; save it with save_model"
        ) from error
