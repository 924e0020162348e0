"""Engines say how large their caches became; it stands in the status, and the next plan reckons with it."""

import asyncio
from dataclasses import replace
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from modelops.clients.prometheus import Series
from modelops.controllers.pools import Asked, Pools, read, unknown
from modelops.controllers.services import REPORTS
from modelops.controllers.store import Key
from modelops.engines.base import CachePool
from modelops.engines.base import Series as Name
from modelops.placement.learned import Report
from modelops.rollouts.state import Phase
from tests.clients.scripted import serving as serving_http
from tests.serving.shapes import H100, LLAMA, ready
from tests.serving.situations import NAMESPACE, SERVICE, node, service

VLLM_POOL = CachePool(Name("vllm:cache_config_info"), "kv_cache_size_tokens", "num_gpu_blocks")
ASKED = Asked(SERVICE, "aa", VLLM_POOL)


def serving(gpus=8):
    """Return a cluster in which vLLM serves chat-1 on one H100, and its revision."""
    cluster = ready(LLAMA, node("node-w", H100, 81559, gpus))
    cluster.put(service(engine={"name": "vLLM", "contextTokens": 8192})).settle()
    cluster.until("chat", Phase.STABLE).run(5)
    return cluster, cluster.rollout("chat").stable.hash


def placement(cluster, name="chat"):
    return cluster.get("InferenceService", NAMESPACE, name)["status"]["placement"]


def tell(cluster, revision, tokens):
    cluster.observations.put(SERVICE, REPORTS, (Report(revision, tokens, None),))
    return cluster.settle()


def another(cluster, name="other"):
    """Return the plan of a second service of the same version."""
    cluster.put(service(name, engine={"name": "vLLM", "contextTokens": 8192})).settle()
    return placement(cluster, name)["plan"]


def test_a_report_stands_in_the_service_and_in_its_version():
    cluster, revision = serving()
    assert "measured" not in placement(cluster)
    tell(cluster, revision, 400_000)
    (told,) = placement(cluster)["measured"]
    assert (told["version"], told["engine"], told["product"]) == ("chat-1", "vLLM", H100)
    assert told["kvCacheTokens"] == 400_000
    assert told["plannedLowTokens"] < told["plannedHighTokens"]
    kept = cluster.get("ModelVersion", NAMESPACE, "chat-1")["status"]["measured"]
    assert kept == [told]


def test_what_runs_stays_as_it_is_and_the_next_plan_is_corrected():
    cluster, revision = serving()
    before = placement(cluster)
    pods = {pod["metadata"]["uid"] for pod in cluster.of("Pod")}
    tell(cluster, revision, 300_000).run(5)
    assert {pod["metadata"]["uid"] for pod in cluster.of("Pod")} == pods
    assert placement(cluster)["revisions"] == before["revisions"]
    plan = another(cluster)
    assert "by what chat-1 measured on 1 x " + H100 in plan["message"]
    assert plan["footprint"]["overheadLowBytes"] > before["plan"]["footprint"]["overheadHighBytes"]


def test_the_version_remembers_when_its_service_is_gone():
    cluster, revision = serving()
    tell(cluster, revision, 300_000)
    cluster.remove(*SERVICE)
    cluster.settle()
    assert "corrected" in another(cluster)["message"]


def test_a_new_operator_asks_nothing_twice():
    cluster, revision = serving()
    assert [asked.revision for asked in unknown(cluster.store)] == [revision]
    tell(cluster, revision, 400_000)
    assert list(unknown(cluster.store)) == []
    before = placement(cluster)
    cluster.again()
    assert list(unknown(cluster.store)) == []
    assert placement(cluster) == before


def test_nobody_is_asked_before_a_pod_is_ready():
    cluster = ready(LLAMA, node("node-w", H100, 81559, 8))
    cluster.put(service(engine={"name": "vLLM", "contextTokens": 8192})).settle()
    assert list(unknown(cluster.store)) == []


@pytest.mark.parametrize(
    ("labels", "report"),
    [
        pytest.param(
            [{"kv_cache_size_tokens": "400000", "num_gpu_blocks": "25000"}],
            Report("aa", 400_000, 25_000),
            id="tokens and blocks",
        ),
        pytest.param([{"num_gpu_blocks": "25000"}], Report("aa", None, 25_000), id="an older release"),
        pytest.param(
            [{"kv_cache_size_tokens": "400000"}, {"kv_cache_size_tokens": "390000"}],
            Report("aa", 390_000, None),
            id="the least of the pods",
        ),
        pytest.param([{"kv_cache_size_tokens": "None", "num_gpu_blocks": "None"}], None, id="not set yet"),
        pytest.param([], None, id="no pod scraped yet"),
    ],
)
def test_what_vllm_says_in_labels(labels, report):
    assert read(ASKED, [Series(one, ((1.0, 1.0),)) for one in labels]) == report


@pytest.mark.parametrize(
    ("values", "tokens"), [([400_000.0], 400_000), ([400_000.0, 380_000.0], 380_000), ([0.0], None)]
)
def test_what_sglang_says_as_a_value(values, tokens):
    asked = Asked(SERVICE, "aa", CachePool(Name("sglang:max_total_num_tokens")))
    found = read(asked, [Series({}, ((1.0, value),)) for value in values])
    assert found == (Report("aa", tokens, None) if tokens else None)


def looked(cluster, answer) -> list[str]:
    """Let the operator look once, with a Prometheus that answers like this; return what it was asked."""

    async def story() -> list[str]:
        async with serving_http(answer) as server:
            settings = cluster.parts.settings
            prometheus = settings.prometheus.model_copy(update={"url": server.url})
            parts = replace(cluster.parts, settings=settings.model_copy(update={"prometheus": prometheus}))
            pools = Pools(parts)
            await pools.look()
            await pools.close()
            return [parse_qs(asked.body)["query"][0] for asked in server.asked]

    texts = asyncio.run(story())
    cluster.settle()
    return texts


def vector(*labels):
    rows = [{"metric": one, "value": [1, "1"]} for one in labels]
    return web.json_response({"status": "success", "data": {"resultType": "vector", "result": rows}})


def test_prometheus_is_asked_once_for_the_pods_of_the_revision():
    cluster, revision = serving()
    wanted = (
        f'vllm:cache_config_info{{namespace="{NAMESPACE}",modelops_service="chat",'
        f'modelops_revision=~"{revision}"}}'
    )
    assert looked(cluster, lambda _: vector()) == [wanted]
    assert looked(cluster, lambda _: vector({"kv_cache_size_tokens": "400000"})) == [wanted]
    assert placement(cluster)["measured"][0]["kvCacheTokens"] == 400_000
    assert looked(cluster, lambda _: vector()) == []


def test_a_prometheus_that_is_away_is_asked_again():
    cluster, _ = serving()
    before = placement(cluster)
    looked(cluster, lambda _: web.Response(status=503, text="starting"))
    assert placement(cluster) == before
    assert [asked.key for asked in unknown(cluster.store)] == [Key("InferenceService", NAMESPACE, "chat")]
