"""``kubectl modelops approve``: decide about the bytes of a version, under one's own name."""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from modelops.api.names import API_VERSION, child_name
from modelops.cli import flags
from modelops.cli.refusal import Refused
from modelops.plan import Manifest, instant

if TYPE_CHECKING:
    from modelops.cli.cluster import Cluster

VERBS = {"Approve": "approved", "Reject": "rejected", "Revoke": "revoked"}
"""What somebody did, by decision."""
MOST_ATTEMPTS = 10
UNSTAMPED = "spec.approver"
"""What the gate's refusal names where no API server stamps the approver."""
LONGEST = timedelta(days=36_500)
WITHOUT_GATE = 1


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for."""

    version: str
    decision: str
    reason: str
    environments: tuple[str, ...]
    """Empty: the namespace's own."""
    expires_at: datetime | None
    now: datetime


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of ``kubectl modelops``."""
    parser = flags.command(
        subparsers,
        "approve",
        help_="approve the bytes of a version, or reject or revoke them",
        description="Create a ModelApproval for the very bytes that a ModelVersion has now.  The API server\n"
        "records who decided.  A rejection or a revocation cannot be taken back.",
        example="  kubectl modelops approve chat-2 -n quickstart --reason 'evaluation of 2026-03 passed' "
        "--expires-in 90d",
    )
    parser.add_argument("version", metavar="VERSION", help="a ModelVersion")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for those who read it later")
    parser.add_argument(
        "--environment",
        action="append",
        default=[],
        metavar="E",
        help="environment that it is for; may be repeated; default: that of the namespace",
    )
    parser.add_argument("--expires-in", metavar="90d", help="how long it counts; default: as governance says")
    decision = parser.add_mutually_exclusive_group()
    decision.add_argument(
        "--reject", dest="decision", action="store_const", const="Reject", help="say no for ever"
    )
    decision.add_argument(
        "--revoke",
        dest="decision",
        action="store_const",
        const="Revoke",
        help="withdraw the version for ever",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before what cannot be taken back")
    flags.add_output(parser, "name")
    flags.add_cluster(parser)
    parser.set_defaults(run=run, decision="Approve")


def run(args: argparse.Namespace) -> int:
    """Create the record and say in one line what happened."""
    wish = _wish(args, datetime.now(UTC))
    if wish.decision != "Approve" and not args.yes and sys.stdin.isatty():
        _confirm(wish)
    from modelops.cli import cluster  # 0.4 s of CPU that --help need not pay

    stored = cluster.ask(cluster.target(args), lambda seen: decide(seen, wish))
    _print(stored, args.output)
    if (stored["spec"].get("approver") or {}).get("username"):
        return 0
    print(
        f"{stored['metadata']['name']}: needs an approver, found none stamped, so it does not count; "
        "ask an administrator to install the approval gate, then approve again",
        file=sys.stderr,
    )
    return WITHOUT_GATE


async def decide(seen: "Cluster", wish: Wish) -> Manifest:
    """Create the ModelApproval, or return the one that says the same already."""
    version = await seen.get("ModelVersion", wish.version)
    environments = wish.environments or await _environments(seen, version)
    spec = spec_of(version, wish, environments)
    user = await seen.user()
    for attempt in range(MOST_ATTEMPTS):
        name = name_of(wish, spec, user, attempt)
        record: Manifest = {
            "apiVersion": API_VERSION,
            "kind": "ModelApproval",
            "metadata": {"name": name, "namespace": seen.namespace},
            "spec": spec,
        }
        stored = await _create(seen, record, user)
        if stored is not None:
            return stored
        known = await seen.get("ModelApproval", name)
        if still_counts(known, user, wish.now):
            return known
    raise Refused(
        f"{wish.version}: needs a free name for today's decision, found {MOST_ATTEMPTS} taken; "
        f"see kubectl get modelapprovals.modelops.dev -n {seen.namespace}"
    )


# --- what is asked -----------------------------------------------------------------------------------


def _wish(args: argparse.Namespace, now: datetime) -> Wish:
    expires_at = None if args.expires_in is None else now + _validity(args)
    environments = tuple(sorted(set(args.environment)))
    return Wish(args.version, args.decision, args.reason, environments, expires_at, now)


def _validity(args: argparse.Namespace) -> timedelta:
    from modelops.api.quantities import parse_duration

    if args.decision != "Approve":
        raise Refused(f"{args.version}: only an approval ends by itself; leave --expires-in out")
    try:
        length = parse_duration(args.expires_in)
    except ValueError as error:
        raise Refused(f"{args.version}: --expires-in: {error}; correct it") from error
    if not length:
        raise Refused(
            f"{args.version}: needs an end in the future, found {args.expires_in}; give a longer --expires-in"
        )
    if length > LONGEST:
        raise Refused(
            f"{args.version}: needs an end within 100 years, found {args.expires_in}; "
            "give a shorter --expires-in"
        )
    return length


def _confirm(wish: Wish) -> None:
    question = f"{wish.decision} {wish.version}? This cannot be taken back. [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused(f"{wish.version}: nothing was decided; answer y or give --yes")


async def _environments(seen: "Cluster", version: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the namespace's environment, or what the operator wrote where namespaces cannot be read."""
    own = await seen.environment()
    if own is not None:
        return (own,)
    rows = ((version.get("status") or {}).get("approval") or {}).get("environments") or ()
    if rows:
        return tuple(sorted(row["name"] for row in rows))
    raise Refused(
        f"{version['metadata']['name']}: needs an environment to decide for, found neither the right to read "
        f"namespace {seen.namespace} nor one in status; give --environment"
    )


