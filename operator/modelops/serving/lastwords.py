"""Why a container ended: its exit code and the end of its log, without secrets and bounded."""

import re
from typing import Any

from modelops.engines import by_name
from modelops.plan import Reason
from modelops.serving.snapshot import Exit

MAX_TAIL = 4096
MAX_QUOTE = 300
HIDDEN = "[redacted]"
SECRETS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"()-----BEGIN [^-]*PRIVATE KEY-----[\s\S]*?(?:-----END [^-]*PRIVATE KEY-----|\Z)",
        r"(://)[^/\s:@]*:[^/\s@]*(?=@)",  # user and password in an address
        r"(\b(?:bearer|basic) )\S{6,}",
        r"()\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*",  # JSON web tokens
        r"()\b(?:hf|gh[pousr]|github_pat|glpat|xox[abprs]|sk|pypi|dckr_pat)[-_][\w-]{16,}",
        r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        # NAME=value, NAME: value, "name": "value" of anything that is called like a secret.
        r"((?:token|key|secret|passwd|password|pwd|credentials?|signature)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+",
    )
)
"""What is blacked out, after a first group that stays."""


def told(last: Exit, engine: str) -> dict[str, Any]:
    """Return ``status.lastFailure`` of a container that ended badly."""
    out: dict[str, Any] = {
        "reason": last.reason or "Error",
        "exitCode": last.code,
        "oomKilled": last.reason == "OOMKilled",
    }
    tail = redacted(last.log_tail)
    message = last.message or _advice(last, engine, tail)
    if message:
        out["message"] = message
    if tail:
        out["logTail"] = tail
    return out


def redacted(text: str) -> str:
    """Return the end of *text* without secrets and control characters, at most 4096 letters.

    Secrets go first: a cut through one would leave a piece that nothing recognises.
    """
    for secret in SECRETS:
        text = secret.sub(rf"\g<1>{HIDDEN}", text)
    plain = "".join(c for c in text if c in "\n\t" or c.isprintable()).strip()
    if len(plain) <= MAX_TAIL:
        return plain
    return plain[-MAX_TAIL:].partition("\n")[2] or plain[-MAX_TAIL:]


def _advice(last: Exit, engine: str, tail: str) -> str:
    """Return what to do: by memory, by what the engine is known to say, else nothing."""
    if last.reason == "OOMKilled":
        return "needs more memory than it may have; raise podTemplate.resources.limits.memory or serve less"
    known = by_name(engine)
    if isinstance(known, Reason):
        return ""
    for fault in known.faults:
        line = next((line for line in tail.splitlines() if fault.text in line), None)
        if line is not None:
            return f"{fault.advice} ({line.strip()[:MAX_QUOTE]})"
    return ""
