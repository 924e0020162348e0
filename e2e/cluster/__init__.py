"""A real Kubernetes cluster for the demo and the tests: open one by name, bring it up, break it, remove it.

Three providers: ``existing`` (a kubeconfig context that the user names), ``kind`` (where a
container engine answers) and ``native`` (two nodes on this machine, without a container engine).
"""

from e2e.cluster.existing import Existing, is_named
from e2e.cluster.interface import LAYERS, Cluster
from e2e.cluster.kind import Kind, has_engine
from e2e.cluster.native import Native

PROVIDERS = ("auto", "existing", "kind", "native")

__all__ = ["LAYERS", "PROVIDERS", "Cluster", "open"]


def open(name: str = "test", provider: str = "auto") -> Cluster:
    """Return the cluster of that name; nothing is started yet.

    ``auto`` takes the context that MODELOPS_CONTEXT names, else kind where a container engine
    answers and kind is installed, else native.

    Raises:
        ValueError: there is no such provider, or it cannot use the name.
    """
    if provider == "auto":
        provider = "existing" if is_named() else "kind" if has_engine() else "native"
    match provider:
        case "existing":
            return Existing(name)
        case "kind":
            return Kind(name)
        case "native":
            return Native(name)
    raise ValueError(f"provider must be one of {', '.join(PROVIDERS)}, found {provider}; name one of them")
