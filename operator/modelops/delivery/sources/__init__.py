"""Where bytes come from: the only list of sources."""

from collections.abc import Mapping
from typing import Any

from modelops.delivery.sources.base import Credential, Source
from modelops.delivery.sources.huggingface import HuggingFace
from modelops.plan import Reason

SOURCES = (HuggingFace,)


def open_source(
    spec: Mapping[str, Any],
    credential: Credential,
    *,
    revision: str | None = None,
    allowed_hosts: frozenset[str] = frozenset(),
) -> Source | Reason:
    """Return the source that ``spec.source`` names; *revision* pins it, *allowed_hosts* may be private."""
    given = [source for source in SOURCES if source.field in spec]
    if len(given) != 1 or len(spec) != 1:
        return Reason(
            "UnknownSource",
            f"source: needs exactly one of {', '.join(source.field for source in SOURCES)}, "
            f"found {', '.join(sorted(spec)) or 'none'}; correct spec.source in a new ModelVersion",
        )
    return given[0].of(spec[given[0].field], credential, revision=revision, allowed_hosts=allowed_hosts)
