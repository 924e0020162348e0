"""Trust in an approval: the gate's own mark on records that were made while it was in force."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelops.plan import Reason

MARGIN = timedelta(seconds=10)
"""API servers load a changed policy 4 to 5 s later.  Source: measured on kube-apiserver 1.36."""


@dataclass(frozen=True, slots=True)
class GateState:
    """Whether the admission policies were proven to be in force, and since when."""

    enforced_since: datetime | None = None
    """Latest creation or change of any policy or binding; None: not proven."""
    fault: Reason | None = None
    """What is wrong with the gate; None with a time: green."""

    @property
    def is_green(self) -> bool:
        return self.fault is None and self.enforced_since is not None


@dataclass(frozen=True, slots=True)
class Record:
    """What a countersignature covers."""

    uid: str
    created_at: str
    """``metadata.creationTimestamp`` as the server wrote it."""
    spec_sha256: str
    """Hex sha256 of the canonical JSON of the whole ``spec``."""


def mac(key: bytes, record: Record) -> str:
    """Return the hex HMAC-SHA256 of the record under the gate's key."""
    text = f'{{"creationTimestamp":"{record.created_at}","spec":"{record.spec_sha256}","uid":"{record.uid}"}}'
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def is_countersigned(keys: dict[str, bytes], record: Record, key_id: str, signature: str) -> bool:
    """Return whether *signature* is ours; an unknown key id is not."""
    key = keys.get(key_id)
    return key is not None and hmac.compare_digest(mac(key, record), signature)


def may_countersign(gate: GateState, created_at: datetime) -> Reason | None:
    """Return why a new record must not be trusted; None: sign it.

    Only records made after the gate was in force everywhere are signed.
    """
    if gate.fault is not None:
        return gate.fault
    if gate.enforced_since is None:
        return Reason("GateNotProven", "the approval gate was not checked yet; wait for its self-test")
    if created_at > gate.enforced_since + MARGIN:
        return None
    return Reason(
        "GateNotEnforced",
        f"needs an approval made after the gate was in force "
        f"({gate.enforced_since + MARGIN:%Y-%m-%dT%H:%M:%SZ}), found one of "
        f"{created_at:%Y-%m-%dT%H:%M:%SZ}; create it again",
    )
