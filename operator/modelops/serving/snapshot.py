"""What the decision about one InferenceService looks at: frozen, gathered once per pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelops.analysis.frozen import History
from modelops.analysis.samples import Window
from modelops.api.policy import Policy, Preset
from modelops.api.service import InferenceService
from modelops.api.version import ModelVersion
from modelops.governance.approvals import Approval
from modelops.governance.countersign import GateState
from modelops.governance.requirements import Requirement
from modelops.placement.inventory import Inventory
from modelops.placement.learned import Learned, Report
from modelops.plan import Reason, Ref
from modelops.serving.manifests import Gateway, Images
from modelops.serving.monitors import Monitor


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended that never became ready, or ended again and again."""

    reason: str
    code: int
    message: str = ""
    log_tail: str = ""
    """End of its log as it was written; empty where it may hold what users asked."""


@dataclass(frozen=True, slots=True)
class PodRow:
    """One serving pod."""

    name: str
    revision: str
    node: str = ""
    is_ready: bool = False
    """Whether it answers requests; the pods of a group that do not lead never do."""
    is_worker: bool = False
    """Whether it belongs to a group that another pod leads."""
    is_terminating: bool = False
    restarts: int = 0
    pending: str = ""
    """Why it is not scheduled or not started, in the words of the cluster; empty: nothing is wrong."""
    last_exit: Exit | None = None


@dataclass(frozen=True, slots=True)
class ChildRow:
    """A Deployment, Service or budget of one revision."""

    kind: str
    api_version: str
    name: str
    uid: str
    revision: str
    role: str = ""
    """Of a Deployment: stable, canary or previous when it was applied last."""
    version: str = ""


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route of the service's own, as the server and our parent Gateway see it."""

    weights: tuple[tuple[str, int], ...] = ()
    """(name of a revision's Service, weight), of the rule for all requests."""
    mirror: tuple[str, int] | None = None
    """Service that gets copies, and of how many percent of the requests."""
    matched: str = ""
    """Service that gets the requests which a policy matches; empty: there is no such rule."""
    pinned: tuple[str, ...] = ()
    """Services that keep the clients which bear their cookie."""
    has_persistence: bool = False
    """Whether the rule for all requests has sessionPersistence, which not every installed schema keeps."""
    is_accepted: bool = False
    """Whether our parent says Accepted and ResolvedRefs for this generation."""
    is_alone: bool = False
    """Whether our parent says Accepted for this generation, and nothing about references."""
    is_refused: bool = False
    """Whether our parent says that this generation is not Accepted: nothing comes by this route."""
    fault: str = ""
    """What our parent says is wrong; empty: nothing, or not answered yet."""


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend of one rule of a user's route."""

    rule: int
    index: int
    name: str
    """Empty: it is not a Service of the route's namespace."""
    weight: int | None = None
    """None: the route does not say, which means 1."""


@dataclass(frozen=True, slots=True)
class LentRow:
    """A route of a user that sends to the Services of our roles, or holds weights that were ours."""

    kind: str
    name: str
    uid: str
    resource_version: str
    backends: tuple[BackendRow, ...] = ()
    """Of the rules that name a Service of a role, all of them."""
    found: Mapping[tuple[int, str], int | None] | None = None
    """Weights as they were before we changed them, by rule and name; None: we did not."""
    has_annotations: bool = True
    hostnames: tuple[str, ...] = ()
    is_accepted: bool = False
    """As RouteRow.is_accepted, of every parent that it names."""
    is_alone: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class ApexRow:
    """The Service that carries the name of the service, where no gateway splits."""

    uid: str
    revision: str
    """Revision whose pods get all requests; empty: the pods of all revisions share them."""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A ModelVersion with what people decided about it."""

    version: ModelVersion
    resolved: Mapping[str, Any]
    """``status.resolved`` in camelCase; empty: not pinned yet."""
    digest: str
    spec_hash: str
    unresolved: Reason | None
    unverified: Reason | None
    authors: frozenset[str]
    requirement: Requirement
    approvals: tuple[Approval, ...] = ()
    model_type: str = ""
    """Type of the Model, such as LLM; empty: there is none."""
    learned: tuple[Learned, ...] = ()
    """What engines reported that served it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What Prometheus said about one run."""

    run_id: str = ""

    windows: tuple[Window, ...] = ()
    """Closed windows since the candidate became ready, oldest first."""
    history: History | None = None
    """Stable's windows before the run; None: not read yet."""
    away_since: datetime | None = None
    """Since when it does not answer; None: it does."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator's settings say where the service says nothing."""

    images: Images
    gateway: Gateway | None
    store: str = "/var/lib/modelops/store"
    engine_images: Mapping[str, str] = field(default_factory=dict)
    engine_commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    monitor: Monitor | None = None
    """How the pods of each service are found by a Prometheus operator; None: not by us."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One InferenceService and everything that its plan depends on."""

    service: InferenceService
    status: Mapping[str, Any]
    """The stored status, as it is on the wire."""
    environment: str
    defaults: Defaults
    stock: Callable[[], Inventory] = field(compare=False)
    """Returns the nodes with what is free of them, of no use where ``nodes_unseen`` says why.

    Only who looks for a place asks: it is dear, and who asked plans again at each resync.
    """
    wanted: VersionRow | Reason
    """The version that the spec names, or why it names none."""
    versions: Mapping[str, VersionRow] = field(default_factory=dict)
    """Versions of stable, candidate and previous by name, where they still exist."""
    nodes_unseen: str = ""
    """What the server says to a list of nodes; empty: they are seen."""
    policy: Policy | None = None
    policy_fault: Reason | None = None
    """Why the named policy cannot be used; None with no policy: none is named and none is the default."""
    runtime: Preset = Preset.LLM
    """What preset Auto means for this model."""
    pods: tuple[PodRow, ...] = ()
    children: tuple[ChildRow, ...] = ()
    monitors: tuple[Ref, ...] = ()
    """PodMonitors of the service that are there."""
    route: RouteRow | None = None
    grpc_route: RouteRow | None = None
    lent: tuple[LentRow, ...] = ()
    """Routes of users that have to do with this service."""
    aims: Mapping[str, str] = field(default_factory=dict)
    """Revision that the Service of each role selects; a role without an own Service is left out."""
    apex: ApexRow | None = None
    features: frozenset[str] | None = None
    """What the GatewayClass lists as supported; None: it lists nothing, or was not read."""
    measured: Measured = Measured()
    gate: GateState = GateState()
    """Whether the approval gate was proven to be in force."""
    reports: tuple[Report, ...] = ()
    """What engines say of their caches that have told it since the operator started."""
    refused: Reason | None = None
    """What the server said no to when the last plan was carried out."""

    @property
    def inventory(self) -> Inventory:
        return self.stock()

    @property
    def namespace(self) -> str:
        return self.service.namespace or ""

    @property
    def name(self) -> str:
        return self.service.name
