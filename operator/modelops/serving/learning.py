"""What engines said of their caches: remembered, and given to the next plan of the same kind."""

from collections.abc import Mapping

from modelops.placement.learned import Learned, kept, measure
from modelops.serving import manifests
from modelops.serving.snapshot import Snapshot, VersionRow


def measured(seen: Snapshot, records: Mapping[str, manifests.Revision]) -> tuple[Learned, ...]:
    """Return what this service's engines measured: what was known, and what is reported now."""
    found = []
    for report in seen.reports:
        record = records.get(report.revision)
        if record is not None:
            one = measure(record.placement, record.engine, record.version, report)
            found += [one] if one is not None else []
    return kept(_own(seen), found)


def corrections(seen: Snapshot, version: VersionRow) -> tuple[Learned, ...]:
    """Return what is known for a plan of *version*: its own, of the versions in a role, of this service."""
    others = (row for name, row in sorted(seen.versions.items()) if name != version.version.name)
    return (*_own(seen), *version.learned, *(one for row in others for one in row.learned))


def _own(seen: Snapshot) -> tuple[Learned, ...]:
    stored = (seen.status.get("placement") or {}).get("measured") or ()
    return tuple(map(Learned.from_status, stored))
