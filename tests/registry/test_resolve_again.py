"""When a Job that failed to pin a version is tried again."""

from datetime import UTC, datetime, timedelta

import pytest

from modelops.api.version import ModelVersion
from modelops.governance.requirements import Requirement
from modelops.registry.snapshot import JobRow, VersionSnapshot
from modelops.registry.version import plan

FIRST = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
VERSION = ModelVersion.parse(
    {
        "metadata": {"name": "chat-1", "namespace": "quickstart", "uid": "u-1", "generation": 1},
        "spec": {
            "modelRef": "chat",
            "version": "1",
            "source": {"huggingFace": {"repo": "acme/chat", "revision": "v1"}},
        },
    }
)


def planned(*, ended: datetime, now: datetime):
    seen = VersionSnapshot(
        version=VERSION,
        status={
            "conditions": [
                {"type": "Resolved", "status": "Unknown", "lastTransitionTime": "2026-01-05T09:00:00Z"}
            ]
        },
        spec_hash="sha256:" + "ab" * 32,
        model=None,
        environment="default",
        requirement=Requirement(),
        job=JobRow("resolve-chat-1-abababab", "u-2", is_failed=True, ended_at=ended, fault="cannot pull"),
        allowed_hosts=("huggingface.co",),
    )
    return plan(seen, now)


@pytest.mark.parametrize(
    ("tried", "pause"),
    [
        pytest.param(timedelta(seconds=20), timedelta(minutes=1), id="at least a minute"),
        pytest.param(timedelta(minutes=8), timedelta(minutes=4), id="half of the time it was tried"),
        pytest.param(timedelta(days=3), timedelta(minutes=30), id="at most half an hour"),
    ],
)
def test_a_job_that_fails_again_and_again_is_tried_less_often(tried, pause):
    ended = FIRST + tried
    early = planned(ended=ended, now=ended + pause - timedelta(seconds=1))
    assert (early.delete, early.after) == ((), timedelta(seconds=1))
    due = planned(ended=ended, now=ended + pause)
    assert [gone.kind for gone in due.delete] == ["Job"]
