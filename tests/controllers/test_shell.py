"""What may be imported and registered: the price of a slip is memory, or traces on users' objects."""

import asyncio
import subprocess
import sys

import pytest
from kubernetes.aio.client.configuration import Configuration

from modelops.clients.kube import connect
from modelops.controllers.shell import NoDiffBase, NoProgress, kopf_settings, registry_for
from tests.controllers.little import WATCHED, Little, obj

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


def imported(program):
    """Return the modules that a fresh process holds after running *program*."""
    script = f"{program}\nimport sys\nprint('\\n'.join(sys.modules))"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.fixture(scope="module")
def modules():
    """What the operator holds after its imports."""
    return imported("import modelops.controllers.main, modelops.controllers.kinds")


def test_the_operator_imports_no_typed_models_or_interfaces_of_the_client(modules):
    """kopf itself imports three models, which is cheap; a typed interface costs 20 to 40 MB."""
    prefixes = [f"kubernetes.{side}client.{what}." for side in ("", "aio.") for what in ("api", "models")]
    found = {name for name in modules if name.startswith(tuple(prefixes))}
    models = ("v1_managed_fields_entry", "v1_object_meta", "v1_owner_reference")
    assert found <= {f"kubernetes.client.models.{name}" for name in models}


@pytest.mark.parametrize("module", ["huggingface_hub", "pynvml", "kubernetes_asyncio", "pykube", "numpy"])
def test_the_operator_does_not_import(module, modules):
    assert module not in modules


def test_a_standby_does_without_the_kinds():
    found = imported("import modelops.controllers.main")
    assert "modelops.controllers.main" in found
    assert not {"modelops.controllers.kinds", "modelops.serving"} & set(found)


def test_choosing_no_program_imports_none():
    modules = imported("from modelops.__main__ import main\nmain(['version'])")
    assert not {"kopf", "kubernetes", "aiohttp", "pydantic"} & set(modules)


def test_the_client_reads_no_proxy_from_the_environment(tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)

    async def story():
        kube = await connect(str(path))
        await kube.close()
        return kube.configuration.client_session_kwargs

    assert asyncio.run(story())["trust_env"] is False


def test_kopf_may_only_watch():
    registry = registry_for(WATCHED, Little().observer, Configuration(), lambda: None)
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert not registry._indexing.get_all_handlers()
    assert not registry._webhooks.get_all_handlers()
    (handler,) = registry._watching.get_all_handlers()
    assert handler.selector.plural == "widgets"


def test_kopf_keeps_nothing_posts_nothing_and_never_kills_the_process():
    settings = kopf_settings()
    assert isinstance(settings.persistence.diffbase_storage, NoDiffBase)
    assert isinstance(settings.persistence.progress_storage, NoProgress)
    assert settings.process.ultimate_exiting_timeout is None
    assert not settings.posting.enabled
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert settings.queueing.worker_limit is None


def test_a_handler_returns_nothing_and_a_relist_is_told():
    little, relists = Little(), []
    registry = registry_for(WATCHED, little.observer, Configuration(), lambda: relists.append(1))
    (handler,) = registry._watching.get_all_handlers()
    widget = obj("Widget", "w", "w", 1)
    for type_ in (None, "MODIFIED"):
        assert asyncio.run(handler.fn(event={"type": type_, "object": widget})) is None
    assert relists == [1]
    assert little.woken() == ["w"]
