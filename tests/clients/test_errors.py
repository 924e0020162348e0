"""Who refused, read from what API servers of 1.30 to 1.36 answer."""

from datetime import UTC, datetime, timedelta

import pytest

from modelops.clients.errors import Conflict, Forbidden, Refuser, from_answer, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("code", "message", "by", "who"),
    [
        pytest.param(
            403,
            'pods is forbidden: User "system:serviceaccount:m:o" cannot create resource "pods"',
            Refuser.RBAC,
            "system:serviceaccount:m:o",
            id="the operator lacks a right",
        ),
        pytest.param(
            400,
            'admission webhook "check.example.com" denied the request: no',
            Refuser.ADMISSION,
            "webhook check.example.com",
            id="a webhook",
        ),
        pytest.param(
            422,
            "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'gate' with binding 'b' denied request: no",
            Refuser.ADMISSION,
            "policy gate",
            id="a policy with its default reason",
        ),
        pytest.param(
            403,
            'pods "p" is forbidden: violates PodSecurity "restricted:latest": seccompProfile',
            Refuser.ADMISSION,
            "pod security level restricted:latest",
            id="a pod security level",
        ),
        pytest.param(
            403,
            'pods "p" is forbidden: exceeded quota: gpus, requested: 1, used: 4, limited: 4',
            Refuser.ADMISSION,
            "quota gpus",
            id="a quota",
        ),
        pytest.param(
            403,
            'configmaps "c" is forbidden: unable to create new content in namespace n because it is being '
            "terminated",
            Refuser.ADMISSION,
            "namespace n",
            id="a namespace on its way out",
        ),
    ],
)
def test_a_refusal_says_who_refused(code, message, by, who):
    error = from_answer("apply Pod n/p", code, {"message": message}, None, writes=True)
    assert isinstance(error, Forbidden)
    assert (error.by, error.who, error.answer) == (by, who, message)


def test_a_conflict_of_fields_names_their_managers():
    causes = [{"message": f'conflict with "{name}" using apps/v1: .spec'} for name in ("kubectl", "argo")]
    error = from_answer("apply", 409, {"details": {"causes": causes}}, None, writes=True)
    assert isinstance(error, Conflict)
    assert error.managers == ("argo", "kubectl")


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param(" 3 ", timedelta(seconds=3), id="seconds"),
        pytest.param("Thu, 01 Jan 2026 00:00:30 GMT", timedelta(seconds=30), id="a date"),
        pytest.param("Wed, 31 Dec 2025 23:59:00 GMT", timedelta(0), id="a date of the past"),
        pytest.param("soon", None, id="nonsense"),
    ],
)
def test_a_retry_after_header_has_three_forms(header, pause):
    assert retry_after(header, NOW) == pause
