"""``kubectl modelops`` against a real API server: who may do what, and what is stored."""

import asyncio
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from modelops.api import crd, names
from modelops.api.kinds import KINDS
from modelops.cli.cluster import Cluster
from modelops.cli.main import main
from modelops.clients import kinds
from modelops.clients.errors import Conflict, Forbidden, NotFound, Unavailable
from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube, connect
from modelops.governance import policies
from modelops.plan import Manifest, Ref

T = TypeVar("T")

RBAC = "rbac.authorization.k8s.io/v1"
CRDS = Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)
for resource in (CRDS, Resource(RBAC, "Role", "roles"), Resource(RBAC, "RoleBinding", "rolebindings")):
    kinds.register(resource)

BYTES = "sha256:" + "1a" * 32
OTHER_BYTES = "sha256:" + "2b" * 32
SPEC = "sha256:" + "3c" * 32
BOB = ("--as", "bob", "--as-group", "model-approvers")
CAROL = ("--as", "carol", "--as-group", "model-approvers")
ALICE = ("--as", "alice", "--as-group", "model-authors")


# --- vocabulary --------------------------------------------------------------------------------------


class Server:
    """The API server as an administrator sees it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.user = self.ask(lambda kube: Cluster(kube, "default").user())

    def ask(self, question: Callable[[Kube], Awaitable[T]]) -> T:
        async def run() -> T:
            kube = await connect(str(self.kubeconfig))
            try:
                return await question(kube)
            finally:
                await kube.close()

        return asyncio.run(run())

    def create(self, *objects: Manifest) -> list[Manifest]:
        return [self.ask(lambda kube, obj=obj: known(kube, obj)) for obj in objects]

    def get(self, kind: str, namespace: str, name: str) -> Manifest:
        return self.ask(lambda kube: kube.get(Ref(names.API_VERSION, kind, namespace, name)))

    def status(self, kind: str, namespace: str, name: str, status: Manifest) -> None:
        """Write a status as the operator does."""
        manifest = ours(kind, namespace, name) | {"status": status}
        self.ask(lambda kube: kube.apply_status(manifest))


async def known(kube: Kube, obj: Manifest, *, dry_run: bool = False) -> Manifest:
    """Create an object of a kind that the server may have learned of only now.

    For some seconds after a CRD is made, stamping policies do not know its schema and refuse its objects.
    """
    end = time.monotonic() + 60
    while True:
        try:
            return await kube.create(obj, dry_run=dry_run)
        except Unavailable as error:
            if "There can be a delay" not in str(error) or time.monotonic() > end:
                raise
            await asyncio.sleep(0.5)


def ours(kind: str, namespace: str, name: str, **rest: Any) -> Manifest:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": meta, **rest}


def until(question: Callable[[], T], seconds: float = 30) -> T:
    """Ask until the answer is true."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < end, f"not true within {seconds} s"
        time.sleep(0.2)
    return answer


class Installed:
    """Cluster-wide objects that this module needs; what was there before stays afterwards."""

    def __init__(self, server: Server, objects: tuple[Manifest, ...]) -> None:
        self.server = server
        self.objects = objects
        self.made: list[Ref] = []

    def __enter__(self) -> None:
        for obj in self.objects:
            wanted = Ref(obj["apiVersion"], obj["kind"], None, obj["metadata"]["name"])
            until(partial(self._is_settled, wanted))
            try:
                self.server.create(obj)
                self.made.append(wanted)
            except Conflict:
                continue

    def _is_settled(self, wanted: Ref) -> bool:
        """Return whether it is there to stay, or gone: one that was removed just now goes in a moment."""
        try:
            found = self.server.ask(lambda kube: kube.get(wanted))
        except NotFound:
            return True
        return "deletionTimestamp" not in found["metadata"]

    def __exit__(self, *_: object) -> None:
        async def remove(kube: Kube) -> None:
            for wanted in reversed(self.made):
                await kube.delete(wanted)

        self.server.ask(remove)


# --- given -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(api: Any) -> Iterator[Server]:
    """The server with our kinds."""
    server = Server(Path(api.kubeconfig))
    with Installed(server, tuple(crd.custom_resource_definition(kind) for kind in KINDS)):

        async def served(kube: Kube) -> bool:
            wanted = [kinds.resource_of(names.API_VERSION, kind.names.kind) for kind in KINDS]
            return all([await kube.serves(resource) for resource in wanted])

        until(lambda: server.ask(served))
        yield server


