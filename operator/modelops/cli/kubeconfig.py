"""Read from kubeconfigs what the client library leaves out: the namespace, and whom to impersonate."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modelops.cli.refusal import Refused

DEFAULT_FILE = "~/.kube/config"


@dataclass(frozen=True, slots=True)
class Entry:
    """One context, as kubectl reads it."""

    context: str
    namespace: str = "default"
    as_user: str | None = None
    as_groups: tuple[str, ...] = ()


def path_of(given: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the file, or files joined as in PATH: as given, from KUBECONFIG, or the default if it exists."""
    path = given or environ.get("KUBECONFIG")
    if not path:
        return DEFAULT_FILE if Path(DEFAULT_FILE).expanduser().is_file() else None
    if not any(file.is_file() for file in _files(path)):
        raise Refused(f"kubeconfig {path}: needs a file, found none; correct --kubeconfig or KUBECONFIG")
    return path


def read(path: str, context: str | None) -> Entry:
    """Return *context*, or the current one.  Of several files the first that names something wins.

    Raises:
        Refused: a file cannot be read, or there is no such context.
    """
    try:
        documents = [_document(file) for file in _files(path) if file.is_file()]
    except (OSError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise Refused(f"kubeconfig {path}: needs YAML that can be read, found {told}; correct it") from error
    contexts, users = (_named(documents, part) for part in ("contexts", "users"))
    current = next((d["current-context"] for d in documents if d.get("current-context")), "")
    name = str(context or current)
    if name not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        wanted = f"the context {name}" if name else "a current context"
        raise Refused(f"kubeconfig {path}: needs {wanted}, found {known}; name one with --context")
    chosen = contexts[name].get("context") or {}
    user = (users.get(str(chosen.get("user"))) or {}).get("user") or {}
    return Entry(
        name, chosen.get("namespace") or "default", user.get("as"), tuple(user.get("as-groups") or ())
    )


def _files(path: str) -> list[Path]:
    return [Path(part).expanduser() for part in path.split(os.pathsep) if part]


def _document(file: Path) -> dict[str, Any]:
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _named(documents: list[dict[str, Any]], part: str) -> dict[str, dict[str, Any]]:
    """Return the entries of one list by name."""
    out: dict[str, dict[str, Any]] = {}
    for document in documents:
        for entry in document.get(part) or ():
            out.setdefault(str(entry.get("name")), entry)
    return out
