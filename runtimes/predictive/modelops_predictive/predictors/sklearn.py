"""scikit-learn: estimators and pipelines in skops, which names every type it holds, or in a pickle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelops_predictive import rows
from modelops_predictive.predictors.base import Array, BadInput, CannotLoad, Inputs, Tensor

TRUSTED = (
    "numpy.dtype",
    "scipy.interpolate._bsplines.BSpline",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Types that skops does not trust by itself and that fitted estimators hold; exact names, never prefixes.

Source: every estimator of scikit-learn 1.9.1 that fits a small table with its defaults, saved by skops
0.16.0.  They run no code of the file.  A forged tree may still read past its arrays: the pod is what
confines it.
"""
METHODS = ("predict", "predict_proba", "decision_function", "transform")


class Estimator:
    """A fitted estimator; the outputs are its methods."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._names = tuple(str(name) for name in getattr(estimator, "feature_names_in_", ()))
        self._width = getattr(estimator, "n_features_in_", None)
        self._methods = tuple(name for name in METHODS if hasattr(estimator, name))
        if not self._methods:
            raise CannotLoad(
                f"model: needs one of the methods {', '.join(METHODS)}, found a {type(estimator).__name__}; "
                "save a fitted estimator"
            )

    @property
    def inputs(self) -> Sequence[Tensor]:
        if self._names:
            return [Tensor(name, "FP64", (-1, 1)) for name in self._names]
        return [Tensor("rows", "FP64", (-1, self._width))] if self._width else []

    @property
    def outputs(self) -> Sequence[Tensor]:
        return [Tensor(name, "FP64", (-1,)) for name in self._methods]

    def answer(self, inputs: Inputs, wanted: Sequence[str]) -> Mapping[str, Array]:
        table = self._table(inputs)
        try:
            return {
                name: np.asarray(getattr(self._estimator, name)(table))
                for name in wanted or self._methods[:1]
            }
        except (TypeError, ValueError) as error:
            raise BadInput(f"inputs: {error}") from error

    def _table(self, inputs: Inputs) -> Any:
        """Return rows; a data frame where the model was fitted on one: pipelines pick columns by name."""
        if not self._names:
            return rows.matrix(inputs, (), self._width)
        import pandas

        if set(inputs) == set(self._names):
            return pandas.DataFrame({name: inputs[name].reshape(-1) for name in self._names})
        return pandas.DataFrame(rows.matrix(inputs, self._names, len(self._names)), columns=list(self._names))


def load_skops(file: Path) -> Estimator:
    """Return the estimator of a skops file.

    Raises:
        CannotLoad: it is damaged, or holds a type that is not trusted.
    """
    from skops.io import get_untrusted_types, load
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        strange = sorted(set(get_untrusted_types(file=file)) - set(TRUSTED))
        if strange:
            raise CannotLoad(
                f"{file.name}: needs types that are known to run no code, found {', '.join(strange[:5])}; "
                "use estimators of scikit-learn, or convert the model to ONNX"
            )
        return Estimator(load(file, trusted=list(TRUSTED)))
    except (UntrustedTypesFoundException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CannotLoad(
            f"{file.name}: needs a skops file, found {type(error).__name__}; save it anew"
        ) from error


def load_pickle(file: Path) -> Estimator:
    """Return the estimator of a pickle, plain or of joblib.  This runs whatever code the file holds.

    Raises:
        CannotLoad: it cannot be read with the versions of this image.
    """
    import joblib

    try:
        return Estimator(joblib.load(file))
    except CannotLoad:
        raise
    except Exception as error:  # a pickle may raise anything
        raise CannotLoad(
            f"{file.name}: needs a pickle that these libraries can read, found {type(error).__name__}; save "
            "it with the versions of this image, or as skops"
        ) from error
