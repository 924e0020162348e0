"""Ask a cluster on behalf of one person; every failure is a sentence with what to do."""

import argparse
import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from modelops.api.names import API_VERSION, DEFAULT_ENVIRONMENT, ENVIRONMENT
from modelops.cli import kubeconfig
from modelops.cli.refusal import Refused
from modelops.clients import errors, kinds
from modelops.clients.kinds import Resource, resource_of
from modelops.clients.kube import Kube, connect
from modelops.plan import Manifest, Ref

T = TypeVar("T")

FIELD_MANAGER = "kubectl-modelops"
REVIEW = Resource("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False)
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

kinds.register(REVIEW)


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster, which namespace, and on whose behalf."""

    path: str | None
    """Kubeconfig; None: in a pod without a kubeconfig, its service account."""
    context: str | None
    namespace: str
    user: str | None = None
    groups: tuple[str, ...] = ()


class Cluster:
    """A connection whose failures are `Refused`."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    async def get(self, kind: str, name: str) -> Manifest:
        """Return one object of our kinds in the namespace."""
        resource = resource_of(API_VERSION, kind)
        try:
            return await self.kube.get(Ref(API_VERSION, kind, self.namespace, name))
        except errors.NotFound as error:
            await self._must_be_there(resource)
            raise Refused(
                f"{name}: needs {kind} {name} in namespace {self.namespace}, found none; "
                f"see kubectl get {resource.plural}.modelops.dev -n {self.namespace}"
            ) from error

    async def rows(self, kind: str, *, is_everywhere: bool = False) -> list[Manifest]:
        """Return all objects of one of our kinds, by namespace and name."""
        resource = resource_of(API_VERSION, kind)
        found: list[Manifest] = []
        try:
            async for page in self.kube.pages(resource, None if is_everywhere else self.namespace):
                found += page.items
        except errors.NotFound as error:
            raise _not_installed(resource) from error
        if not found and not is_everywhere:
            await self._must_be_there(resource)
        return sorted(found, key=lambda obj: (obj["metadata"]["namespace"], obj["metadata"]["name"]))

    async def nodes(self) -> list[Manifest]:
        """Return all ModelNodes by name; none for a person who may not list them."""
        found: list[Manifest] = []
        try:
            async for page in self.kube.pages(resource_of(API_VERSION, "ModelNode")):
                found += page.items
        except errors.Forbidden:
            return []
        return sorted(found, key=lambda obj: str(obj["metadata"]["name"]))

    async def environment(self) -> str | None:
        """Return the environment of the namespace; None when this person may not read namespaces."""
        try:
            found = await self.kube.get(Ref("v1", "Namespace", None, self.namespace))
        except errors.Forbidden:
            return None
        except errors.NotFound as error:
            raise _no_namespace(self.namespace) from error
        labels = found["metadata"].get("labels") or {}
        return str(labels.get(ENVIRONMENT) or DEFAULT_ENVIRONMENT)

    async def user(self) -> str:
        """Return who we are to the API server; empty when it does not say."""
        asked = {"apiVersion": REVIEW.api_version, "kind": REVIEW.kind, "metadata": {"name": ""}}
        try:
            answer = await self.kube.create(asked)
        except (errors.Forbidden, errors.NotFound):
            return ""
        return str(answer["status"]["userInfo"].get("username") or "")

    async def _must_be_there(self, resource: Resource) -> None:
        """Tell a namespace or a kind that is not there from an object that is not there."""
        try:
            if not await self.kube.serves(resource):
                raise _not_installed(resource)
            await self.kube.get(Ref("v1", "Namespace", None, self.namespace))
        except errors.Forbidden:
            return
        except errors.NotFound as error:
            raise _no_namespace(self.namespace) from error


def target(args: argparse.Namespace) -> Target:
    """Return what the options say, and where they say nothing what the kubeconfig does."""
    path = kubeconfig.path_of(getattr(args, "kubeconfig", None), os.environ)
    wanted = getattr(args, "context", None)
    if path is None and wanted is None:
        entry = kubeconfig.Entry("", _own_namespace())
    else:
        entry = kubeconfig.read(path or kubeconfig.DEFAULT_FILE, wanted)
    user, groups = getattr(args, "as_user", None), tuple(getattr(args, "as_group", None) or ())
    if groups and not user:
        raise Refused("--as-group needs the user to impersonate, found no --as; add --as USER")
    return Target(
        path,
        entry.context or None,
        getattr(args, "namespace", None) or entry.namespace,
        user or entry.as_user,
        groups if user else entry.as_groups,
    )


def _own_namespace() -> str:
    """Return the namespace of the pod that this runs in."""
    if not _OWN_NAMESPACE.is_file():
        raise Refused(
            f"cluster: needs a kubeconfig, found neither KUBECONFIG nor {kubeconfig.DEFAULT_FILE}; name one"
        )
    return _OWN_NAMESPACE.read_text(encoding="ascii").strip()


def ask(where: Target, question: Callable[[Cluster], Awaitable[T]]) -> T:
    """Connect, put the question, disconnect, and return the answer.

    Raises:
        Refused: there is no answer.
    """
    try:
        return asyncio.run(_ask(where, question))
    except (errors.ApiError, yaml.YAMLError) as error:
        raise Refused(sentence(error)) from error


async def _ask(where: Target, question: Callable[[Cluster], Awaitable[T]]) -> T:
    kube = await connect(where.path, context=where.context)
    if where.user:
        # Read when the session is opened, which is at the first request.
        given = kube.configuration.client_session_kwargs or {}
        kube.configuration.client_session_kwargs = {**given, "headers": _impersonation(where)}
    try:
        return await question(Cluster(kube, where.namespace))
    finally:
        await kube.close()


def _impersonation(where: Target) -> list[tuple[str, str]]:
    groups = [("Impersonate-Group", group) for group in where.groups]
    return [("Impersonate-User", where.user or ""), *groups]


# --- sentences ---------------------------------------------------------------------------------------


def sentence(error: Exception) -> str:
    """Return the failure as one sentence for the person at the terminal."""
    if isinstance(error, errors.Forbidden):
        return _denied(error)
    text = " ".join(str(error).split())
    if isinstance(error, errors.Unavailable) and "Unauthorized" in text:
        return "cluster: needs credentials that the API server accepts, found Unauthorized; log in again"
    if isinstance(error, errors.Unavailable) and text.startswith("connecting needs"):
        return f"cluster: {text}"
    if isinstance(error, errors.Unavailable):
        return f"cluster: needs an API server that answers, found {text}; check --context and the network"
    if isinstance(error, errors.Ambiguous):
        return f"cluster: the answer was lost ({text}); look with kubectl modelops status and try again"
    if isinstance(error, yaml.YAMLError):
        return f"kubeconfig: needs YAML, found {text}; correct the file"
    return f"cluster: refused, {text}; correct what it names"


def _denied(error: errors.Forbidden) -> str:
    if error.by is errors.Refuser.ADMISSION:
        return f"cluster: {error.who} denies it: {denial(error)}"
    found = re.search(
        r'User "([^"]+)" cannot (\S+) resource "([^"]+)"(?:.*in the namespace "([^"]+)")?', error.answer
    )
    if found is None:
        return f"cluster: {error.answer}; ask an administrator for that right"
    who, verb, what, namespace = found.groups()
    where = f" in namespace {namespace}" if namespace else ""
    return f"cluster: needs the right to {verb} {what}{where}, {who} has none; ask an administrator for it"


def denial(error: errors.Forbidden) -> str:
    """Return what an admission policy or webhook itself says."""
    return error.answer.partition("denied request: ")[2] or error.answer


def _not_installed(resource: Resource) -> Refused:
    return Refused(
        f"cluster: needs the kind {resource.kind} of {API_VERSION}, found none; install the chart modelops"
    )


def _no_namespace(name: str) -> Refused:
    return Refused(f"namespace {name}: needs to exist, found none of that name; see kubectl get namespaces")
