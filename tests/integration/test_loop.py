"""The loop against a real API server: what it writes, what it leaves alone, and what it survives."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from modelops.clients import kinds
from modelops.clients.errors import Conflict, Forbidden, Invalid, NotFound, NotLeading, Refuser
from modelops.clients.events import Recorder
from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube, connect
from modelops.controllers.execute import Executor, applied_hash
from modelops.controllers.observations import Observations
from modelops.controllers.observe import Observer
from modelops.controllers.queue import Queue
from modelops.controllers.reading import Reading
from modelops.controllers.store import Key, OwnRow, Store
from modelops.plan import Plan, Ref
from tests.integration import loop_program
from tests.integration.loop_program import CRD, WIDGET

T = TypeVar("T")
PROGRAM = Path(loop_program.__file__)
CRDS = Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)
POLICY_API = "admissionregistration.k8s.io/v1"
SHORT = {"duration": "3s", "renew": "2s", "retry": "1s"}
kinds.register(CRDS)


# --- vocabulary --------------------------------------------------------------------------------------


@pytest.fixture
def ask(api: Any) -> Callable[[Callable[[Kube], Awaitable[T]]], T]:
    """Run a function of a connection to the API server and return what it returns."""

    def run(question: Callable[[Kube], Awaitable[T]]) -> T:
        async def main() -> T:
            async with AsyncExitStack() as stack:
                kube = await connect(str(api.kubeconfig))
                stack.push_async_callback(kube.close)
                return await question(kube)

        return asyncio.run(main())

    return run


@pytest.fixture
def crd(ask) -> None:
    """Install the Widget and wait until it is served."""

    async def install(kube: Kube) -> None:
        await kube.apply(CRD)
        await until(lambda: kube.serves(WIDGET))

    ask(install)


@pytest.fixture
def namespace(ask, crd) -> Iterator[str]:
    """A namespace of its own, with the Widgets in it removed afterwards."""
    name = f"loop-{uuid.uuid4().hex[:8]}"
    ask(lambda kube: kube.create(manifest("Namespace", None, name)))
    yield name

    async def clean(kube: Kube) -> None:
        for kind, version in (("Widget", WIDGET.api_version), ("ConfigMap", "v1"), ("Lease", LEASE)):
            resource = kinds.resource_of(version, kind)
            async for page in kube.pages(resource, name):
                for item in page.items:
                    await kube.delete(Ref(version, kind, name, item["metadata"]["name"]))
        await kube.delete(Ref("v1", "Namespace", None, name))

    ask(clean)


LEASE = "coordination.k8s.io/v1"


def manifest(kind: str, namespace: str | None, name: str, **rest: Any) -> dict[str, Any]:
    version = {"Widget": WIDGET.api_version}.get(kind, "v1")
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **rest}


def widget(namespace: str, name: str, text: str) -> dict[str, Any]:
    return manifest("Widget", namespace, name, spec={"text": text})


def config_map_ref(namespace: str, name: str) -> Ref:
    return Ref("v1", "ConfigMap", namespace, name)


def widget_ref(namespace: str, name: str) -> Ref:
    return Ref(WIDGET.api_version, "Widget", namespace, name)


async def until(question: Callable[[], Awaitable[T]], seconds: float = 20) -> T:
    """Ask until the answer is true."""
    end = time.monotonic() + seconds
    while True:
        answer = await question()
        if answer:
            return answer
        assert time.monotonic() < end, f"not true within {seconds} s: {question}"
        await asyncio.sleep(0.1)


async def text_of(kube: Kube, namespace: str, name: str) -> str | None:
    """Return what the ConfigMap of a Widget says, or None."""
    try:
        return (await kube.get(config_map_ref(namespace, name)))["data"]["text"]
    except NotFound:
        return None


def says(kube: Kube, namespace: str, name: str, text: str) -> Callable[[], Awaitable[bool]]:
    async def is_said() -> bool:
        return await text_of(kube, namespace, name) == text

    return is_said


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Replica:
    """One process of the operator."""

    kubeconfig: str
    namespace: str
    folder: Path
    name: str
    lease: dict[str, str] = field(default_factory=dict)
    resync: str = "10m"

    def __post_init__(self) -> None:
        self.metrics_port, self.probes_port = free_port(), free_port()
        config = {
            "identity": self.name,
            "namespace": self.namespace,
            "watchNamespaces": [self.namespace],
            "lease": self.lease,
            "resync": self.resync,
            "prometheus": {"url": "http://127.0.0.1:1"},
            "images": {"operator": "modelops:test"},
            "metricsPort": self.metrics_port,
            "probesPort": self.probes_port,
        }
        path = self.folder / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(config))
        self.log = self.folder / f"{self.name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, PROGRAM, "--config", path, "--kubeconfig", self.kubeconfig],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def fetch(self, port: int, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of *name* whose labels hold *labels*; 0 before the first."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = self.fetch(self.metrics_port, "/metrics").splitlines()
        found = [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(part in line for part in wanted))

    def writes(self, kind: str) -> float:
        verbs = ("apply", "create", "patch", "delete")
        return sum(self.metric("modelops_api_requests_total", verb=verb, kind=kind) for verb in verbs)

    def looks(self, kind: str) -> float:
        """Return how often a key of *kind* was taken: for a pass, or for a resync that saw nothing new."""
        return sum(self.metric(f"modelops_{what}_total", kind=kind) for what in ("passes", "rests"))

    def leads(self) -> bool:
        return self.metric("modelops_leader") == 1

    def wait(self, what: Callable[[], bool], seconds: float = 20) -> float:
        """Wait until *what* is true and return how long it took."""
        start = time.monotonic()
        while not what():
            assert time.monotonic() - start < seconds, f"not within {seconds} s; log:\n{self.log.read_text()}"
            time.sleep(0.05)
        return time.monotonic() - start

    def end(self, number: int = signal.SIGTERM, seconds: float = 25) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@pytest.fixture
def start(api: Any, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    """Start replicas; whatever still runs at the end is killed."""
    started: list[Replica] = []

    def begin(name: str = "a", **more: Any) -> Replica:
        kubeconfig = str(more.pop("kubeconfig", api.kubeconfig))
        started.append(Replica(kubeconfig, namespace, tmp_path, name, **more))
        return started[-1]

    yield begin
    for replica in started:
        replica.process.kill()
        replica.process.wait()


# --- what is written ---------------------------------------------------------------------------------


def test_a_pass_that_changes_nothing_writes_nothing_and_kopf_leaves_no_trace(ask, namespace, start):
    names = [f"w{number}" for number in range(5)]

    async def create(kube: Kube) -> None:
        for name in names:
            await kube.create(widget(namespace, name, "hello"))

    async def settled(kube: Kube) -> None:
        for name in names:
            await until(says(kube, namespace, name, "hello"))

    async def everything(kube: Kube) -> list[dict[str, Any]]:
        found = [await kube.get(widget_ref(namespace, name)) for name in names]
        return found + [await kube.get(config_map_ref(namespace, name)) for name in names]

    ask(create)
    replica = start(resync="1s")
    ask(settled)
    looked = replica.looks("Widget")
    replica.wait(lambda: replica.looks("Widget") > looked + 10)
    before, writes = ask(everything), (replica.writes("Widget"), replica.writes("Event"))
    assert writes == (len(names), len(names))
    looked = replica.looks("Widget")
    replica.wait(lambda: replica.looks("Widget") > looked + 20)

    assert (replica.writes("Widget"), replica.writes("Event")) == writes
    assert replica.end() == 0
    again = start("again")
    again.wait(lambda: again.metric("modelops_passes_total", kind="Widget") >= len(names))
    assert [again.writes(kind) for kind in ("Widget", "ConfigMap", "Event")] == [0, 0, 0]
    assert again.end() == 0

    after = ask(everything)
    assert [one["metadata"]["resourceVersion"] for one in after] == [
        one["metadata"]["resourceVersion"] for one in before
    ]
    for one in after[: len(names)]:
        assert one["status"] == {"observedGeneration": 1, "text": "hello"}
        assert "annotations" not in one["metadata"]
        assert "finalizers" not in one["metadata"]
        managers = {entry["manager"] for entry in one["metadata"]["managedFields"]}
        assert not any("kopf" in manager for manager in managers), managers


def test_a_child_that_is_changed_in_spec_follows_and_one_that_is_deleted_comes_back(ask, namespace, start):
    ask(lambda kube: kube.create(widget(namespace, "w", "one")))
    replica = start()

    async def story(kube: Kube) -> None:
        await until(says(kube, namespace, "w", "one"))
        patch = {"spec": {"text": "two"}}
        await kube.patch(widget_ref(namespace, "w"), patch, "application/merge-patch+json")
        await until(says(kube, namespace, "w", "two"))
        await kube.delete(config_map_ref(namespace, "w"))
        await until(says(kube, namespace, "w", "two"))
        patch = {"spec": {"none": True}}
        await kube.patch(widget_ref(namespace, "w"), patch, "application/merge-patch+json")
        await until(lambda: _is_absent(kube, namespace))

    async def _is_absent(kube: Kube, namespace: str) -> bool:
        return await text_of(kube, namespace, "w") is None

    ask(story)
    assert replica.fetch(replica.probes_port, "/healthz") == "ok"
    assert replica.fetch(replica.probes_port, "/readyz") == "ok"


def test_a_child_of_somebody_else_is_left_alone_and_the_refusal_is_told(ask, namespace, start):
    foreign = manifest("ConfigMap", namespace, "w", data={"text": "mine"})
    foreign["metadata"]["labels"] = {loop_program.LABEL: "w"}
    ask(lambda kube: kube.create(foreign))
    ask(lambda kube: kube.create(widget(namespace, "w", "one")))
    start()

    async def story(kube: Kube) -> None:
        async def is_told() -> bool:
            found = await kube.get(widget_ref(namespace, "w"))
            return (found.get("status") or {}).get("refused") == "NameTaken"

        await until(is_told)
        assert await text_of(kube, namespace, "w") == "mine"
        await kube.delete(config_map_ref(namespace, "w"))
        await until(says(kube, namespace, "w", "one"))

        async def is_cleared() -> bool:
            return "refused" not in (await kube.get(widget_ref(namespace, "w")))["status"]

        await until(is_cleared)

    ask(story)


def _reading(store: Store, row: OwnRow) -> Reading:
    return Reading(Key("Widget", row.namespace, row.name), store, Observations(lambda key: None))


def _executor(kube: Kube) -> tuple[Executor, Observer, Store]:
    store, queue = Store(), Queue[Key]()
    observations = Observations(queue.add)
    parts: Any = type("Parts", (), {"observations": observations})
    watched = loop_program.assemble(parts).watched
    observer = Observer(watched, store, queue, observations)
    return Executor(kube, store, observer, Recorder(kube, "test", "test"), watched), observer, store


def test_a_status_written_by_somebody_else_meanwhile_drops_the_whole_plan(ask, namespace):
    async def story(kube: Kube) -> None:
        executor, observer, store = _executor(kube)
        seen = await kube.create(widget(namespace, "w", "one"))
        observer.observe("Widget", "ADDED", seen)
        row = store.get("Widget", namespace, "w")
        assert isinstance(row, OwnRow)
        patch = {"spec": {"text": "two"}}
        await kube.patch(widget_ref(namespace, "w"), patch, "application/merge-patch+json")
        child = loop_program._config_map(seen["metadata"], "one")
        plan = Plan(status={"text": "one"}, apply=(child,))
        with pytest.raises(Conflict):
            await executor.execute(WIDGET, _reading(store, row), row, plan)
        assert await text_of(kube, namespace, "w") is None
        assert "status" not in await kube.get(widget_ref(namespace, "w"))

    ask(story)


def test_a_replica_that_stopped_leading_between_two_writes_does_not_make_the_second(ask, namespace):
    async def story(kube: Kube) -> None:
        executor, observer, store = _executor(kube)
        seen = await kube.create(widget(namespace, "w", "one"))
        observer.observe("Widget", "ADDED", seen)
        answers = iter([True])
        kube.may_write = lambda: next(answers, False)
        child = loop_program._config_map(seen["metadata"], "one")
        row = store.get("Widget", namespace, "w")
        plan = Plan(status={"text": "one"}, apply=(child,))
        with pytest.raises(NotLeading):
            await executor.execute(WIDGET, _reading(store, row), row, plan)
        assert (await kube.get(widget_ref(namespace, "w")))["status"] == {"text": "one"}
        assert await text_of(kube, namespace, "w") is None

    ask(story)


# --- what the server does, as we rely on it ----------------------------------------------------------


def test_an_apply_without_a_change_keeps_the_version(ask, namespace):
    async def story(kube: Kube) -> None:
        wanted = manifest("ConfigMap", namespace, "c", data={"text": "x"})
        first = await kube.apply(wanted)
        second = await kube.apply(wanted)
        assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]

    ask(story)


def test_a_field_left_out_of_the_next_apply_is_removed(ask, namespace):
    async def story(kube: Kube) -> None:
        await kube.apply(manifest("ConfigMap", namespace, "c", data={"a": "1", "b": "2"}))
        found = await kube.apply(manifest("ConfigMap", namespace, "c", data={"a": "1"}))
        assert found["data"] == {"a": "1"}

    ask(story)


@pytest.mark.parametrize(
    ("precondition", "refusal"),
    [
        pytest.param({"resourceVersion": "1"}, Conflict, id="a version that is not the stored one"),
        pytest.param({"uid": "0f0f0f0f"}, (Conflict, Invalid), id="the uid of another object"),
    ],
)
def test_an_apply_under_a_precondition_that_does_not_hold_is_refused(ask, namespace, precondition, refusal):
    async def story(kube: Kube) -> None:
        wanted = manifest("ConfigMap", namespace, "c", data={"a": "1"})
        await kube.apply(wanted)
        wanted["data"] = {"a": "2"}
        wanted["metadata"] |= precondition
        with pytest.raises(refusal):
            await kube.apply(wanted)
        assert (await kube.get(config_map_ref(namespace, "c")))["data"] == {"a": "1"}

    ask(story)


def test_an_apply_with_a_uid_never_creates(ask, namespace):
    async def story(kube: Kube) -> None:
        wanted = manifest("ConfigMap", namespace, "gone", data={"a": "1"})
        wanted["metadata"]["uid"] = "0f0f0f0f"
        with pytest.raises(Conflict):
            await kube.apply(wanted)

    ask(story)


def test_an_apply_without_force_names_the_manager_it_would_overwrite(ask, namespace):
    async def story(kube: Kube) -> None:
        await kube.apply(manifest("ConfigMap", namespace, "c", data={"a": "1"}), field_manager="somebody")
        with pytest.raises(Conflict) as refusal:
            await kube.apply(manifest("ConfigMap", namespace, "c", data={"a": "2"}), force=False)
        assert refusal.value.managers == ("somebody",)

    ask(story)


def test_a_delete_under_the_uid_of_another_object_is_a_conflict_and_one_of_nothing_is_done(ask, namespace):
    async def story(kube: Kube) -> None:
        made = await kube.apply(manifest("ConfigMap", namespace, "c"))
        with pytest.raises(Conflict):
            await kube.delete(replace(config_map_ref(namespace, "c"), uid="0f0f0f0f"))
        await kube.delete(replace(config_map_ref(namespace, "c"), uid=made["metadata"]["uid"]))
        await kube.delete(replace(config_map_ref(namespace, "c"), uid=made["metadata"]["uid"]))

    ask(story)


def test_lists_come_in_pages_and_metadata_alone_without_the_content(ask, namespace, monkeypatch):
    monkeypatch.setattr("modelops.clients.kube.PAGE", 2)

    async def story(kube: Kube) -> None:
        for number in range(5):
            wanted = manifest("ConfigMap", namespace, f"c{number}", data={"a": "1"})
            wanted["metadata"]["labels"] = {"page": "yes"}
            await kube.apply(wanted)
        resource = kinds.resource_of("v1", "ConfigMap")
        pages = [page async for page in kube.pages(resource, namespace, labels="page=yes")]
        assert [len(page.items) for page in pages] == [2, 2, 1]
        assert {page.resource_version for page in pages} == {pages[0].resource_version}
        assert all(item["kind"] == "ConfigMap" for page in pages for item in page.items)
        bare = [page async for page in kube.pages(resource, namespace, metadata_only=True)]
        assert not any("data" in item for page in bare for item in page.items)

    ask(story)


def test_a_refusal_by_a_policy_is_told_apart_from_a_missing_right(ask, api, namespace):
    name = f"loop-{uuid.uuid4().hex[:8]}"
    policy = {
        "apiVersion": POLICY_API,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["configmaps"],
                    }
                ],
            },
            "validations": [{"expression": "object.metadata.name != 'denied'", "message": "not this one"}],
        },
    }
    binding = {
        "apiVersion": POLICY_API,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }

    refusals: list[Forbidden] = []

    async def story(kube: Kube) -> None:
        await kube.apply(policy)
        await kube.apply(binding)
        try:
            await until(lambda: _is_refused(kube))
        finally:
            for one in (binding, policy):
                await kube.delete(Ref(POLICY_API, one["kind"], None, name))

    async def _is_refused(kube: Kube) -> bool:
        try:
            await kube.apply(manifest("ConfigMap", namespace, "denied"))
        except Forbidden as refusal:
            refusals.append(refusal)
            return True
        await kube.delete(config_map_ref(namespace, "denied"))
        return False

    ask(story)
    (refusal,) = refusals
    assert (refusal.by, refusal.who) == (Refuser.ADMISSION, f"policy {name}")
    assert "not this one" in refusal.answer


# --- who leads ---------------------------------------------------------------------------------------


def test_a_leader_that_is_asked_to_stop_hands_over_within_its_retry_pause(ask, namespace, start):
    first = start("a")
    first.wait(first.leads)
    second = start("b")
    second.wait(lambda: "modelops_leader" in second.fetch(second.metrics_port, "/metrics"))
    assert not second.leads()
    assert second.metric("modelops_api_requests_total", verb="list") == 0  # a standby lists nothing
    ask(lambda kube: kube.create(widget(namespace, "w", "one")))
    ask(lambda kube: until(says(kube, namespace, "w", "one")))

    assert first.end() == 0
    assert second.wait(second.leads) < 2.4 + 1.0 + 0.5  # retry, the tick of the gauge, requests
    ask(lambda kube: kube.create(widget(namespace, "v", "two")))
    ask(lambda kube: until(says(kube, namespace, "v", "two")))
    assert "Traceback" not in first.log.read_text()


def test_a_leader_that_is_killed_is_replaced_when_its_lease_has_run_out(ask, namespace, start):
    first = start("a")
    first.wait(first.leads)
    second = start("b")
    second.wait(lambda: "modelops_leader" in second.fetch(second.metrics_port, "/metrics"))
    time.sleep(3)  # the standby has seen the record
    first.end(signal.SIGKILL)
    took = second.wait(second.leads, seconds=25)
    assert 12 < took < 17.4 + 1.0 + 0.5  # the tick of the gauge, requests
    ask(lambda kube: kube.create(widget(namespace, "w", "one")))
    ask(lambda kube: until(says(kube, namespace, "w", "one")))


def test_a_leader_that_was_frozen_ends_when_it_wakes_and_writes_nothing(ask, namespace, start):
    first = start("a", lease=SHORT)
    first.wait(first.leads)
    second = start("b", lease=SHORT)
    first.process.send_signal(signal.SIGSTOP)
    second.wait(second.leads)
    ask(lambda kube: kube.create(widget(namespace, "w", "one")))
    ask(lambda kube: until(says(kube, namespace, "w", "one")))
    versions = ask(lambda kube: versions_of(kube, namespace))
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(5) == 1
    assert "the Lease is lost" in first.log.read_text()
    assert ask(lambda kube: versions_of(kube, namespace)) == versions
    assert second.leads()


async def versions_of(kube: Kube, namespace: str) -> list[str]:
    found = [await kube.get(ref(namespace, "w")) for ref in (widget_ref, config_map_ref)]
    return [one["metadata"]["resourceVersion"] for one in found]


# --- what it survives --------------------------------------------------------------------------------


def test_a_missing_kind_ends_the_start_with_a_sentence(ask, namespace, start):
    ask(lambda kube: kube.delete(Ref(CRDS.api_version, CRDS.kind, None, CRD["metadata"]["name"])))

    async def is_gone(kube: Kube) -> bool:
        return not await kube.serves(WIDGET)

    ask(lambda kube: until(lambda: is_gone(kube)))
    try:
        replica = start()
        assert replica.process.wait(20) == 1
        wanted = "needs widgets (loop.example.com/v1), found none in the cluster; install the CRDs"
        assert wanted in replica.log.read_text()
        lease = ask(lambda kube: kube.get(Ref(LEASE, "Lease", namespace, "modelops")))
        assert lease["spec"]["holderIdentity"] == ""
    finally:
        ask(lambda kube: kube.apply(CRD))
        ask(lambda kube: until(lambda: kube.serves(WIDGET)))


def test_kopf_that_ends_is_started_again_and_signals_still_arrive(ask, namespace, start):
    ask(lambda kube: kube.create(widget(namespace, "w", "one")))
    replica = start()
    ask(lambda kube: until(says(kube, namespace, "w", "one")))
    ask(lambda kube: kube.delete(Ref(CRDS.api_version, CRDS.kind, None, CRD["metadata"]["name"])))
    replica.wait(lambda: replica.metric("modelops_watch_restarts_total", kind="kopf") >= 1, 60)

    async def install(kube: Kube) -> None:
        async def is_back() -> bool:
            try:
                await kube.apply(CRD)
                return await kube.serves(WIDGET)
            except Conflict:
                return False

        await until(is_back)
        await until(lambda: _created(kube))
        await until(says(kube, namespace, "again", "two"), 60)

    async def _created(kube: Kube) -> bool:
        try:
            await kube.create(widget(namespace, "again", "two"))
        except NotFound:
            return False
        return True

    ask(install)
    assert replica.end() == 0


class Line:
    """A wire to the API server that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._is_cut = True
        for end in tuple(self._open):
            hang_up(end)

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            self._open.discard(end)
            hang_up(end)


