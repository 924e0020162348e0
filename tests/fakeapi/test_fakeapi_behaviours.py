"""The fake API server does what it claims the real one does; tests/integration asks the real one the same."""

import asyncio

import pytest

from modelops.clients.kube import Kube
from tests.fakeapi.api import FakeApi
from tests.fakeapi.behaviours import BEHAVIOURS, THING, Place


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda one: one.__name__.replace("_", " "))
def test_the_fake_server_behaves_as_the_real_one(behaviour, monkeypatch):
    monkeypatch.setattr("modelops.clients.kube.PAGE", 2)

    async def story():
        async with FakeApi(collect_after=0.05) as api:
            api.install(THING)
            kube = Kube(api.configuration("a"))
            try:
                await behaviour(Place(kube, "n"))
            finally:
                await kube.close()

    asyncio.run(story())