@pytest.fixture(scope="module")
def gate(server: Server) -> Iterator[None]:
    """The approval gate in force, on a server that stamps no approver."""
    with Installed(server, policies.GUARDS):
        until(lambda: _is_denied(server))
        yield


@pytest.fixture(scope="module")
def stamping_gate(server: Server, gate: None) -> Iterator[None]:
    """The approval gate in force, on a server that stamps the approver."""
    with Installed(server, policies.STAMPS):
        until(lambda: _stamped(server))
        yield


def _probe(**spec: Any) -> Manifest:
    base = {
        "modelRef": "chat",
        "versionRef": "chat-1",
        "decision": "Approve",
        "artifactDigest": BYTES,
        "specHash": SPEC,
        "environments": ["prod"],
    }
    return ours("ModelApproval", "default", "probe", spec=base | spec)


def _is_denied(server: Server) -> bool:
    """Return whether an approval in another's name is refused: policies take effect after seconds."""
    try:
        server.ask(lambda kube: known(kube, _probe(approver={"username": "nobody"}), dry_run=True))
    except Forbidden:
        return True
    return False


def _stamped(server: Server) -> str:
    """Return who the server says approved when nobody is named."""
    try:
        stored = server.ask(lambda kube: known(kube, _probe(), dry_run=True))
    except Forbidden:
        return ""
    return str((stored["spec"].get("approver") or {}).get("username", ""))


@pytest.fixture
def namespace(server: Server) -> Iterator[str]:
    """A namespace of environment prod with one pinned version and one service."""
    name = f"cli-{uuid.uuid4().hex[:8]}"
    labels = {names.ENVIRONMENT: "prod"}
    version = {"modelRef": "chat", "version": "1", "source": {"huggingFace": {"repo": "acme/chat"}}}
    version["createdBy"] = server.user
    readable = ["modelversions", "inferenceservices", "modelapprovals", "rolloutpolicies", "models"]
    server.create(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
        ours("ModelVersion", name, "chat-1", spec=version),
        ours("InferenceService", name, "chat", spec={"model": {"version": "chat-1"}}),
        {
            "apiVersion": RBAC,
            "kind": "Role",
            "metadata": {"name": "approve-chat", "namespace": name},
            "rules": [
                {
                    "apiGroups": [names.APPROVAL_GROUP],
                    "resources": ["models"],
                    "resourceNames": ["chat"],
                    "verbs": ["approve", "revoke"],
                },
                {"apiGroups": [names.GROUP], "resources": ["modelapprovals"], "verbs": ["create"]},
            ],
        },
        {
            "apiVersion": RBAC,
            "kind": "Role",
            "metadata": {"name": "edit", "namespace": name},
            "rules": [
                {"apiGroups": [names.GROUP], "resources": readable, "verbs": ["get", "list"]},
                {"apiGroups": [names.GROUP], "resources": ["modelapprovals"], "verbs": ["create"]},
            ],
        },
        _bound(name, "approve-chat", "model-approvers"),
        _bound(name, "edit", "model-approvers", "model-authors"),
    )
    server.status("ModelVersion", name, "chat-1", PINNED)
    yield name

    async def clean(kube: Kube) -> None:
        # A server without controllers empties no namespace.
        for kind in ("ModelApproval", "InferenceService", "ModelVersion", "RolloutPolicy"):
            async for page in kube.pages(kinds.resource_of(names.API_VERSION, kind), name):
                for item in page.items:
                    await kube.delete(Ref(names.API_VERSION, kind, name, item["metadata"]["name"]))
        for kind in ("Role", "RoleBinding"):
            for role in ("approve-chat", "edit", "act"):
                await kube.delete(Ref(RBAC, kind, name, role))
        await kube.delete(Ref("v1", "Namespace", None, name))

    server.ask(clean)


PINNED = {
    "observedGeneration": 1,
    "phase": "PendingApproval",
    "artifactDigest": BYTES,
    "specHash": SPEC,
    "approval": {"environments": [{"name": "prod", "approved": False, "have": 0, "needed": 1}]},
}


