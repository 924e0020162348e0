"""XGBoost: boosters in JSON or UBJSON."""

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
        self._names = tuple(booster.feature_names or ())
        self._width = int(booster.num_features())

    @property
    def inputs(self) -> Sequence[Tensor]:
        if self._names:
            return [Tensor(name, "FP32", (-1, 1)) for name in self._names]
        return [Tensor("rows", "FP32", (-1, self._width))]

    @property
    def outputs(self) -> Sequence[Tensor]:
        return [Tensor(OUTPUT, "FP32", (-1,))]

    def answer(self, inputs: Inputs, wanted: Sequence[str]) -> Mapping[str, Array]:
        table = rows.matrix(inputs, self._names, self._width)
        try:
            return {OUTPUT: self._booster.inplace_predict(table.astype("float32"), validate_features=False)}
        except (TypeError, ValueError) as error:
            raise BadInput(f"inputs: {error}") from error


def load(file: Path) -> Booster:
    """Return the booster.

    Raises:
        CannotLoad: the file is damaged.
    """
    import xgboost

    booster = xgboost.Booster()
    try:
        # The library tells its two formats apart by the suffix alone; from bytes it looks at the content.
        booster.load_model(bytearray(file.read_bytes()))
    except (xgboost.core.XGBoostError, OSError, ValueError) as error:
        raise CannotLoad(
            f"{file.name}: needs XGBoost's JSON or UBJSON, found other bytes; save it with save_model"
        ) from error
    return Booster(booster)
