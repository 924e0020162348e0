"""What the server answers when it says no, in the words of the real one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Refusal(Exception):
    """A ``Status`` object of failure."""

    code: int
    reason: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Return it as it goes over the wire."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": dict(self.details),
            "code": self.code,
        }


def not_found(plural: str, name: str) -> Refusal:
    return Refusal(404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": plural})


def exists(plural: str, name: str) -> Refusal:
    return Refusal(409, "AlreadyExists", f'{plural} "{name}" already exists', {"name": name, "kind": plural})


def conflict(plural: str, name: str, why: str) -> Refusal:
    told = f'Operation cannot be fulfilled on {plural} "{name}": {why}'
    return Refusal(409, "Conflict", told, {"name": name, "kind": plural})


def stale(plural: str, name: str) -> Refusal:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(plural, name, why)


def precondition(plural: str, name: str, what: str, wanted: str, found: str) -> Refusal:
    why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
    return conflict(plural, name, why)


def owned_by_others(managers: Mapping[str, str]) -> Refusal:
    """Return the conflict of an apply without force; *managers* by field."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}"', "field": at}
        for at, manager in sorted(managers.items())
    ]
    named = ", ".join(sorted(set(managers.values())))
    told = f"Apply failed with {len(causes)} conflicts: conflicts with {named}"
    return Refusal(409, "Conflict", told, {"causes": causes})


def invalid(plural: str, name: str, why: str) -> Refusal:
    return Refusal(422, "Invalid", f'{plural} "{name}" is invalid: {why}', {"name": name, "kind": plural})


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def expired(message: str = "The resourceVersion for the provided watch is too old.") -> Refusal:
    return Refusal(410, "Expired", message)


def forbidden(user: str, verb: str, plural: str, group: str = "") -> Refusal:
    """Return the refusal of a right that is missing."""
    told = f'{plural} is forbidden: User "{user}" cannot {verb} resource "{plural}" in API group "{group}"'
    return Refusal(403, "Forbidden", told, {"kind": plural})


def denied(policy: str, binding: str, message: str) -> Refusal:
    """Return the refusal of a ValidatingAdmissionPolicy."""
    told = f"ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}"
    return Refusal(422, "Invalid", told)


def webhook_away(name: str) -> Refusal:
    told = (
        f'Internal error occurred: failed calling webhook "{name}": failed to call webhook: '
        f'Post "https://{name}.svc:443/validate?timeout=10s": dial tcp: connect: connection refused'
    )
    return Refusal(500, "InternalError", told)


def busy(code: int = 429, header: str | None = None, seconds: int | None = None) -> Refusal:
    """Return "not now", with the pause in the header, in the body, or nowhere."""
    reason = {429: "TooManyRequests", 503: "ServiceUnavailable", 504: "Timeout"}.get(code, "InternalError")
    details = {} if seconds is None else {"retryAfterSeconds": seconds}
    headers = {} if header is None else {"Retry-After": header}
    return Refusal(code, reason, "the server is currently unable to handle the request", details, headers)
