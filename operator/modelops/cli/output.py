"""Print objects for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def dump(objects: Mapping[str, Any] | Sequence[Mapping[str, Any]], form: str) -> None:
    """Print one object, or a List of several, as json or yaml."""
    shown = (
        objects
        if isinstance(objects, Mapping)
        else {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    )
    print(json.dumps(shown, indent=2) if form == "json" else yaml.safe_dump(shown, sort_keys=False).rstrip())
