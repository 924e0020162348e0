"""The audit chain of one object: entries that name the hash of the one before, so that none can be changed.

The end of the chain lies in status beside the state that it tells of: one write makes both true.

Source: research/governance.md 4.2.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from modelops.artifacts.canonical import canonical
from modelops.plan import Manifest

VERSION = 1
KEEP = 20
"""Entries that a status holds; older ones are in the log alone."""
MOST_BYTES = 16384
"""Bytes of canonical JSON that a status holds of them at the most."""
LONGEST_REASON = 1024


def genesis(uid: str) -> str:
    """Return what the first entry of an object's chain names as the one before."""
    return _digest(uid.encode())


def sealed(entry: Mapping[str, Any]) -> Manifest:
    """Return *entry* with its hash.

    Raises:
        NotCanonical: it holds a float, or text outside the limits of canonical JSON.
    """
    bare = {key: value for key, value in entry.items() if key != "hash"}
    return {**bare, "hash": _digest(canonical(bare))}


def appended(status: Mapping[str, Any], uid: str, entries: Sequence[Mapping[str, Any]]) -> Manifest:
    """Return ``history`` and ``audit`` of *status* with *entries* after what is there, oldest first.

    An entry brings what happened; where it stands in the chain is added here.  Without entries both
    stay as they are.
    """
    history = [dict(entry) for entry in status.get("history") or ()]
    audit = dict(status.get("audit") or {})
    seq, head = int(audit.get("seq", 0)), str(audit.get("head") or genesis(uid))
    for entry in entries:
        seq += 1
        whole = sealed({**entry, "v": VERSION, "uid": uid, "seq": seq, "prev": head})
        head = whole["hash"]
        history.append(whole)
    if not history:
        return {}
    return {"history": _newest(history), "audit": {"seq": seq, "head": head}}


def broken_at(history: Sequence[Mapping[str, Any]], audit: Mapping[str, Any]) -> int | None:
    """Return the seq of the first entry that was changed or does not follow; None: the chain holds.

    The first may follow on entries that are no longer kept.  0 is a head that is not the last entry's.
    """
    for index, entry in enumerate(history):
        before = history[index - 1] if index else None
        follows = before is None or (entry["prev"], entry["seq"]) == (before["hash"], before["seq"] + 1)
        if not follows or sealed(entry)["hash"] != entry["hash"]:
            return int(entry["seq"])
    last = (history[-1]["seq"], history[-1]["hash"]) if history else None
    return None if last is None or last == (audit.get("seq"), audit.get("head")) else 0


def _newest(history: list[Manifest]) -> list[Manifest]:
    kept = history[-KEEP:]
    sizes = [len(canonical(entry)) for entry in kept]
    while len(kept) > 1 and sum(sizes) > MOST_BYTES:
        del kept[0], sizes[0]
    return kept


def _digest(text: bytes) -> str:
    return "sha256:" + hashlib.sha256(text).hexdigest()
