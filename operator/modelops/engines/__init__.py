"""The only list of engines."""

from modelops.engines.base import Engine
from modelops.engines.custom import Custom
from modelops.engines.llamacpp import LlamaCpp
from modelops.engines.vllm import VLLM
from modelops.plan import Reason

ENGINES: tuple[Engine, ...] = (VLLM(), LlamaCpp(), Custom())
"""In the order they are asked for a format."""


def by_name(name: str) -> Engine | Reason:
    """Return the engine called *name*, letter by letter."""
    for engine in ENGINES:
        if engine.name == name:
            return engine
    known = ", ".join(engine.name for engine in ENGINES)
    return Reason("UnknownEngine", f"engine.name: needs Auto or one of {known}, found {name}; change it")


def pick(format: str) -> Engine | Reason:
    """Return the first engine that loads *format*; letter case does not matter."""
    for engine in ENGINES:
        if format.lower() in {known.lower() for known in engine.formats}:
            return engine
    return Reason(
        "FormatUnsupported",
        f"engine.name: Auto needs one of the formats {', '.join(f for e in ENGINES for f in e.formats)}, "
        f"found {format or 'none'}; set engine.name to Custom and engine.image to what serves it",
    )
