"""Label selectors and the two field selectors that every kind has."""

from collections.abc import Callable, Mapping

from tests.fakeapi.state import Stored

Matches = Callable[[Stored], bool]


def selector(labels: str = "", fields: str = "", namespace: str = "") -> Matches:
    """Return what tells whether an object is selected; empty texts select everything.

    Labels: ``a``, ``!a``, ``a=b``, ``a==b``, ``a!=b``, ``a in (b,c)``, ``a notin (b,c)``, joined by commas.
    """
    wanted = [_label(part) for part in _parts(labels)]
    names = dict(part.split("=", 1) for part in fields.split(",") if "=" in part)
    name, place = names.get("metadata.name"), names.get("metadata.namespace", namespace)

    def matches(found: Stored) -> bool:
        if place and found.place.namespace != place:
            return False
        if name is not None and found.place.name != name:
            return False
        return all(one(found.labels) for one in wanted)

    return matches


def _parts(text: str) -> list[str]:
    """Split at commas outside of parentheses."""
    out, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            out.append(text[start:index])
            start = index + 1
    return [part.strip() for part in (*out, text[start:]) if part.strip()]


def _label(part: str) -> Callable[[Mapping[str, str]], bool]:
    for word, is_in in ((" notin ", False), (" in ", True)):
        if word in part:
            key, _, values = part.partition(word)
            return _among(key.strip(), values.strip().strip("()").split(","), is_in=is_in)
    if "!=" in part:
        key, _, value = part.partition("!=")
        return lambda found: found.get(key) != value
    if "=" in part:
        key, _, value = part.replace("==", "=").partition("=")
        return lambda found: found.get(key) == value
    if part.startswith("!"):
        return lambda found: part[1:] not in found
    return lambda found: part in found


def _among(key: str, values: list[str], *, is_in: bool) -> Callable[[Mapping[str, str]], bool]:
    wanted = {value.strip() for value in values}
    return lambda found: (found.get(key) in wanted) is is_in
