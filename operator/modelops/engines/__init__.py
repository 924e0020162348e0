"""The only list of engines."""

from modelops.engines.base import Engine
from modelops.engines.custom import Custom
from modelops.engines.llamacpp import LlamaCpp
from modelops.engines.mlserver import MLServer
from modelops.engines.predictive import Predictive
from modelops.engines.sglang import SGLang
from modelops.engines.triton import Triton
from modelops.engines.vllm import VLLM
from modelops.plan import Reason

ENGINES: tuple[Engine, ...] = (VLLM(), LlamaCpp(), Predictive(), SGLang(), MLServer(), Triton(), Custom())
"""In the order they are asked for a format."""


def by_name(name: str) -> Engine | Reason:
    """Return the engine called *name*, letter by letter."""
    for engine in ENGINES:
        if engine.name == name:
            return engine
    known = ", ".join(engine.name for engine in ENGINES)
    return Reason("UnknownEngine", f"engine.name: needs Auto or one of {known}, found {name}; change it")


def pick(format: str, model_type: str = "") -> Engine | Reason:
    """Return the first engine that loads *format* and serves models of this type; empty: of any type.

    The letter case of the format does not matter.
    """
    loading = [engine for engine in ENGINES if _loads(engine, format)]
    for engine in loading:
        if not model_type or model_type in engine.types:
            return engine
    if loading:
        known = " and ".join(engine.name for engine in loading)
        return Reason(
            "TypeUnsupported",
            f"engine.name: Auto knows no engine for a model of type {model_type} in {format}, which "
            f"{known} would load; set engine.name, or the type of the Model",
        )
    formats = dict.fromkeys(format for engine in ENGINES for format in engine.formats)
    return Reason(
        "FormatUnsupported",
        f"engine.name: Auto needs one of the formats {', '.join(formats)}, "
        f"found {format or 'none'}; set engine.name to Custom and engine.image to what serves it",
    )


def picked_because(engine: Engine, format: str, model_type: str = "") -> str:
    """Return what `pick` chose and why, for people."""
    models = f" for models of type {model_type}" if model_type else ""
    return f"{engine.name}: the first engine that loads {format}{models}"


def _loads(engine: Engine, format: str) -> bool:
    return format.lower() in {known.lower() for known in engine.formats}
