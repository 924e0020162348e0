"""The wanted revision, placed and gated."""

from dataclasses import dataclass

from modelops.placement.fit import Placement, Refusal
from modelops.plan import Reason
from modelops.rollouts.state import Revision
from modelops.serving import manifests


@dataclass(frozen=True, slots=True)
class Fitted:
    """The revision that is wanted, what its pods would be made of, and what speaks against it."""

    revision: Revision
    record: manifests.Revision | None = None
    """None: it fits nowhere."""
    gate: Reason | None = None
    """What the gates say against it."""
    misfit: Reason | None = None
    """What the placement or the engine says against it."""
    placement: Placement | Refusal | None = None

    @property
    def hold(self) -> Reason | None:
        """Why it may not start; None: it may.  People can open a gate, so that comes first."""
        return self.gate or self.misfit

    @property
    def waits_for_capacity(self) -> bool:
        """Whether only room on nodes is missing, which is not the version's fault."""
        return self.gate is None and self.misfit is not None and self.misfit.code == "WaitingForCapacity"
