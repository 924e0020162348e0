"""Lists: in pages of one consistent version, whole or metadata alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tests.fakeapi import answers
from tests.fakeapi.kinds import Served
from tests.fakeapi.selectors import Matches
from tests.fakeapi.state import State, Stored

KEPT = 64
"""So many lists that are read page by page are remembered; older ones expire."""


@dataclass(frozen=True)
class _Begun:
    """A list whose later pages are still to come."""

    version: int
    items: tuple[Stored, ...]


class Lists:
    """Pages of lists."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._begun: dict[str, _Begun] = {}

    def expire(self) -> None:
        """Let every list that was begun expire: the next page answers 410."""
        self._begun.clear()

    def page(
        self, kind: Served, matches: Matches, *, limit: int = 0, token: str = "", is_metadata: bool = False
    ) -> bytes:
        """Return one page.

        Raises:
            Refusal: the token is unknown or expired.
        """
        number, _, start_text = token.partition(".")
        start = int(start_text or 0)
        if token:
            begun = self._begun.get(number)
            if begun is None:
                raise answers.expired("The provided continue parameter is too old to display a list")
        else:
            found = sorted(self._state.of(kind).items())
            items = tuple(stored for _, stored in found if matches(stored))
            begun = _Begun(self._state.version, items)
        end = start + limit if limit else len(begun.items)
        meta: dict[str, object] = {"resourceVersion": str(begun.version)}
        if end < len(begun.items):
            number = number or self._remember(begun)
            meta |= {"continue": f"{number}.{end}", "remainingItemCount": len(begun.items) - end}
        return _text(kind, begun.items[start:end], meta, is_metadata=is_metadata)

    def _remember(self, begun: _Begun) -> str:
        number = f"{begun.version}-{len(self._begun)}"
        self._begun[number] = begun
        if len(self._begun) > KEPT:
            del self._begun[next(iter(self._begun))]
        return number


def page_of(query: Mapping[str, str]) -> int:
    """Return the number of the page that is asked for; 0 is the first."""
    start = query.get("continue", "").partition(".")[2]
    return int(start) // int(query["limit"]) if start else 0


def _text(kind: Served, items: tuple[Stored, ...], meta: dict[str, object], *, is_metadata: bool) -> bytes:
    resource = kind.resource
    head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta}
    texts = [stored.text for stored in items]
    if is_metadata:
        head |= {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        texts = [_metadata(stored) for stored in items]
    elif not kind.is_custom:  # items of built-in kinds have neither apiVersion nor kind
        bare = {"apiVersion": resource.api_version, "kind": resource.kind}
        skip = len(json.dumps(bare, separators=(",", ":")))
        texts = [b"{" + text[skip:] for text in texts]
    start = json.dumps(head, separators=(",", ":")).encode()
    return start[:-1] + b',"items":[' + b",".join(texts) + b"]}"


def _metadata(stored: Stored) -> bytes:
    head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return json.dumps({**head, "metadata": stored.fresh()["metadata"]}, separators=(",", ":")).encode()
