"""Which of a user's extra arguments and variables an engine may be given: a list of what is allowed.

Whatever is not listed is refused by name, so that nothing the operator promises (ports, limits, no remote
code, no prompts in logs) can be undone by an argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from modelops.engines.base import Ask, Facts
from modelops.plan import Reason


@dataclass(frozen=True, slots=True)
class Allowed:
    """One engine's lists."""

    engine: str
    values: frozenset[str]
    """Flags that take exactly one value."""
    switches: frozenset[str]
    """Flags that take none."""
    owned: frozenset[str]
    """Flags that the operator sets."""
    forbidden: Mapping[str, str]
    """Flag to the reason why not, as the end of a sentence."""
    owned_env: frozenset[str]
    forbidden_env: tuple[str, ...]
    """Starts of names of variables that would do what an argument may not."""
    joined: bool
    """Whether ``--flag=value`` is understood besides ``--flag value``."""


def refuse_extras(model: Facts, ask: Ask, allowed: Allowed) -> Reason | None:
    """Return the first extra argument or variable that may not pass."""
    return _refuse_args(model, ask.extra_args, allowed) or _refuse_env(model, ask.env, allowed)


def value_of(extra_args: tuple[str, ...], *flags: str) -> str | None:
    """Return the last value given for any of *flags*, in either form; None when there is none."""
    found = None
    for index, item in enumerate(extra_args):
        flag, joined, value = item.partition("=")
        if flag in flags:
            found = value if joined else next(iter(extra_args[index + 1 : index + 2]), None)
    return found


def number_of(extra_args: tuple[str, ...], *flags: str, default: int) -> int:
    """Return the last value given for any of *flags* as a number; the default when it is none."""
    value = value_of(extra_args, *flags) or ""
    return int(value) if value.isdecimal() and int(value) > 0 else default


def _refuse_args(model: Facts, extra_args: tuple[str, ...], allowed: Allowed) -> Reason | None:
    items = iter(extra_args)
    for item in items:
        flag, joined, value = item.partition("=")
        refused = _refuse_flag(model, flag, allowed)
        if refused:
            return refused
        if flag in allowed.switches:
            if joined:
                return _misused(model, allowed, flag, "no value", f"={value}")
        elif joined:
            if not allowed.joined or not value:
                return _misused(model, allowed, flag, "its value as the next item", f"={value}")
        else:
            value = next(items, "")
            if not value or value.startswith("--"):
                return _misused(model, allowed, flag, "a value", value or "nothing")
    return None


def _refuse_flag(model: Facts, flag: str, allowed: Allowed) -> Reason | None:
    start = f"{model.name}: {allowed.engine}"
    if flag in allowed.owned:
        return Reason(
            "ArgumentOwned",
            f"{start} needs engine.extraArgs without {flag}, which the operator sets; remove it and use the "
            "fields of engine and accelerator",
        )
    if flag in allowed.forbidden:
        return Reason(
            "ArgumentForbidden",
            f"{start} needs engine.extraArgs without {flag}, {allowed.forbidden[flag]}; remove it",
        )
    if flag not in allowed.values and flag not in allowed.switches:
        return Reason(
            "ArgumentUnknown",
            f"{start} needs engine.extraArgs from the list of allowed arguments, found {flag}; remove it",
        )
    return None


def _misused(model: Facts, allowed: Allowed, flag: str, wanted: str, found: str) -> Reason:
    return Reason(
        "ArgumentMalformed",
        f"{model.name}: {allowed.engine} argument {flag} needs {wanted}, found {found}; "
        "correct engine.extraArgs",
    )


def _refuse_env(model: Facts, env: Mapping[str, str], allowed: Allowed) -> Reason | None:
    for name in env:
        if name in allowed.owned_env or name.startswith(allowed.forbidden_env):
            return Reason(
                "VariableForbidden",
                f"{model.name}: {allowed.engine} needs engine.env without {name}, which would change what "
                "the operator sets or forbids; remove it",
            )
    return None