def _bound(namespace: str, role: str, *groups: str) -> Manifest:
    api = "rbac.authorization.k8s.io"
    return {
        "apiVersion": RBAC,
        "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": namespace},
        "roleRef": {"apiGroup": api, "kind": "Role", "name": role},
        "subjects": [{"kind": "Group", "name": group, "apiGroup": api} for group in groups],
    }


@pytest.fixture
def modelops(
    server: Server, namespace: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run the program in the namespace and return its exit status, stdout and stderr."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["-n", namespace, *words])
        out, err = capsys.readouterr()
        return code, out.rstrip("\n"), err.rstrip("\n")

    return run


# --- approve -----------------------------------------------------------------------------------------


def test_an_approval_without_any_gate_says_that_it_does_not_count(
    server: Server, namespace: str, modelops: Callable[..., Any]
) -> None:
    until(lambda: not _is_denied(server))  # a gate that was just removed acts for seconds more
    code, out, err = modelops("approve", "chat-1", "--reason", "evaluated")
    assert code == 1
    assert out.startswith("somebody approved chat-1")
    assert err.endswith("ask an administrator to install the approval gate, then approve again")


def test_an_approver_signs_with_the_own_name_where_the_server_does_not_stamp(
    server: Server, namespace: str, gate: None, modelops: Callable[..., Any]
) -> None:
    code, out, err = modelops("approve", "chat-1", "--reason", "evaluated", "--expires-in", "90d", *BOB)
    assert (code, err) == (0, "")
    name = out.rpartition(" ")[2]
    assert out.startswith(f"bob approved chat-1 ({BYTES}) for prod until 20")
    stored = server.get("ModelApproval", namespace, name)["spec"]
    assert stored["approver"]["username"] == "bob"
    assert (stored["modelRef"], stored["artifactDigest"], stored["specHash"]) == ("chat", BYTES, SPEC)
    assert stored["reason"] == "evaluated"


def test_approving_twice_on_a_day_makes_one_record_and_two_people_make_two(
    server: Server, namespace: str, gate: None, modelops: Callable[..., Any]
) -> None:
    first = modelops("approve", "chat-1", "--reason", "evaluated", "-o", "name", *BOB)
    again = modelops("approve", "chat-1", "--reason", "evaluated", "-o", "name", *BOB)
    other = modelops("approve", "chat-1", "--reason", "evaluated", "-o", "name", *CAROL)
    assert first == again
    assert other[0] == 0
    assert other[1] != first[1]


def test_an_untrusted_record_is_made_again_under_another_name(
    server: Server, namespace: str, gate: None, modelops: Callable[..., Any]
) -> None:
    first = modelops("approve", "chat-1", "--reason", "evaluated", "-o", "name", *BOB)[1]
    server.status("ModelApproval", namespace, first.partition("/")[2], {"trust": "Untrusted"})
    code, second, _ = modelops("approve", "chat-1", "--reason", "evaluated", "-o", "name", *BOB)
    assert code == 0
    assert second != first


def test_one_without_the_verb_is_refused_in_one_sentence(gate: None, modelops: Callable[..., Any]) -> None:
    code, out, err = modelops("approve", "chat-1", "--reason", "mine", *ALICE)
    assert (code, out) == (1, "")
    assert err.startswith("chat-1: ")
    assert "alice" in err
    assert "approve on models/chat" in err
    assert err.endswith("ask an administrator for it")


def test_one_without_any_right_is_told_which(modelops: Callable[..., Any]) -> None:
    code, _, err = modelops("approve", "chat-1", "--reason", "mine", "--as", "mallory")
    assert code == 1
    assert err.startswith("cluster: needs the right to get modelversions in namespace cli-")
    assert err.endswith("mallory has none; ask an administrator for it")


def test_the_environment_is_that_of_the_namespace_or_those_given(
    server: Server, namespace: str, gate: None, modelops: Callable[..., Any]
) -> None:
    def environments(*words: str) -> list[str]:
        out = modelops("approve", "chat-1", "--reason", "evaluated", "-o", "json", *words)[1]
        return list(json.loads(out)["spec"]["environments"])

    assert environments() == ["prod"]
    # bob may not read namespaces: the operator has written the environment into the version.
    assert environments(*BOB) == ["prod"]
    assert environments("--environment", "test", "--environment", "dev") == ["dev", "test"]


def test_a_version_without_a_digest_cannot_be_approved(
    server: Server, namespace: str, modelops: Callable[..., Any]
) -> None:
    server.status("ModelVersion", namespace, "chat-1", {"phase": "Resolving"})
    code, _, err = modelops("approve", "chat-1", "--reason", "evaluated")
    assert code == 1
    assert err.startswith(
        "chat-1: needs its bytes pinned before anybody can decide about them, found phase Re"
    )


def test_a_revocation_is_recorded_for_the_bytes_it_is_about(
    server: Server, namespace: str, gate: None, modelops: Callable[..., Any]
) -> None:
    code, out, _ = modelops("approve", "chat-1", "--reason", "unsafe answers", "--revoke", "--yes", *BOB)
    assert code == 0
    assert out.startswith(f"bob revoked chat-1 ({BYTES}) for prod, recorded as chat-1-revoke-")


def test_an_approver_is_stamped_where_the_server_does(
    server: Server, namespace: str, stamping_gate: None, modelops: Callable[..., Any]
) -> None:
    code, out, _ = modelops("approve", "chat-1", "--reason", "evaluated", *BOB)
    assert code == 0
    assert out.startswith(f"bob approved chat-1 ({BYTES}) for prod, recorded as chat-1-approve-")


# --- rollout -----------------------------------------------------------------------------------------

RUNNING: Manifest = {
    "observedGeneration": 1,
    "stable": {"version": "chat-1", "hash": "aaaa1111", "artifactDigest": BYTES},
    "candidate": {"version": "chat-2", "hash": "bbbb2222", "artifactDigest": OTHER_BYTES},
    "rollout": {
        "phase": "Progressing",
        "runId": "8c1f00aa11bb",
        "step": {"index": 1, "of": 2, "startedAt": "2026-03-01T11:57:00.123456Z"},
        "traffic": {"desired": 50, "observed": 50},
        "message": "chat: chat-2 at 50 %: is warm",
    },
}


@pytest.fixture
def running(server: Server, namespace: str) -> None:
    """The service in the middle of a run, by a policy with two steps."""
    spec = {"canary": {"steps": [20, 50]}}
    policy = ours("RolloutPolicy", namespace, "quick", spec=spec)
    policy["metadata"]["labels"] = {names.DEFAULT_POLICY: "true"}
    server.create(policy)
    server.status("InferenceService", namespace, "chat", RUNNING)


@pytest.mark.parametrize("action", ["promote", "abort", "pause"])
def test_an_action_names_the_run_that_is_in_status(
    server: Server, namespace: str, running: None, modelops: Callable[..., Any], action: str
) -> None:
    code, out, err = modelops("rollout", action, "chat")
    assert (code, err) == (0, "")
    assert out == (
        f"chat: asked the operator to {action} run 8c1f00aa11bb; see kubectl modelops rollout chat --watch"
    )
    stored = server.get("InferenceService", namespace, "chat")
    asked = {"action": action.capitalize(), "runId": "8c1f00aa11bb", "by": server.user}
    assert stored["spec"]["rollout"] == asked
    assert stored["spec"]["model"] == {"version": "chat-1"}
    managers = {entry["manager"] for entry in stored["metadata"]["managedFields"]}
    assert "kubectl-modelops" in managers


def test_where_a_policy_asks_for_approval_promote_is_one_and_needs_the_verb(
    stamping_gate: None, server: Server, namespace: str, running: None, modelops: Callable[..., Any]
) -> None:
    rules = [{"apiGroups": [names.GROUP], "resources": ["inferenceservices"], "verbs": ["patch"]}]
    meta = {"name": "act", "namespace": namespace}
    server.create(
        {"apiVersion": RBAC, "kind": "Role", "metadata": meta, "rules": rules},
        _bound(namespace, "act", "model-authors", "model-approvers"),
    )
    gated = {**RUNNING["rollout"], "approval": {"model": "chat"}, "wait": 1}
    server.status("InferenceService", namespace, "chat", {**RUNNING, "rollout": gated})
    lacks = (
        "chat: user alice lacks verb approve on models/chat, which promoting a run whose policy asks for "
        "approval needs; ask an administrator for it\n"
    )
    until(lambda: modelops("rollout", "promote", "chat", *ALICE) == (1, "", lacks))

    code, out, _ = modelops("rollout", "promote", "chat", *CAROL)

    assert (code, out.partition(" run ")[0]) == (
        0,
        "chat: approved on model chat, and asked the operator to promote",
    )
    stored = server.get("InferenceService", namespace, "chat")["spec"]["rollout"]
    assert (stored["by"], stored["approves"]) == ("carol", "chat")
    assert modelops("rollout", "abort", "chat", *ALICE)[0] == 0
    stored = server.get("InferenceService", namespace, "chat")["spec"]["rollout"]
    assert (stored["action"], stored["by"], "approves" in stored) == ("Abort", "alice", False)


def test_a_later_action_replaces_the_one_before(
    server: Server, namespace: str, running: None, modelops: Callable[..., Any]
) -> None:
    modelops("rollout", "pause", "chat")
    server.status(
        "InferenceService", namespace, "chat", RUNNING | {"rollout": RUNNING["rollout"] | {"phase": "Paused"}}
    )
    assert modelops("rollout", "resume", "chat")[0] == 0
    assert server.get("InferenceService", namespace, "chat")["spec"]["rollout"]["action"] == "Resume"


def test_an_editor_without_the_right_to_change_a_service_is_told_so(
    running: None, modelops: Callable[..., Any]
) -> None:
    code, _, err = modelops("rollout", "abort", "chat", *ALICE)
    assert code == 1
    assert err.startswith("cluster: needs the right to patch inferenceservices in namespace cli-")


def test_the_picture_knows_the_steps_of_the_default_policy(
    running: None, modelops: Callable[..., Any]
) -> None:
    out = modelops("rollout", "chat")[1]
    assert "● 20%  ◉ 50%  ○ 100%" in out
    assert "chat-1 50%, chat-2 50%" in out


def test_a_policy_that_may_not_be_read_costs_only_the_names_of_the_steps(
    server: Server, namespace: str, running: None, modelops: Callable[..., Any]
) -> None:
    server.status("InferenceService", namespace, "chat", RUNNING)
    server.ask(lambda kube: kube.delete(Ref(RBAC, "RoleBinding", namespace, "edit")))
    only_services = {
        "apiVersion": RBAC,
        "kind": "Role",
        "metadata": {"name": "edit", "namespace": namespace},
        "rules": [{"apiGroups": [names.GROUP], "resources": ["inferenceservices"], "verbs": ["get"]}],
    }
    server.ask(lambda kube: kube.apply(only_services))
    server.create(_bound(namespace, "edit", "model-authors"))
    out = until(lambda: modelops("rollout", "chat", *ALICE)[1])
    assert "● step 1  ◉ step 2  ○ 100%" in out


def test_watching_ends_with_the_run(
    server: Server, namespace: str, running: None, modelops: Callable[..., Any]
) -> None:
    program = [sys.executable, "-m", "modelops.cli.main", "--kubeconfig", str(server.kubeconfig)]
    watch = subprocess.Popen(
        [*program, "rollout", "chat", "-n", namespace, "--watch"], stdout=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    try:
        assert watch.stdout.readline() == "Progressing step 2/2 50%: chat: chat-2 at 50 %: is warm\n"
        ended = {key: value for key, value in RUNNING.items() if key != "candidate"}
        message = "chat: errors 21% vs 0.5% (n=412, 398), evidence 590:1, bar 100:1, rolled back"
        ended["rollout"] = {"phase": "RolledBack", "runId": "8c1f00aa11bb", "message": message}
        server.status("InferenceService", namespace, "chat", ended)
        rest, _ = watch.communicate(timeout=30)
    finally:
        watch.kill()
        watch.wait()
    assert rest == f"RolledBack: {message}\n"
    assert watch.returncode == 1


class Terminal:
    """The program on a terminal of 80 letters a line."""

    def __init__(self, server: Server, *words: str) -> None:
        self.screen, inside = os.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        program = [sys.executable, "-m", "modelops.cli.main", "--kubeconfig", str(server.kubeconfig)]
        env = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        self.process = subprocess.Popen(
            [*program, *words], stdin=inside, stdout=inside, stderr=inside, env=env, start_new_session=True
        )
        os.close(inside)
        self.seen = ""

    def wait_for(self, text: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.screen], [], [], 0.2)[0]:
                self.seen += self._read()

    def _read(self) -> str:
        try:
            return os.read(self.screen, 65536).decode(errors="replace")
        except OSError:  # the program has ended
            return ""

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def end(self) -> int:
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.screen)