def hang_up(end: socket.socket) -> None:
    """Shut down before closing: a close alone is not seen while another thread reads."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def wire(kubeconfig: Path, folder: Path) -> Iterator[tuple[Line, Path]]:
    """Yield a line to the API server, and a kubeconfig that goes through it."""
    config = yaml.safe_load(Path(kubeconfig).read_text())
    cluster = config["clusters"][0]["cluster"]
    host, port = cluster["server"].removeprefix("https://").split(":")
    line = Line(host, int(port))
    cluster["server"] = f"https://127.0.0.1:{line.port}"  # an address that its certificate names too
    path = folder / "through-the-line"
    path.write_text(yaml.safe_dump(config))
    try:
        yield line, path
    finally:
        line.close()


def test_an_api_server_that_is_away_for_a_while_is_found_again_with_what_changed(
    ask, api, namespace, start, tmp_path
):
    async def create(kube: Kube) -> None:
        for name in ("stays", "goes"):
            await kube.create(widget(namespace, name, "one"))

    ask(create)
    with wire(api.kubeconfig, tmp_path) as (line, kubeconfig):
        replica = start(kubeconfig=kubeconfig)
        ask(lambda kube: until(says(kube, namespace, "goes", "one")))
        line.cut()

        async def change(kube: Kube) -> None:
            await kube.delete(widget_ref(namespace, "goes"))
            await kube.delete(config_map_ref(namespace, "stays"))
            await kube.create(widget(namespace, "comes", "two"))

        ask(change)
        time.sleep(5)  # half of what the leader may be without its Lease
        line.mend()

        async def settled(kube: Kube) -> None:
            await until(says(kube, namespace, "stays", "one"), 40)
            await until(says(kube, namespace, "comes", "two"), 40)

        ask(settled)
        assert replica.process.poll() is None
        assert replica.fetch(replica.probes_port, "/healthz") == "ok"


def test_a_leader_without_the_api_server_ends_at_its_renew_deadline(api, namespace, start, tmp_path):
    with wire(api.kubeconfig, tmp_path) as (line, kubeconfig):
        replica = start(kubeconfig=kubeconfig, lease=SHORT)
        replica.wait(replica.leads)
        line.cut()
        before = time.monotonic()
        assert replica.process.wait(10) == 1
        assert time.monotonic() - before < 2 + 1


def test_the_hash_of_a_child_counts_its_owner_but_not_the_order_of_its_keys():
    child = loop_program._config_map({"namespace": "n", "name": "w", "uid": "1"}, "one")
    other = loop_program._config_map({"namespace": "n", "name": "w", "uid": "2"}, "one")
    assert applied_hash(child) == applied_hash(dict(reversed(child.items())))
    assert applied_hash(child) != applied_hash(other)
