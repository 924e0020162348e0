"""What a caller of the API server or of Prometheus has to tell apart."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any


class Refuser(StrEnum):
    """Who said no to a request that was understood."""

    RBAC = "RBAC"
    """The operator lacks a right: the installation is wrong."""
    ADMISSION = "Admission"
    """A policy, a webhook, a quota or a pod security level: news for the user."""


class ApiError(Exception):
    """A request failed; the message names the verb, the object and what was answered."""


class NotFound(ApiError):
    """The object, or its whole kind, is not there."""


class Conflict(ApiError):
    """Another writer was first, the object exists already, or a precondition no longer holds.

    ``managers`` names the owners of the fields when an apply without force hit them.
    """

    def __init__(self, message: str, managers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.managers = managers


class Forbidden(ApiError):
    """The request was refused: ``by`` is how, ``who`` the user, policy, webhook or quota."""

    def __init__(self, message: str, *, by: Refuser, who: str, answer: str) -> None:
        super().__init__(message)
        self.by = by
        self.who = who
        self.answer = answer


class Invalid(ApiError):
    """The server will never accept this request: our bug, or a schema of another version."""


class Gone(ApiError):
    """The resourceVersion or the continue token is too old: list again."""


class Unavailable(ApiError):
    """Not now; nothing was executed.  ``retry_after`` is what the server asked for, or None."""

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Ambiguous(ApiError):
    """The answer to a write was lost: it may have been executed."""


class NotLeading(ApiError):
    """This replica may not write (any more); nothing was sent."""


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Return the pause of a Retry-After header: seconds or an HTTP date; absent or unreadable is None.

    Source: RFC 9110, section 10.2.3.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=int(text))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(timedelta(0), at - now)


def from_answer(
    what: str, code: int, status: Mapping[str, Any], pause: timedelta | None, *, writes: bool
) -> ApiError:
    """Return the error for an answer of the API server that is not 2xx.

    *what* is "verb Kind namespace/name"; *status* the decoded ``Status`` object, or ``{}``;
    *writes* tells whether a timeout may hide a request that was executed.
    """
    answer = " ".join(str(status.get("message") or f"HTTP {code}").split())
    text = f"{what}: {answer}"
    refuser = _admission(answer)
    if refuser and code in (400, 401, 403, 413, 422):
        return Forbidden(text, by=Refuser.ADMISSION, who=refuser, answer=answer)
    match code:
        case 404:
            return NotFound(text)
        case 409:
            return Conflict(text, _managers(status))
        case 410:
            return Gone(text)
        case 403:
            return Forbidden(text, by=Refuser.RBAC, who=_user(answer), answer=answer)
        case 401 | 408 | 429:
            # 401: the token is read again within a minute, so asking again is the cure.
            return Unavailable(text, pause)
        case 504 if writes:
            return Ambiguous(text)
        case _ if code >= 500:
            return Unavailable(text, pause)
        case _:
            return Invalid(text)


# How the admission plug-ins of Kubernetes 1.30 to 1.36 begin their refusals.
_REFUSALS = (
    (re.compile(r"admission webhook \"([^\"]+)\" denied"), "webhook {}"),
    (re.compile(r"ValidatingAdmissionPolicy '([^']+)' with binding"), "policy {}"),
    (re.compile(r"violates PodSecurity \"([^\"]+)\""), "pod security level {}"),
    (re.compile(r"exceeded quota: ([^,]+)"), "quota {}"),
    (re.compile(r"(?:minimum|maximum) \S+ usage per (\S+) is"), "limit range for {}"),
    (re.compile(r"unable to create new content in namespace (\S+) because it is being"), "namespace {}"),
)


def _admission(answer: str) -> str:
    for pattern, form in _REFUSALS:
        if found := pattern.search(answer):
            return form.format(found.group(1))
    return ""


def _user(answer: str) -> str:
    found = re.search(r"User \"([^\"]+)\" cannot", answer)
    return found.group(1) if found else "the API server"


def _managers(status: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the field managers named by an apply conflict: ``conflict with "kubectl" using v1: .spec``."""
    causes = (status.get("details") or {}).get("causes") or ()
    named = (re.search(r"conflict with \"([^\"]+)\"", str(cause.get("message"))) for cause in causes)
    return tuple(sorted({found.group(1) for found in named if found}))
