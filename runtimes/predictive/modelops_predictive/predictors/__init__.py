"""The only list of formats, and what loads each."""

from collections.abc import Callable, Mapping
from pathlib import Path

from modelops_predictive.predictors import lightgbm, onnx, rules, sklearn, xgboost
from modelops_predictive.predictors.base import CannotLoad, Predictor

PICKLE = "pickle"
LOADERS: Mapping[str, Callable[[Path], Predictor]] = {
    "skops": sklearn.load_skops,
    "ONNX": onnx.load,
    "XGBoost": xgboost.load,
    "LightGBM": lightgbm.load,
    "rules-json": rules.load,
    PICKLE: sklearn.load_pickle,
}
"""Each function imports its library when it is called: a pod holds one model, and pays for one."""


def load(format: str, file: Path, *, allow_pickle: bool) -> Predictor:
    """Return the model in *file*, and look at no other file.

    Raises:
        CannotLoad: in one sentence, with what to do.
    """
    loader = next((load for name, load in LOADERS.items() if name.lower() == format.lower()), None)
    if loader is None:
        raise CannotLoad(f"{file.name}: needs one of {', '.join(LOADERS)}, found {format}; convert it")
    if loader is sklearn.load_pickle and not allow_pickle:
        raise CannotLoad(
            f"{file.name}: needs a format that runs no code at load, found a pickle; convert it to skops or "
            "ONNX, or allow pickle in the model's governance.formats.allowed"
        )
    if not file.is_file():
        raise CannotLoad(f"{file}: needs the model's file, found none; name it in --file")
    return loader(file)
