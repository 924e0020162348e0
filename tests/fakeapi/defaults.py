"""What the server fills in, and how it writes quantities: live objects are never what was sent."""

import copy
import re
from collections.abc import Iterable
from typing import Any

from tests.fakeapi.state import Obj

_MILLI = re.compile(r"^(\d+)000m$")


def filled(obj: Obj) -> Obj:
    """Return *obj* with the defaults of its kind; what was sent stays as it is."""
    obj = copy.deepcopy(obj)
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return obj
    match obj["kind"]:
        case "Deployment":
            spec.setdefault("replicas", 1)
            spec.setdefault("progressDeadlineSeconds", 600)
            spec.setdefault("revisionHistoryLimit", 10)
            _template(spec)
        case "Job":
            spec.setdefault("backoffLimit", 6)
            _template(spec)
        case "Service":
            spec.setdefault("type", "ClusterIP")
            spec.setdefault("sessionAffinity", "None")
            _protocols(spec.get("ports") or ())
        case "PersistentVolumeClaim" | "PersistentVolume":
            spec.setdefault("volumeMode", "Filesystem")
        case _:
            pass
    return obj


def _template(spec: dict[str, Any]) -> None:
    pod = (spec.get("template") or {}).get("spec") or {}
    if not pod:
        return
    pod.setdefault("restartPolicy", "Always")
    pod.setdefault("schedulerName", "default-scheduler")
    for container in (*(pod.get("initContainers") or ()), *(pod.get("containers") or ())):
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("imagePullPolicy", "IfNotPresent")
        _protocols(container.get("ports") or ())
        for amounts in (container.get("resources") or {}).values():
            if isinstance(amounts, dict):
                amounts.update({name: quantity(text) for name, text in amounts.items()})


def _protocols(ports: Iterable[dict[str, Any]]) -> None:
    for port in ports:
        port.setdefault("protocol", "TCP")


def quantity(text: Any) -> Any:
    """Return a quantity as the server prints it: ``1000m`` is ``1``."""
    found = _MILLI.match(text) if isinstance(text, str) else None
    return found.group(1) if found else str(text) if isinstance(text, int) else text
