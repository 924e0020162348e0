"""One API server for all integration tests."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

import e2e.cluster
from e2e.cluster import cache
from e2e.cluster.existing import impersonating
from e2e.cluster.native import Native
from tests.integration.gate_world import helm, world

__all__ = ["helm", "world"]

NAMED = "MODELOPS_TEST_KUBECONFIG"
"""The administrator's kubeconfig of a cluster without modelops, to use instead of one of our own."""

# Programs that tests start lie beside them.
sys.path.insert(0, str(Path(__file__).parent))


class _AsUser(Protocol):
    def __call__(self, user: str, groups: Sequence[str] = ()) -> Path: ...


@dataclass(frozen=True, slots=True)
class Api:
    """An API server, its controllers and nothing else: no node runs."""

    kubeconfig: Path
    """The administrator's."""
    user: _AsUser
    """Returns a kubeconfig that acts as a user in groups."""
    audit: Path | None = None
    """What the accounts of modelops-system asked for, one JSON event a line; None: the server is not ours."""


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API server of a cluster that lives as long as the session, or the one that is named."""
    if named := os.environ.get(NAMED):
        config = tmp_path_factory.mktemp("kubeconfig") / "admin"
        config.touch(mode=0o600)
        config.write_text(Path(named).read_text())
        yield Api(config, lambda user, groups=(): _acting_as(config, user, groups))
        return
    cluster = e2e.cluster.open(name="apitests", provider="native")
    with cache.lock("integration-tests"):  # another session would take it down under this one
        try:
            cluster.up(layers={"control-plane"})
            audit = cluster.audit if isinstance(cluster, Native) else None
            yield Api(cluster.kubeconfig, cluster.user_kubeconfig, audit)
        finally:
            cluster.down()


def _acting_as(admin: Path, user: str, groups: Sequence[str]) -> Path:
    """Return a kubeconfig that acts as *user*; clients take a colon in its name for two files."""
    path = impersonating(admin, user, groups)
    return path.rename(path.with_name(path.name.replace(":", "_")))
