"""The Job by which a policy has a candidate evaluated: what it is asked, and what it said.

It runs when the candidate is ready and before the first request of users, whose windows it would disturb, and
calls the candidate, and stable beside it, by the Services of their revisions.  It has no token of the API and
no secret, and what it says counts for the run that it was made for alone.
"""

from collections.abc import Iterator

from modelops.api import names
from modelops.api.policy import EvaluationSetting
from modelops.governance.results import read
from modelops.plan import Manifest, Ref
from modelops.rollouts.seen import Evaluation
from modelops.rollouts.state import Phase, Rollout
from modelops.serving import manifests
from modelops.serving.snapshot import EvaluationRow, Snapshot

CONTAINER = "evaluate"
RETRIES = 2


def told(seen: Snapshot, state: Rollout) -> Evaluation | None:
    """Return how far the candidate's evaluation is; None: none is demanded of this run.

    A policy that is edited after the first step demands it of the next run.
    """
    if seen.policy is None or seen.policy.evaluation is None or state.candidate is None:
        return None
    if state.evaluation is None and state.phase is not Phase.STARTING:
        return None
    where = f"{seen.name}: {state.candidate.version}"
    row = _row(seen, state)
    if row is None:
        return Evaluation("", f"{where} needs a result of its evaluation, which begins when it is ready")
    result = read(row.message) if row.message else None
    if result is not None:
        return Evaluation(
            result.grade.value, f"{where}: its evaluation says {result.grade}, {result.describe()}"
        )
    if row.is_failed:
        found = f"the Job {row.name} failed ({row.fault})"
    elif row.message:
        found = f"last words of the Job {row.name} that cannot be read"
    else:
        waits = f" ({row.fault})" if row.fault else ""
        return Evaluation(
            "", f"{where} needs a result of its evaluation; the Job {row.name} has not ended{waits}"
        )
    return Evaluation(
        "",
        f"{where} needs a result of its evaluation, found {found}; delete the Job to try again, "
        "or promote the candidate",
    )


def wanted(seen: Snapshot, state: Rollout) -> tuple[Manifest, ...]:
    """Return the Job while it is due and not there: it runs once, and its template cannot be changed."""
    if seen.policy is None or seen.policy.evaluation is None or not _is_due(seen, state):
        return ()
    return (job(seen, state, seen.policy.evaluation),) if _row(seen, state) is None else ()


def stale(seen: Snapshot, state: Rollout) -> Iterator[Ref]:
    """Yield the Jobs of runs that are over."""
    ours = job_name(seen.name, state.run_id) if _is_run(state) else ""
    for row in seen.evaluations:
        if row.name != ours:
            yield Ref("batch/v1", "Job", seen.namespace, row.name, row.uid)


def job(seen: Snapshot, state: Rollout, asked: EvaluationSetting) -> Manifest:
    """Return the Job of this run."""
    assert state.candidate is not None
    owner = manifests.Owner(seen.namespace, seen.name, seen.service.uid)
    env = {
        "MODELOPS_SERVICE": seen.name,
        "MODELOPS_RUN_ID": state.run_id,
        "MODELOPS_CANDIDATE": state.candidate.version,
        "MODELOPS_CANDIDATE_URL": _url(seen, state.candidate.hash),
    }
    if state.stable is not None:
        env |= {"MODELOPS_STABLE": state.stable.version, "MODELOPS_STABLE_URL": _url(seen, state.stable.hash)}
    labels = names.managed_labels(**{names.EVALUATES: seen.name})
    container = {
        "name": CONTAINER,
        "image": asked.image,
        "args": list(asked.args),
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "terminationMessagePolicy": "File",
        "securityContext": manifests.locked(),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": manifests.meta(owner, job_name(seen.name, state.run_id), labels),
        "spec": {
            "backoffLimit": RETRIES,
            "activeDeadlineSeconds": int(asked.timeout.total_seconds()),
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": manifests.nobody(),
                    "containers": [container],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    }


def job_name(service: str, run_id: str) -> str:
    """Return the name of the Job of one run."""
    return names.child_name(service, "evaluate", run_id)


def _url(seen: Snapshot, revision: str) -> str:
    return f"http://{names.revision_name(seen.name, revision)}.{seen.namespace}.svc:{manifests.HTTP_PORT}"


def _row(seen: Snapshot, state: Rollout) -> EvaluationRow | None:
    name = job_name(seen.name, state.run_id)
    return next((row for row in seen.evaluations if row.name == name), None)


def _is_run(state: Rollout) -> bool:
    return state.candidate is not None and not state.is_before_start and not state.is_leaving


def _is_due(seen: Snapshot, state: Rollout) -> bool:
    """Return whether the candidate answers, and nobody has judged it yet in this run."""
    if state.candidate is None or state.stable is None or state.evaluation is not None:
        return False
    ready = any(p.is_ready and not p.is_terminating and p.revision == state.candidate.hash for p in seen.pods)
    return ready and state.phase is Phase.STARTING
