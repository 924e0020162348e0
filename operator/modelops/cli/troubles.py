"""What is not fine with an object, each thing once, in the operator's own sentences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelops.cli.screen import BAD, BUSY, Screen

CHOSEN = frozenset({"NoGateway"})
"""Reasons of Unknown that are somebody's choice and wait for nothing."""
STARTING = "Starting"
"""Reason of a Ready that is False only because the first pods are on their way."""
GOOD_WHEN_FALSE = frozenset({"Stalled", "Reconciling"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """One sentence; ``is_bad``: somebody must act, else it is under way or waits for something."""

    text: str
    is_bad: bool = True


def condition(obj: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """Return a condition of the object, or an empty one."""
    return next((c for c in status(obj).get("conditions") or () if c["type"] == type_), {})


def status(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the status of the object, or an empty one."""
    found: Mapping[str, Any] = obj.get("status") or {}
    return found


def troubles(obj: Mapping[str, Any]) -> list[Trouble]:
    """Return what is not fine with an InferenceService or a ModelVersion, the worst first."""
    found = [*_unseen(obj), *_conditions(obj), *_failure(obj), *_approvals(obj), *_nodes(obj)]
    return sorted(_once(found), key=lambda trouble: not trouble.is_bad)


def of_all(objects: Iterable[Mapping[str, Any]]) -> list[Trouble]:
    """Return what is not fine with any of them; what two objects say alike comes once."""
    return sorted(_once(t for obj in objects for t in troubles(obj)), key=lambda trouble: not trouble.is_bad)


def of_nodes(nodes: Iterable[Mapping[str, Any]]) -> list[Trouble]:
    """Return what is not fine with the GPUs of ModelNodes."""
    found: list[Trouble] = []
    for node in nodes:
        readable = condition(node, "GPUsReadable")
        if readable.get("status") == "False":
            found.append(Trouble(readable["message"]))
        gpus = status(node).get("gpus") or ()
        found += [
            Trouble(f"{node['metadata']['name']}, {gpu['message']}") for gpu in gpus if "message" in gpu
        ]
    return found


def lines(found: Sequence[Trouble], screen: Screen) -> list[str]:
    """Return the sentences, marked and wrapped."""
    out: list[str] = []
    for trouble in found:
        mark = screen.mark("failed" if trouble.is_bad else "ahead")
        first, *more = screen.wrap(trouble.text, f"{mark} ")
        out += [screen.paint(mark, BAD if trouble.is_bad else BUSY) + first[len(mark) :], *more]
    return out


def todo(message: str) -> str:
    """Return what a refusal says to do: its last clause; empty when it says nothing."""
    return message.rpartition("; ")[2] if "; " in message else ""


def _unseen(obj: Mapping[str, Any]) -> Iterable[Trouble]:
    meta, seen = obj["metadata"], status(obj).get("observedGeneration")
    name, wanted = meta["name"], meta.get("generation", 0)
    if seen is None:
        yield Trouble(f"{name}: the operator has not looked at it yet; check that the operator runs")
    elif seen < wanted:
        yield Trouble(
            f"{name}: its spec is at generation {wanted}, the operator has looked at {seen}; "
            "check that the operator runs when this stays",
            is_bad=False,
        )


def _conditions(obj: Mapping[str, Any]) -> Iterable[Trouble]:
    rows: Sequence[Mapping[str, Any]] = status(obj).get("conditions") or ()
    open_ = {row.get("message") for row in rows if row["status"] == "Unknown"}
    for row in rows:
        good = "False" if row["type"] in GOOD_WHEN_FALSE else "True"
        if row["status"] == good or row.get("reason") in CHOSEN:
            continue
        is_summary = row["type"] == "Ready" and (row.get("reason") == STARTING or row.get("message") in open_)
        is_bad = row["status"] != "Unknown" and row["type"] != "Reconciling" and not is_summary
        yield Trouble(
            row.get("message") or f"{obj['metadata']['name']}: {row['type']} is {row['status']}", is_bad
        )


def _failure(obj: Mapping[str, Any]) -> Iterable[Trouble]:
    """Tell how a container ended, as long as it may be why something is not ready."""
    last = status(obj).get("lastFailure") or {}
    if not last or (condition(obj, "Ready").get("status") == "True" and not status(obj).get("candidate")):
        return
    code = f", exit code {last['exitCode']}" if last.get("exitCode") is not None else ""
    why = f": {last['message']}" if last.get("message") else ""
    yield Trouble(
        f"{obj['metadata']['name']}: a container ended ({last.get('reason') or 'Error'}{code}){why}"
    )


def _approvals(obj: Mapping[str, Any]) -> Iterable[Trouble]:
    """Tell which approvals do not count."""
    for environment in (status(obj).get("approval") or {}).get("environments") or ():
        for ignored in environment.get("ignored") or ():
            yield Trouble(f"approval {ignored['message']}", is_bad=False)


def _nodes(obj: Mapping[str, Any]) -> Iterable[Trouble]:
    for node in (status(obj).get("cache") or {}).get("nodes") or ():
        if node.get("phase") == "Failed":
            yield Trouble(
                f"{obj['metadata']['name']} on {node['name']}: {node.get('message') or 'not fetched'}"
            )


def _once(found: Iterable[Trouble]) -> list[Trouble]:
    """Return each sentence once, as bad as its worst."""
    by_text: dict[str, Trouble] = {}
    for trouble in found:
        known = by_text.get(trouble.text)
        by_text[trouble.text] = (
            trouble if known is None else Trouble(trouble.text, known.is_bad or trouble.is_bad)
        )
    return list(by_text.values())
