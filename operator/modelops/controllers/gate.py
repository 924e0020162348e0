"""Prove again and again that the approval gate is in force, and since when."""

import asyncio
import base64
import hashlib
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from modelops.api.names import API_VERSION
from modelops.clients.errors import ApiError, Forbidden, NotFound, Unavailable
from modelops.controllers.context import GATE, GATE_TOPIC, GateKeys
from modelops.controllers.seam import Parts
from modelops.controllers.store import Key, OwnRow
from modelops.governance import policies
from modelops.governance.countersign import GateState
from modelops.plan import Manifest, Reason, Ref

log = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
FIRST_SECONDS = 2.0
FORGED = "modelops-gate-self-test"
"""Name of the approval that is only ever tried, never stored."""
NO_DIGEST = "sha256:" + "0" * 64


def load_keys(path: str | None) -> GateKeys:
    """Return the gate's keys; the id of a key is the start of its digest.

    The file holds one base64 key a line; the first signs, all verify.  No file: nothing is countersigned.
    """
    if path is None:
        return GateKeys({}, "")
    lines = Path(path).read_text(encoding="ascii").split()
    keys = [base64.b64decode(line) for line in lines]
    by_id = {hashlib.sha256(key).hexdigest()[:12]: key for key in keys}
    return GateKeys(by_id, next(iter(by_id), ""))


class GateWatch:
    """The self-test: each policy and binding exists as shipped, and a forged approval is denied by name."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._seen: dict[str, tuple[str, int]] = {}
        self._changed_at: datetime | None = None
        self._log = ""

    async def run(self) -> None:
        """Test for ever."""
        pause = FIRST_SECONDS
        while True:
            await asyncio.sleep(pause)
            state = await self._test()
            pause = EVERY_SECONDS if state.is_green else FIRST_SECONDS * 2
            before = self._parts.observations.get(GATE, GATE_TOPIC)
            if state == before:
                continue
            self._tell(state)
            self._parts.observations.put(GATE, GATE_TOPIC, state)
            for key in self._waiting():
                self._parts.observations.put(key, GATE_TOPIC, state)

    def _waiting(self) -> Iterator[Key]:
        """Yield whom the state of the gate concerns: every approval, and services with one in their spec."""
        for row in self._parts.store.rows("ModelApproval"):
            yield Key("ModelApproval", row.namespace, row.name)
        for row in self._parts.store.rows("InferenceService"):
            if isinstance(row, OwnRow) and b'"approves"' in row.json:
                yield Key("InferenceService", row.namespace, row.name)

    def _tell(self, state: GateState) -> None:
        text = state.fault.message if state.fault else f"in force since {state.enforced_since}"
        if text != self._log:
            self._log = text
            log.log(logging.WARNING if state.fault else logging.INFO, "approval gate: %s", text)

    async def _test(self) -> GateState:
        """Return what is proven now; an API server that does not answer proves nothing new."""
        try:
            fault, latest = await self._policies()
            if fault is None:
                fault = await self._forge()
        except Unavailable as error:
            fault = Reason("GateNotProven", f"the approval gate cannot be checked now: {error}")
            latest = None
        except ApiError as error:
            fault = Reason("GateNotProven", f"the approval gate cannot be checked: {error}")
            latest = None
        if fault is not None:
            return GateState(None, fault)
        since = max(filter(None, (latest, self._changed_at)), default=None)
        return GateState(since, None)

    async def _policies(self) -> tuple[Reason | None, datetime | None]:
        """Compare every object of the gate with what this release ships; return the latest change."""
        latest: datetime | None = None
        for wanted in policies.required(stamping=self._parts.settings.gate.stamping):
            kind, name = wanted["kind"], wanted["metadata"]["name"]
            try:
                found = await self._parts.kube.get(Ref(wanted["apiVersion"], kind, None, name))
            except NotFound:
                self._changed_at = self._parts.clock.now()
                return Reason(
                    "GateNotEnforced", f"the approval gate needs {kind} {name}, found none; install it again"
                ), None
            self._note(f"{kind}/{name}", found["metadata"])
            if policies.spec_digest(found) != policies.spec_digest(wanted):
                self._changed_at = self._parts.clock.now()
                return Reason(
                    "GateNotEnforced",
                    f"the approval gate needs {kind} {name} as shipped, found another spec; install it again",
                ), None
            changed = changed_at(found["metadata"])
            latest = changed if latest is None else max(latest, changed)
        return None, latest

    def _note(self, what: str, meta: Mapping[str, object]) -> None:
        """Remember uid and generation: a change made and undone meanwhile is a change too."""
        mark = (str(meta["uid"]), int(str(meta.get("generation", 0))))
        before = self._seen.get(what)
        if before is not None and before != mark:
            self._changed_at = self._parts.clock.now()
        self._seen[what] = mark

    async def _forge(self) -> Reason | None:
        """Try an approval in another's name: the server must deny it, and name the policy."""
        namespace = self._parts.settings.namespace
        try:
            await self._parts.kube.create(forged(namespace), dry_run=True)
        except Forbidden as error:
            if policies.APPROVAL in str(error):
                return None
            return Reason(
                "GateNotProven",
                f"the approval gate needs a denial by {policies.APPROVAL}, found another: {error}",
            )
        return Reason(
            "GateNotEnforced",
            "the approval gate needs to deny a forged approval, found it accepted; install the gate again",
        )


def changed_at(meta: Mapping[str, Any]) -> datetime:
    """Return when the object was created or last written, its status left out.

    What was changed and put right again while no operator looked shows only here.
    """
    writes = (
        entry["time"]
        for entry in meta.get("managedFields") or ()
        if entry.get("time") and not entry.get("subresource")
    )
    return max(datetime.fromisoformat(text) for text in (meta["creationTimestamp"], *writes))


def forged(namespace: str) -> Manifest:
    """Return an approval that nobody may make."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelApproval",
        "metadata": {"name": FORGED, "namespace": namespace},
        "spec": {
            "modelRef": FORGED,
            "versionRef": FORGED,
            "decision": "Approve",
            "artifactDigest": NO_DIGEST,
            "specHash": NO_DIGEST,
            "environments": ["self-test"],
            "reason": "self-test of the approval gate",
            "approver": {"username": "system:modelops:nobody"},
        },
    }
