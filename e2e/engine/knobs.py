"""What a test may turn while the stand-in runs."""

import json
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Knobs:
    """Times in seconds, shares from 0 to 1.

    ``jitter`` spreads each time evenly by that share to both sides.  ``tokens`` is the length of an
    answer whose request names none.  ``error_share`` fails requests with 500 before they start;
    ``cut_share`` breaks streams half way, as the engine would.  ``slots`` 0 means as the flags say.
    ``exit`` below 0 means as long as the engine takes.  ``is_silent`` picks vLLM's other way to die
    without ``--shutdown-timeout``: streams fall silent and stay.
    """

    ttft: float = 0.02
    itl: float = 0.01
    jitter: float = 0.0
    error_share: float = 0.0
    cut_share: float = 0.0
    startup: float = 0.0
    slots: int = 0
    kv_tokens: int = 65536
    tokens: int = 64
    exit: float = -1.0
    is_silent: bool = False
    seed: int = 0

    @classmethod
    def from_json(cls, text: str | bytes) -> "Knobs":
        """Read a JSON object over the defaults.

        Raises:
            ValueError: not an object, an unknown knob or a value of another type, in one sentence.
        """
        return cls().turned(text)

    def turned(self, text: str | bytes) -> "Knobs":
        """Return these knobs with those of a JSON object turned; raises as ``from_json``."""
        try:
            wanted = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError("knobs: wants a JSON object, found other bytes; send one") from error
        if not isinstance(wanted, dict):
            raise ValueError(f"knobs: wants a JSON object, found {type(wanted).__name__}; send one")
        known = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        for name, value in wanted.items():
            if name not in known:
                raise ValueError(f"knobs: has {', '.join(known)}, found {name}; turn one of these")
            if not _fits(value, known[name]):
                raise ValueError(f"knobs: {name} wants {known[name].__name__}, found {value!r}; change it")
        return replace(self, **wanted)


def _fits(value: object, wanted: type) -> bool:
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is wanted
