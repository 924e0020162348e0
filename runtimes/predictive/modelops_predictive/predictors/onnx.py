"""ONNX, run by ONNX Runtime on CPUs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelops_predictive import rows
from modelops_predictive.predictors.base import Array, BadInput, CannotLoad, Inputs, Tensor

TYPES = {
    "tensor(float)": ("FP32", "float32"),
    "tensor(double)": ("FP64", "float64"),
    "tensor(float16)": ("FP16", "float16"),
    "tensor(int64)": ("INT64", "int64"),
    "tensor(int32)": ("INT32", "int32"),
    "tensor(int16)": ("INT16", "int16"),
    "tensor(int8)": ("INT8", "int8"),
    "tensor(uint64)": ("UINT64", "uint64"),
    "tensor(uint32)": ("UINT32", "uint32"),
    "tensor(uint16)": ("UINT16", "uint16"),
    "tensor(uint8)": ("UINT8", "uint8"),
    "tensor(bool)": ("BOOL", "bool"),
    "tensor(string)": ("BYTES", "object"),
}
"""ONNX Runtime's name of a type, the protocol's and numpy's."""


class Session:
    """A graph; tensors are matched by name."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = {one.name: one for one in session.get_inputs()}
        self._outputs = {one.name: one for one in session.get_outputs()}

    @property
    def inputs(self) -> Sequence[Tensor]:
        return [_described(one) for one in self._inputs.values()]

    @property
    def outputs(self) -> Sequence[Tensor]:
        return [_described(one) for one in self._outputs.values()]

    def answer(self, inputs: Inputs, wanted: Sequence[str]) -> Mapping[str, Array]:
        names = list(wanted or self._outputs)
        try:
            values = self._session.run(
                names, {name: self._input(one, inputs) for name, one in self._inputs.items()}
            )
        except BadInput:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            raise BadInput(f"inputs: {error}") from error
        return dict(zip(names, values, strict=True))

    def _input(self, one: Any, inputs: Inputs) -> Array:
        value = inputs.get(one.name)
        if value is None and len(self._inputs) == 1:
            value = rows.matrix(inputs, (), None)  # a single table may have any name, or come by columns
        if value is None:
            raise BadInput(
                f"inputs: needs {', '.join(self._inputs)}, found {', '.join(inputs)}; send {one.name}"
            )
        return np.asarray(value).astype(TYPES[one.type][1])


def load(file: Path) -> Session:
    """Return the graph.

    Raises:
        CannotLoad: it is damaged, needs operators of its own, or speaks in other things than tensors.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except (RuntimeError, OSError, ValueError) as error:
        raise CannotLoad(
            f"{file.name}: needs a graph that ONNX Runtime {onnxruntime.__version__} can run, found "
            f"{type(error).__name__}; export it for an older opset, and without operators of its own"
        ) from error
    for one in (*session.get_inputs(), *session.get_outputs()):
        if one.type not in TYPES:
            raise CannotLoad(
                f"{file.name}: needs tensors alone, found {one.name} of type {one.type}; "
                "export it without ZipMap"
            )
    return Session(session)


def _described(one: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) else -1 for size in one.shape or ())
    return Tensor(one.name, TYPES[one.type][0], shape)
