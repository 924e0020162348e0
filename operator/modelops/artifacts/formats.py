"""Tell from file names what a version holds: its format, its code, its pickles, its main file."""

import re
from collections.abc import Iterable

from modelops.artifacts.digest import shown
from modelops.plan import Reason

_SHARD = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz")
"""Suffixes of files whose usual loader may run code from the file."""

_FORMATS = {
    "GGUF": (".gguf",),
    "safetensors": (".safetensors",),
    "ONNX": (".onnx",),
    "skops": (".skops",),
    "rules-json": (".rules.json",),
    "XGBoost": (".ubj", ".xgb", ".xgb.json"),
    "LightGBM": (".lgb", ".lightgbm", ".lgb.txt"),
    "pickle": _PICKLES[:8],
}
"""Format as the API calls it, and its suffixes; the most preferred first."""

_TRITON_CONFIG = "config.pbtxt"
_VAGUE = ("model.json", "model.bst", "model.txt", "model.xgb", "model.lgb")
"""Usual names that more than one library writes: only the content tells which."""
_HEADS = ((b'{"learner":', "XGBoost"), (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", "XGBoost"),
          (b"tree\nversion=", "LightGBM"))  # fmt: skip
"""First bytes of models.  Source: files written by XGBoost 3.2 (JSON and UBJSON) and LightGBM 4.7."""
_LOADED_BY_PREDICTIVE = ("ONNX", "skops", "rules-json", "XGBoost", "LightGBM")
_PICKLED_MODELS = (".joblib", ".pkl", ".pickle")


def format_of(paths: Iterable[str]) -> str:
    """Return the most preferred format that is there, or Other."""
    names = [path.lower() for path in paths]
    if _TRITON_CONFIG in names:
        return "Triton"
    found = (name for name, ends in _FORMATS.items() if any(path.endswith(ends) for path in names))
    return next(found, "Other")


def vague(paths: Iterable[str]) -> str | None:
    """Return the only path whose content tells the format; None when there is none, or several."""
    found = [path for path in paths if path.rpartition("/")[2].lower() in _VAGUE]
    return found[0] if len(found) == 1 else None


def format_of_head(head: bytes) -> str:
    """Return the format of a file by its first bytes, 64 of them are enough; Other when nobody knows them."""
    text = head.replace(b" ", b"")
    return next((name for start, name in _HEADS if text.startswith(start)), "Other")


def main_file(format: str, paths: Iterable[str]) -> str | None:
    """Return the only file of a predictive model in *format*; None when there is none, or several."""
    ends = _PICKLED_MODELS if format == "pickle" else _FORMATS.get(format, ())
    if format != "pickle" and format not in _LOADED_BY_PREDICTIVE:
        return None
    found = [path for path in paths if path.lower().endswith(ends)]
    return found[0] if len(found) == 1 else None


def has_code(paths: Iterable[str]) -> bool:
    """Tell whether Python source lies among the files."""
    return any(path.lower().endswith((".py", ".pyc", ".so")) for path in paths)


def has_pickle(paths: Iterable[str]) -> bool:
    """Tell whether a file lies among them that is loaded by unpickling."""
    return any(path.lower().endswith(_PICKLES) for path in paths)


def gguf_shards(paths: Iterable[str]) -> dict[str, tuple[str, ...]] | Reason:
    """Return the GGUF models among *paths*: the file to load, and all of its shards in order.

    A reason when shards of a set are missing.
    """
    sets: dict[tuple[str, int], dict[int, str]] = {}
    models: dict[str, tuple[str, ...]] = {}
    for path in sorted(paths):
        if not path.endswith(".gguf"):
            continue
        match = _SHARD.match(path)
        if match is None:
            models[path] = (path,)
        else:
            key = (match["stem"], int(match["count"]))
            sets.setdefault(key, {})[int(match["number"])] = path
    for (stem, count), shards in sets.items():
        if sorted(shards) != list(range(1, count + 1)):
            return Reason(
                "ShardMissing",
                f"{shown(stem)}: needs {count} GGUF shards, found {len(shards)}; "
                "upload the rest or widen the source's patterns",
            )
        models[shards[1]] = tuple(shards[number] for number in range(1, count + 1))
    return models


def ambiguous(models: Iterable[str]) -> Reason:
    """Return the reason against several models in one version."""
    listed = sorted(models)
    few = ", ".join(shown(name, 64) for name in listed[:3]) + (", ..." if len(listed) > 3 else "")
    return Reason(
        "AmbiguousModel",
        f"source: needs one GGUF model per version, found {len(listed)} ({few}); "
        "name one in spec.source.huggingFace.allowPatterns",
    )
