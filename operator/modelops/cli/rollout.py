"""``kubectl modelops rollout``: look at a run, follow it to its end, or act on it."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modelops.api.names import API_VERSION, DEFAULT_POLICY
from modelops.cli import flags, picture, runs, screen
from modelops.cli.refusal import Refused
from modelops.plan import Manifest

if TYPE_CHECKING:
    from modelops.cli.cluster import Cluster

ACTIONS = {
    "promote": "Promote",
    "abort": "Abort",
    "retry": "Retry",
    "pause": "Pause",
    "resume": "Resume",
}
EVERY_SECONDS = 2.0
ROLLED_BACK = 1
_HOME_AND_CLEAR = "\x1b[H\x1b[J"


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of ``kubectl modelops``."""
    parser = flags.command(
        subparsers,
        "rollout",
        help_="show or watch the way to a new version; promote, abort, retry, pause or resume it",
        description="Show the run of a service from one version to the next, or act on it.  With --watch it\n"
        "ends with the run: with 0, or with 1 when the run was rolled back.  With -o json it tells the runs\n"
        "before as well: their steps, decisions with the numbers, and who asked for what.  Where the policy\n"
        "asks for approval, promote is one, and needs the verb approve on the model.",
        example="  kubectl modelops rollout chat -n quickstart --watch\n"
        "  kubectl modelops rollout abort chat -n quickstart",
    )
    parser.usage = "kubectl modelops rollout [ACTION] NAME [--watch] [options]"
    parser.add_argument(
        "words",
        metavar="[ACTION] NAME",
        nargs="+",
        help=f"an InferenceService; ACTION is {', '.join(ACTIONS)}",
    )
    parser.add_argument("-w", "--watch", action="store_true", help="follow the run until it ends")
    flags.add_output(parser)
    flags.add_cluster(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show, follow or act."""
    action, name = _words(args.words)
    if action and (args.watch or args.output):
        raise Refused(f"{name}: an action is answered in one sentence; leave --watch and --output out")
    if args.watch and args.output:
        raise Refused(f"{name}: --watch draws for people; leave --output out")
    from modelops.cli import cluster  # 0.4 s of CPU that --help need not pay

    where = cluster.target(args)
    if action:
        print(cluster.ask(where, lambda seen: act(seen, name, action)))
        return 0
    if args.watch:
        return cluster.ask(where, lambda seen: follow(seen, name))
    service, steps = cluster.ask(where, lambda seen: look(seen, name))
    _show(service, steps, args.output)
    return 0


async def look(seen: "Cluster", name: str) -> tuple[Manifest, tuple[int, ...]]:
    """Return the service and the weights of its steps in percent; no weights when no policy tells them."""
    service = await seen.get("InferenceService", name)
    return service, await _steps(seen, service)


async def act(seen: "Cluster", name: str, action: str) -> str:
    """Ask the operator for *action* on the run that is in status, and return what was asked."""
    from modelops.cli.cluster import FIELD_MANAGER, denial
    from modelops.clients import errors

    service = await seen.get("InferenceService", name)
    wanted = wish(service, action, await seen.user())
    try:
        await seen.kube.apply(
            {
                "apiVersion": API_VERSION,
                "kind": "InferenceService",
                # A service of the same name that was made since then is another one.
                "metadata": {"name": name, "namespace": seen.namespace, "uid": service["metadata"]["uid"]},
                "spec": {"rollout": wanted},
            },
            field_manager=FIELD_MANAGER,
        )
    except errors.Forbidden as error:
        if error.by is not errors.Refuser.ADMISSION:
            raise
        raise Refused(f"{name}: {denial(error)}") from error
    asked = f"asked the operator to {action} run {wanted['runId']}"
    given = f"approved on model {wanted['approves']}, and {asked}" if "approves" in wanted else asked
    return f"{name}: {given}; see kubectl modelops rollout {name} --watch"


def wish(service: Mapping[str, Any], action: str, user: str) -> Manifest:
    """Return what stands in spec.rollout; *user* is who we are to the API server, empty when not known.

    A server that stamps writes the last two itself; the others check them.
    """
    rollout = (service.get("status") or {}).get("rollout") or {}
    wanted: Manifest = {"action": ACTIONS[action], "runId": run_of(service, action)}
    if rollout.get("wait") is not None:
        # A run waits more than once: the action names the wait that its asker sees.
        wanted["wait"] = rollout["wait"]
    if user:
        wanted["by"] = user
    model = (rollout.get("approval") or {}).get("model")
    return {**wanted, "approves": model} if model and action == "promote" else wanted


def run_of(service: Mapping[str, Any], action: str) -> str:
    """Return the run that *action* is for.

    Raises:
        Refused: there is none that it could change.
    """
    name, seen = service["metadata"]["name"], service.get("status") or {}
    rollout = seen.get("rollout") or {}
    run_id, phase = rollout.get("runId", ""), rollout.get("phase", "Stable")
    if action == "retry":
        return _rejected_run(name, seen)
    if not run_id or phase in ("Stable", "RolledBack"):
        raise Refused(
            f"{name}: needs a run to {action}, found phase {phase}; change the version to start one"
        )
    if action == "resume" and phase != "Paused" and not rollout.get("pausedFor"):
        raise Refused(f"{name}: needs a paused run to resume, found phase {phase}; nothing to do")
    if action == "pause" and phase not in ("Starting", *picture.AT_A_STEP):
        raise Refused(
            f"{name}: needs a run that starts or is at a step to pause, found phase {phase}; wait or abort"
        )
    if action == "promote" and not seen.get("candidate"):
        raise Refused(f"{name}: needs a candidate to promote, found none in phase {phase}; wait for its end")
    if action == "promote" and phase in picture.UNDONE:
        raise Refused(
            f"{name}: needs a run that goes forward to promote, found phase {phase}; wait and retry"
        )
    return str(run_id)


def _rejected_run(name: str, seen: Mapping[str, Any]) -> str:
    """Return the run of the version that is wanted now, else the last one that was rolled back."""
    marks = [mark for mark in seen.get("rejected") or () if mark.get("runId")]
    if not marks:
        raise Refused(f"{name}: needs a run that was rolled back to retry, found none; change the version")
    wanted = [mark for mark in marks if mark.get("version") == seen.get("model")]
    return str((wanted or marks)[-1]["runId"])


async def follow(seen: "Cluster", name: str) -> int:
    """Show the run until it ends: redrawn on a terminal, else one line for every change."""
    import asyncio

    from modelops.cli.cluster import sentence
    from modelops.clients import errors

    is_drawn = sys.stdout.isatty()
    before = ""
    while True:
        try:
            service, steps = await look(seen, name)
        except errors.Unavailable as error:
            print(sentence(error), file=sys.stderr)
            await asyncio.sleep(EVERY_SECONDS)
            continue
        if is_drawn:
            print(_HOME_AND_CLEAR, end="")
            _show(service, steps, None)
        elif (now := picture.line(service, steps)) != before:
            print(before := now, flush=True)
        if picture.has_ended(service):
            phase = ((service.get("status") or {}).get("rollout") or {}).get("phase")
            return ROLLED_BACK if phase == "RolledBack" else 0
        await asyncio.sleep(EVERY_SECONDS)


def _words(words: Sequence[str]) -> tuple[str, str]:
    """Return action and name; no action is empty."""
    match words:
        case [name]:
            return "", name
        case [action, name] if action in ACTIONS:
            return action, name
        case _:
            known = ", ".join(ACTIONS)
            raise Refused(
                f"rollout: needs NAME, or one of {known} and NAME, found {' '.join(words)}; correct it"
            )


async def _steps(seen: "Cluster", service: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the policy's steps; a policy that cannot be read costs the names of the steps only."""
    from modelops.api.meta import Malformed
    from modelops.api.policy import RolloutPolicy
    from modelops.clients import errors

    try:
        policy = await _policy(seen, service)
        return () if policy is None else RolloutPolicy.parse(policy).spec.in_force().steps
    except (errors.Forbidden, errors.NotFound, Malformed, Refused):
        return ()


async def _policy(seen: "Cluster", service: Mapping[str, Any]) -> Manifest | None:
    wanted = ((service.get("spec") or {}).get("rolloutPolicyRef") or {}).get("name")
    if wanted:
        return await seen.get("RolloutPolicy", wanted)
    policies = await seen.rows("RolloutPolicy")
    marked = [p for p in policies if (p["metadata"].get("labels") or {}).get(DEFAULT_POLICY) == "true"]
    return marked[0] if len(marked) == 1 else None


def _show(service: Manifest, steps: Sequence[int], form: str | None) -> None:
    from modelops.cli.output import dump

    if form:
        dump(runs.told(service), form)
    else:
        screen.show(picture.picture(service, steps, screen.here(), datetime.now(UTC)))
