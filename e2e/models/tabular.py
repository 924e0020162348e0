"""Write small predictive models: ``python e2e/models/tabular.py DIR``, by the Python of their libraries.

Each folder has one model; ``expected.json`` says what the library itself answers for the rows in it.
"""

import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

ROWS = [[0.5, -1.25, 2.0, 0.25], [-1.0, 0.5, -0.75, 3.0]]
WEIGHTS = [0.5, -0.25, 1.0, 2.0]
TREES = 300
TABLE = {
    "format": "modelops.dev/decision-table/v1",
    "hitPolicy": "First",
    "inputs": [{"name": "age", "type": "number"}, {"name": "country", "type": "text"}],
    "outputs": [{"name": "decision", "type": "text"}, {"name": "limit", "type": "number"}],
    "rules": [
        {"id": "minor", "when": {"age": {"lessThan": 18}}, "then": {"decision": "deny", "limit": 0}},
        {
            "id": "local",
            "when": {"age": {"atLeast": 18}, "country": {"in": ["DE", "FR"]}},
            "then": {"decision": "grant", "limit": 5000},
        },
    ],
    "otherwise": {"decision": "ask", "limit": 0},
}


def main(out: Path) -> None:
    """Write one folder for each format."""
    import joblib
    import lightgbm
    import numpy
    import skops.io
    import xgboost
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.preprocessing import FunctionTransformer

    rows, classes = make_classification(400, 4, n_informative=3, n_redundant=1, random_state=0)
    forest = RandomForestClassifier(TREES, random_state=0).fit(rows, classes)
    asked = numpy.array(ROWS)
    boosted = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(rows, classes), 5)
    light = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(rows, classes), 5)

    skops.io.dump(forest, _folder(out, "skops", forest.predict(asked)) / "model.skops")
    joblib.dump(forest, _folder(out, "pickle", forest.predict(asked)) / "model.joblib")
    # Under the name that people give it, which the library itself would read as its other format.
    boosted.save_model(out / "model.ubj")
    known = boosted.inplace_predict(asked)
    (out / "model.ubj").rename(_folder(out, "XGBoost", known) / "model.xgb")
    light.save_model(_folder(out, "LightGBM", light.predict(asked)) / "model.txt")
    (_folder(out, "ONNX", asked @ numpy.array(WEIGHTS)) / "model.onnx").write_bytes(linear_onnx(WEIGHTS))
    strange = FunctionTransformer(os.system)  # what a loader that trusts its file would import
    skops.io.dump(strange, _folder(out, "strange", []) / "model.skops")
    (_folder(out, "rules-json", []) / "limits.rules.json").write_text(json.dumps(TABLE))


def _folder(out: Path, name: str, answer: Any) -> Path:
    folder = out / name
    folder.mkdir(parents=True)
    (folder / "expected.json").write_text(json.dumps([float(value) for value in answer]))
    return folder


def linear_onnx(weights: list[float]) -> bytes:
    """Return the graph ``y = x @ weights`` as ONNX, without its library: a few protobuf messages.

    Source: onnx/onnx, onnx.proto (ModelProto, GraphProto, TensorProto), opset 13.
    """
    matrix = (
        _number(1, len(weights)) + _number(1, 1) + _number(2, 1) + _bytes(8, b"w")
        + _bytes(9, struct.pack(f"<{len(weights)}f", *weights))
    )  # fmt: skip
    node = _bytes(1, b"x") + _bytes(1, b"w") + _bytes(2, b"y") + _bytes(4, b"MatMul")
    graph = (
        _bytes(1, node) + _bytes(2, b"linear") + _bytes(5, matrix)
        + _bytes(11, _value(b"x", len(weights))) + _bytes(12, _value(b"y", 1))
    )  # fmt: skip
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13))


def _value(name: bytes, width: int) -> bytes:
    """Return a ValueInfoProto of float32 with any number of rows."""
    shape = _bytes(1, _bytes(2, b"n")) + _bytes(1, _number(1, width))
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, shape)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