def test_watching_on_a_terminal_draws_the_picture_anew(server: Server, namespace: str, running: None) -> None:
    terminal = Terminal(server, "rollout", "chat", "-n", namespace, "--watch")
    try:
        terminal.wait_for("\x1b[33mProgressing\x1b[0m, run 8c1f00aa11bb")
        promoted = {
            "observedGeneration": 1,
            "stable": RUNNING["candidate"],
            "rollout": {"phase": "Stable", "message": "chat: chat-2 serves"},
        }
        server.status("InferenceService", namespace, "chat", promoted)
        terminal.wait_for("chat-2 serves, no run")
    finally:
        code = terminal.end()
    assert code == 0
    assert terminal.seen.count("\x1b[H\x1b[J") >= 2


def test_what_cannot_be_taken_back_is_asked_for_on_a_terminal(server: Server, namespace: str) -> None:
    words = ("approve", "chat-1", "-n", namespace, "--reason", "unsafe answers", "--revoke")
    terminal = Terminal(server, *words)
    try:
        terminal.wait_for("Revoke chat-1? This cannot be taken back. [y/N] ")
        terminal.type("n\n")
        terminal.wait_for("chat-1: nothing was decided; answer y or give --yes")
    finally:
        code = terminal.end()
    assert code == 1
    resource = kinds.resource_of(names.API_VERSION, "ModelApproval")

    async def count(kube: Kube) -> int:
        return sum([len(page.items) async for page in kube.pages(resource, namespace)])

    assert server.ask(count) == 0


