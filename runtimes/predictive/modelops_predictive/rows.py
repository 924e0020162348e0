"""Make rows of features out of named tensors."""

from collections.abc import Sequence

import numpy as np

from modelops_predictive.predictors.base import Array, BadInput, Inputs


def matrix(inputs: Inputs, names: Sequence[str], width: int | None) -> Array:
    """Return rows of features: of one tensor of two dimensions, or of one tensor for each column.

    Columns called as in *names* are put in that order; others stay in the order they came.  *width* is the
    number of features, where the model says so.

    Raises:
        BadInput: rows of different number, or a wrong number of features.
    """
    if not inputs:
        raise BadInput("inputs: needs at least one tensor, found none; send the features")
    found = list(inputs.values())
    rows = found[0] if len(found) == 1 and found[0].ndim == 2 else columns(inputs, names)
    if width is not None and rows.shape[1] != width:
        raise BadInput(f"inputs: needs {width} features, found {rows.shape[1]}; send one value for each")
    return rows


def columns(inputs: Inputs, names: Sequence[str]) -> Array:
    """Return one tensor for each column, side by side."""
    ordered = [inputs[name] for name in names] if names and set(names) == set(inputs) else inputs.values()
    flat = [column(name, value) for name, value in zip(inputs, ordered, strict=True)]
    if len({len(one) for one in flat}) > 1:
        sizes = ", ".join(f"{name} {len(one)}" for name, one in zip(inputs, flat, strict=True))
        raise BadInput(f"inputs: needs columns of one length, found {sizes}; send the same number of rows")
    return np.stack(flat, axis=1)


def column(name: str, value: Array) -> Array:
    """Return the values of one column.

    Raises:
        BadInput: it is no column.
    """
    if value.ndim == 1 or (value.ndim == 2 and value.shape[1] == 1):
        return value.reshape(-1)
    raise BadInput(
        f"inputs: needs one tensor of rows, or columns of shape [rows] or [rows, 1], found {name} of shape "
        f"{list(value.shape)} beside others; send it alone, or column by column"
    )
