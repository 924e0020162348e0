"""What an environment and a model together demand of a version; the stricter of the two holds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requirement:
    """Demand, for one model in one environment."""

    approvals: int = 0
    """How many different people must approve; 0: none."""
    separation_of_duties: bool = False
    """Whether the version's author is left out of the count."""
    formats: frozenset[str] | None = None
    """Formats that may run; None: any."""


NOTHING = Requirement()


def stricter(one: Requirement, other: Requirement) -> Requirement:
    """Return the demand that holds when both must hold.

    Laws: ``stricter(a, b) == stricter(b, a)``, and neither side can weaken the other.
    """
    if one.formats is None or other.formats is None:
        formats = other.formats if one.formats is None else one.formats
    else:
        formats = one.formats & other.formats
    return Requirement(
        max(one.approvals, other.approvals),
        one.separation_of_duties or other.separation_of_duties,
        formats,
    )