# --- status and explain ------------------------------------------------------------------------------


def test_status_shows_what_is_there(running: None, modelops: Callable[..., Any]) -> None:
    code, out, _ = modelops("status")
    assert code == 0
    assert out.splitlines()[0].endswith(": 1 service, 1 version")
    assert "chat-2     " in out
    assert "prod 0/1" in out


def test_status_of_all_namespaces_names_each(
    namespace: str, running: None, modelops: Callable[..., Any]
) -> None:
    out = modelops("status", "-A")[1]
    assert [line for line in out.splitlines() if line.startswith(f"{namespace}  chat ")]


def test_status_of_one_service(running: None, modelops: Callable[..., Any]) -> None:
    out = modelops("status", "chat")[1]
    assert "chat-1 50%, chat-2 50%" in out
    assert "chat-1 for prod: 0 of 1, not approved" in out


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_objects_come_out_for_programs(modelops: Callable[..., Any], form: str) -> None:
    found = yaml.safe_load(modelops("status", "-o", form)[1])
    assert [item["kind"] for item in found["items"]] == ["InferenceService", "ModelVersion"]
    assert yaml.safe_load(modelops("status", "chat", "-o", form)[1])["metadata"]["name"] == "chat"


def test_explain_tells_that_nothing_is_known_yet(modelops: Callable[..., Any]) -> None:
    out = modelops("explain", "chat")[1]
    assert "next       wait: the operator is not done yet" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param(
            ["status", "gone"],
            "gone: needs InferenceService gone in namespace {ns}, found none; "
            "see kubectl get inferenceservices.modelops.dev -n {ns}",
            id="a service that is not there",
        ),
        pytest.param(
            ["approve", "gone-1", "--reason", "x"],
            "gone-1: needs ModelVersion gone-1 in namespace {ns}, found none; "
            "see kubectl get modelversions.modelops.dev -n {ns}",
            id="a version that is not there",
        ),
        pytest.param(
            ["status", "-n", "no-such-namespace"],
            "namespace no-such-namespace: needs to exist, found none of that name; "
            "see kubectl get namespaces",
            id="a namespace that is not there",
        ),
        pytest.param(
            ["rollout", "abort", "chat"],
            "chat: needs a run to abort, found phase Stable; change the version to start one",
            id="no run",
        ),
        pytest.param(
            ["rollout", "retry", "chat"],
            "chat: needs a run that was rolled back to retry, found none; change the version",
            id="nothing was rolled back",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    namespace: str, modelops: Callable[..., Any], words: list[str], sentence: str
) -> None:
    assert modelops(*words) == (1, "", sentence.format(ns=namespace))
