"""The protocol's tensors: read as arrays, and arrays written as such."""

from collections.abc import Sequence

import numpy as np
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import RequestInput, ResponseOutput

from modelops_predictive.predictors.base import Array, BadInput


def read(inputs: Sequence[RequestInput]) -> dict[str, Array]:
    """Return the tensors by name, in order.

    Raises:
        BadInput: a tensor's data do not fit its shape or datatype.
    """
    found: dict[str, Array] = {}
    for one in inputs:
        if one.name in found:
            raise BadInput(f"inputs: needs different names, found {one.name} twice; rename one")
        found[one.name] = _array(one)
    return found


def _array(one: RequestInput) -> Array:
    try:
        if one.datatype == "BYTES":
            return np.array(StringCodec.decode_input(one), dtype=object).reshape(one.shape)
        return np.asarray(NumpyCodec.decode_input(one))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise BadInput(
            f"inputs: {one.name} needs data for {one.datatype} of shape {list(one.shape)}, found other data; "
            "correct it"
        ) from error


def write(name: str, value: Array) -> ResponseOutput:
    """Return an output tensor; anything that is no number goes as text."""
    value = np.asarray(value)
    if value.dtype.kind in "biuf":
        return NumpyCodec.encode_output(name, value)
    texts = ["" if item is None else str(item) for item in value.reshape(-1).tolist()]
    output = StringCodec.encode_output(name, texts)
    output.shape = list(value.shape)
    return output
