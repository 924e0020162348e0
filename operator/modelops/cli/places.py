"""Show where a service was placed and why not elsewhere, which gates hold it, and what to do next."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelops.api.quantities import readable_bytes
from modelops.cli.picture import LABEL
from modelops.cli.screen import BOLD, Screen
from modelops.cli.troubles import condition, status, todo

GATES = ("ModelAdmitted", "Placed")


def places(service: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return the explanation."""
    meta = service["metadata"]
    plan = (status(service).get("placement") or {}).get("plan") or {}
    lines = [
        screen.paint(f"{meta['namespace']}/{meta['name']}", BOLD),
        *screen.wrap(_asked(service), _row("asked for", "")),
    ]
    lines += _chosen(plan, screen)
    for one in (status(service).get("placement") or {}).get("measured") or ():
        lines += screen.wrap(_measured(one), _row("measured", ""))
    lines += ["", *_gates(service, screen), *_rejected(plan, screen)]
    return [*lines, "", *_next(service, plan, screen)]


def _row(label: str, text: str) -> str:
    return f"{label:<{LABEL}} {text}"


def _asked(service: Mapping[str, Any]) -> str:
    """Return what of the spec placement looks at."""
    spec = service.get("spec") or {}
    model, engine, accelerator = (spec.get(part) or {} for part in ("model", "engine", "accelerator"))
    version = model.get("version") or f"{model.get('name')}@{model.get('alias')}"
    products = " or ".join(accelerator.get("products") or ())
    count = accelerator.get("count", "Auto")
    gpus = (
        f"the fewest {products or 'GPUs'} that fit" if count == "Auto" else f"{count} x {products or 'GPU'}"
    )
    if accelerator.get("partition"):
        gpus = f"a slice {accelerator['partition']} of {products or 'a GPU'}"
    if accelerator.get("sharing"):
        gpus += f", sharing {accelerator['sharing']}"
    if accelerator.get("nodes", 1) > 1:
        gpus += f" on each of {accelerator['nodes']} nodes"
    if accelerator.get("minMemory"):
        gpus += f" with {accelerator['minMemory']} or more"
    parts = [str(version), f"engine {engine.get('name', 'Auto')}", gpus]
    if engine.get("contextTokens"):
        parts.append(f"contexts of {engine['contextTokens']} tokens")
    if engine.get("maxConcurrency"):
        parts.append(f"{engine['maxConcurrency']} requests at a time")
    return ", ".join(parts)


def _chosen(plan: Mapping[str, Any], screen: Screen) -> list[str]:
    if not plan:
        return [_row("chosen", "nothing yet")]
    lead = _row("chosen" if plan.get("node") else "no place", "")
    lines = screen.wrap(plan.get("message") or plan.get("node") or "", lead)
    footprint = plan.get("footprint") or {}
    if footprint:
        lines += screen.wrap(_memory(plan, footprint), _row("memory", ""))
    return lines


def _memory(plan: Mapping[str, Any], footprint: Mapping[str, Any]) -> str:
    """Return the sum that the fit is made of, for one GPU."""
    low, high = footprint.get("overheadLowBytes", 0), footprint.get("overheadHighBytes", 0)
    total = f" of {readable_bytes(plan['gpuMemoryBytes'])}" if plan.get("gpuMemoryBytes") else ""
    return (
        f"weights {readable_bytes(footprint.get('weightsBytesPerGpu', 0))}, "
        f"cache {readable_bytes(footprint.get('kvBytesRequired', 0))} at least, "
        f"overhead {readable_bytes(low)} to {readable_bytes(high)}{total}"
    )


def _measured(one: Mapping[str, Any]) -> str:
    """Return what an engine reported of its cache, beside what was planned."""
    outside = f"; {one['errorPercent']} % outside of it" if one["errorPercent"] else ""
    return (
        f"{one['kvCacheTokens']} tokens of cache by {one['engine']} with {one['version']} on "
        f"{one['gpus']} x {one['product']}, planned {one['plannedLowTokens']} to {one['plannedHighTokens']}"
        f"{outside}; the next plan of the same kind reckons with it"
    )


def _gates(service: Mapping[str, Any], screen: Screen) -> list[str]:
    lines = []
    for type_ in GATES:
        row = condition(service, type_)
        state = row.get("status", "Unknown")
        lead = f"{type_:<14}{state:<9}"
        first, *more = screen.wrap(row.get("message", "not looked at yet"), lead)
        lines += [f"{type_:<14}{screen.word(state, f'{state:<9}')}{first[len(lead) :]}", *more]
    return lines


def _rejected(plan: Mapping[str, Any], screen: Screen) -> list[str]:
    rows: Sequence[Mapping[str, Any]] = plan.get("rejected") or ()
    if not rows:
        return []
    lines = ["", screen.paint("not taken", BOLD)]
    for row in rows:
        message = row.get("message") or f"{row.get('node')}: {row.get('reason')}"
        lines += screen.wrap(message, f"{screen.mark('failed')} ")
    return lines


def _next(service: Mapping[str, Any], plan: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return what the reader can do, from the refusals themselves."""
    held = [condition(service, type_) for type_ in GATES]
    wanted = [todo(row.get("message", "")) for row in held if row.get("status") == "False"]
    steps = list(dict.fromkeys(step for step in wanted if step))
    if steps:
        return [line for step in steps for line in screen.wrap(step, _row("next", ""))]
    if any(row.get("status") != "True" for row in held):
        return [_row("next", "wait: the operator is not done yet")]
    return [_row("next", "nothing to do")]