def spec_of(version: Mapping[str, Any], wish: Wish, environments: Sequence[str]) -> Manifest:
    status = version.get("status") or {}
    if not status.get("artifactDigest") or not status.get("specHash"):
        raise Refused(
            f"{wish.version}: needs its bytes pinned before anybody can decide about them, "
            f"found phase {status.get('phase') or 'none'}; see kubectl modelops status"
        )
    spec: Manifest = {
        "modelRef": version["spec"]["modelRef"],
        "versionRef": wish.version,
        "decision": wish.decision,
        "artifactDigest": status["artifactDigest"],
        "specHash": status["specHash"],
        "environments": list(environments),
        "reason": wish.reason,
    }
    if wish.expires_at is not None:
        spec["expiresAt"] = instant(wish.expires_at)
    return spec


# --- the record --------------------------------------------------------------------------------------


def name_of(wish: Wish, spec: Mapping[str, Any], user: str, attempt: int) -> str:
    """Return a name that two people never share, and that one person gets again on the same day."""
    same = {key: spec[key] for key in ("artifactDigest", "specHash", "environments")}
    ends = wish.expires_at.date().isoformat() if wish.expires_at else ""
    text = json.dumps([same, user, wish.now.date().isoformat(), ends, attempt], sort_keys=True)
    return child_name(
        wish.version, wish.decision.lower(), hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    )


async def _create(seen: "Cluster", record: Manifest, user: str) -> Manifest | None:
    """Return the stored record; None when the name is taken."""
    from modelops.clients import errors

    try:
        try:
            return await seen.kube.create(record)
        except errors.Forbidden as error:
            if UNSTAMPED not in error.answer or not user:
                raise
            named = {**record["spec"], "approver": {"username": user}}
            return await seen.kube.create({**record, "spec": named})
    except errors.Conflict:
        return None
    except errors.Forbidden as error:
        raise Refused(_denied(record, error)) from error


def _denied(record: Mapping[str, Any], error: Any) -> str:
    """Return the refusal with the object first; the gate's own words already say what to do."""
    from modelops.cli.cluster import denial, sentence
    from modelops.clients import errors

    name = record["spec"]["versionRef"]
    if error.by is errors.Refuser.ADMISSION:
        return f"{name}: {denial(error)}"
    return f"{name}: {sentence(error).removeprefix('cluster: ')}"


def still_counts(known: Mapping[str, Any], user: str, now: datetime) -> bool:
    """Return whether our own record of today still says what we want to say."""
    spec = known["spec"]
    ends = spec.get("expiresAt")
    is_over = ends is not None and datetime.fromisoformat(ends) <= now
    is_ours = bool(user) and (spec.get("approver") or {}).get("username") == user
    return is_ours and not is_over and (known.get("status") or {}).get("trust") != "Untrusted"


# --- the answer --------------------------------------------------------------------------------------


def _print(stored: Manifest, form: str | None) -> None:
    from modelops.cli.output import dump

    if form == "name":
        print(f"modelapproval.modelops.dev/{stored['metadata']['name']}")
    elif form:
        dump(stored, form)
    else:
        print(told(stored))


def told(stored: Mapping[str, Any]) -> str:
    """Return who decided what about which bytes, for what, and until when."""
    spec = stored["spec"]
    who = (spec.get("approver") or {}).get("username") or "somebody"
    until = f" until {spec['expiresAt']}" if spec.get("expiresAt") else ""
    return (
        f"{who} {VERBS[spec['decision']]} {spec['versionRef']} ({spec['artifactDigest']}) for "
        f"{', '.join(spec['environments'])}{until}, recorded as {stored['metadata']['name']}"
    )
