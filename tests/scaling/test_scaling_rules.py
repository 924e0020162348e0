"""What is in force for each engine, and what is refused with what it has."""

import pytest

from modelops.api.scaling import Scaling
from modelops.engines import ENGINES
from modelops.plan import Reason
from modelops.scaling.rules import is_by_load, is_decided, least, rules
from tests.scaling.world import engine, in_force

BETWEEN = {"minReplicas": 1, "maxReplicas": 4}


@pytest.mark.parametrize(
    ("name", "concurrency", "wanted"),
    [
        pytest.param(
            "vLLM", 256, [("KVCacheUse", 70), ("QueuedRequests", 5)], id="vLLM tells cache and queue"
        ),
        pytest.param("SGLang", None, [("KVCacheUse", 70), ("QueuedRequests", 5)], id="SGLang does too"),
        pytest.param(
            "LlamaCpp", 4, [("RequestsInFlight", 3)], id="llama.cpp by its slots, through the meter"
        ),
        pytest.param("LlamaCpp", 1, [("RequestsInFlight", 1)], id="one slot is one request"),
    ],
)
def test_the_loads_of_an_engine(name, concurrency, wanted):
    found = in_force(BETWEEN, name, concurrency)
    assert [(load.metric, load.target) for load in found.loads] == wanted


@pytest.mark.parametrize("found", ENGINES, ids=lambda found: found.name)
def test_every_engine_can_be_scaled_by_requests_in_flight(found):
    wire = {**BETWEEN, "metric": "RequestsInFlight", "target": 8}
    (load,) = in_force(wire, found.name, None).loads
    assert load.target == 8


@pytest.mark.parametrize(
    ("wire", "name", "concurrency", "code", "says"),
    [
        pytest.param(
            BETWEEN,
            "Predictive",
            None,
            "TargetNeeded",
            "RequestsInFlight needs a target, found none and no default for engine Predictive",
            id="nobody knows how many requests a predictive model takes",
        ),
        pytest.param(
            {**BETWEEN, "metric": "KVCacheUse"},
            "LlamaCpp",
            4,
            "MetricUnsupported",
            "found LlamaCpp with RequestsInFlight alone; name one of those",
            id="llama.cpp does not tell its cache",
        ),
        pytest.param(
            {**BETWEEN, "metric": "QueuedRequests"},
            "Custom",
            None,
            "MetricUnsupported",
            "found Custom with RequestsInFlight alone",
            id="the meter sees no queue",
        ),
        pytest.param(
            {**BETWEEN, "metric": "TokensInFlight"},
            "vLLM",
            256,
            "TargetNeeded",
            "set what one pod should have in scaling.metrics",
            id="tokens have no default",
        ),
        pytest.param(
            {**BETWEEN, "schedule": {"timeZone": "Mars/Olympus", "windows": []}},
            "vLLM",
            256,
            "TimeZoneUnknown",
            "found Mars/Olympus",
            id="a zone that nobody knows",
        ),
        pytest.param(
            {**BETWEEN, "scaleDown": {"cooldown": "soon"}},
            "vLLM",
            256,
            "Malformed",
            "spec.scaling: wanted a duration",
            id="a duration that slipped past admission",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_there_is(wire, name, concurrency, code, says):
    windows = [{"start": "08:00", "end": "09:00", "minReplicas": 2}]
    if "schedule" in wire:
        wire = {**wire, "schedule": {**wire["schedule"], "windows": windows}}
    found = rules("chat", Scaling.model_validate(wire), engine(name, concurrency))
    assert isinstance(found, Reason)
    assert found.code == code
    assert says in found.message


@pytest.mark.parametrize(
    ("wire", "by_load", "decided", "pods"),
    [
        ({}, False, False, 1),
        ({"minReplicas": 3}, False, False, 3),
        ({"minReplicas": 0}, False, False, 1),
        ({"minReplicas": 3, "maxReplicas": 3}, False, False, 3),
        ({"maxReplicas": 3}, True, True, 1),
        ({"schedule": {"windows": []}}, False, True, 1),
    ],
)
def test_who_decides(wire, by_load, decided, pods):
    if "schedule" in wire:
        wire = {"schedule": {"windows": [{"start": "08:00", "end": "09:00", "minReplicas": 2}]}}
    scaling = Scaling.model_validate(wire)
    assert (is_by_load(scaling), is_decided(scaling), least(scaling)) == (by_load, decided, pods)


def test_without_a_schedule_and_bounds_nobody_decides():
    assert (is_by_load(None), is_decided(None), least(None)) == (False, False, 1)


def test_the_clock_alone_ends_at_its_largest_window():
    hours = [{"start": "08:00", "end": "09:00", "minReplicas": n} for n in (2, 7)]
    found = in_force({"minReplicas": 1, "schedule": {"windows": hours}})
    assert (found.least, found.most, found.loads, found.is_by_load) == (1, 7, (), False)
