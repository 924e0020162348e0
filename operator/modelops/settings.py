"""Read the operator's configuration file into one frozen value."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from modelops.api.quantities import parse_duration


class SettingsError(Exception):
    """The configuration file cannot be used; the message is one sentence with the path of the field."""


def _duration(text: object) -> object:
    """Parse text such as 1h30m; anything but text is left for pydantic to refuse."""
    return parse_duration(text) if isinstance(text, str) else text


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(strict=True, gt=timedelta(0))]


class Section(BaseModel):
    """A block of the file: camelCase keys, nothing unknown."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )


class Lease(Section):
    """How one replica becomes the leader and stays it."""

    name: str = "modelops"
    """The Lease, in the operator's namespace."""
    duration: Duration = timedelta(seconds=15)
    """A holder silent for so long is replaced."""
    renew: Duration = timedelta(seconds=10)
    """A leader that could not renew for so long ends."""
    retry: Duration = timedelta(seconds=2)
    """Pause between two attempts."""

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if not self.duration > self.renew > 1.2 * self.retry:
            raise ValueError("duration longer than renew, and renew longer than 1.2 times retry")
        return self


class Writes(Section):
    """How hard the operator may press the API server; the Lease is not counted."""

    per_second: float = Field(50, gt=0)
    burst: int = Field(100, ge=1)
    in_flight: int = Field(12, ge=1)


class Prometheus(Section):
    """Where the judge reads its samples."""

    url: str = Field(pattern=r"^https?://")
    timeout: Duration = timedelta(seconds=10)


class PodMonitor(Section):
    """The PodMonitor of each service, where the cluster has the kind."""

    interval: Duration = timedelta(seconds=15)
    """Time between two scrapes; the judge needs two in a window."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels by which a Prometheus chooses it."""


class Gateway(Section):
    """The Gateway that services use when they name none."""

    name: str | None = None
    namespace: str | None = None
    section_name: str | None = None
    domain: str | None = None
    """Hostnames are ``<service>.<namespace>.<domain>``."""


class Images(Section):
    """What runs in the pods that the operator makes."""

    operator: str
    """The operator's own image: wait, fetch, resolve and meter containers."""
    engine_images: Mapping[str, str] = Field(default_factory=dict)
    """Image by engine name, instead of the released one."""
    engine_commands: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Command by engine name, for images whose entry point is another."""


class Sources(Section):
    """Which outside hosts a user may make the cluster call."""

    allowed_hosts: tuple[str, ...] = ()


class Environment(Section):
    """The floor that every Model meets in this environment; a Model can only be stricter."""

    approvals: int | None = Field(None, ge=0)
    """Approvals needed for a version to start."""
    separation_of_duties: bool | None = None
    """True: the author of a version cannot approve it."""
    formats: tuple[str, ...] | None = None
    """Weight formats that may run; absent: all."""
    sources: Sources | None = None
    """Hosts that versions running here may come from; absent: those of ``sources``."""


class Delivery(Section):
    """The agent that fetches models to nodes."""

    enabled: bool = True
    store: str = Field("/var/lib/modelops/store", pattern=r"^/")
    """The folder on every node with one directory for each digest."""


class Gate(Section):
    """How approvals are protected."""

    stamping: bool = True
    """True: the API server stamps the approver by a MutatingAdmissionPolicy."""
    hmac_key_file: str | None = None
    """File with the key that countersigns approvals; absent: none are countersigned."""


class Settings(Section):
    """The whole configuration file."""

    identity: str = ""
    """Name of this replica; from POD_NAME, else from the host name."""
    namespace: str = "modelops-system"
    """Namespace of the operator; from POD_NAMESPACE."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces to serve; empty: all."""
    lease: Lease = Lease()
    writes: Writes = Writes()
    workers: int = Field(8, ge=1, le=64)
    resync: Duration = timedelta(minutes=10)
    """Every object is planned again after so long, within 10 %."""
    prometheus: Prometheus
    gateway: Gateway = Gateway()
    pod_monitor: PodMonitor | None = None
    """Absent: no PodMonitor is made, and those that were are removed."""
    images: Images
    image_pull_policy: str | None = Field(None, pattern=r"^(Always|IfNotPresent|Never)$")
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets, by name, that pull images in the namespaces where models are registered and served."""
    sources: Sources = Sources()
    environments: Mapping[str, Environment] = Field(default_factory=dict)
    delivery: Delivery = Delivery()
    gate: Gate = Gate()
    metrics_port: int = Field(8080, ge=0, le=65535)
    probes_port: int = Field(8081, ge=0, le=65535)


def load(path: str | Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in the YAML file at *path*.

    POD_NAME and POD_NAMESPACE win over the file, since only the pod knows them.

    Raises:
        SettingsError: the file cannot be read, is no YAML mapping, or a field is wrong.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: needs a readable file, found {error}; check --config") from error
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise SettingsError(f"{path}: needs YAML, found {told}; correct the file") from error
    if not isinstance(found, dict):
        raise SettingsError(
            f"{path}: needs a YAML mapping, found {type(found).__name__}; start with prometheus.url"
        )
    from_pod = {
        field: environ[name]
        for field, name in (("identity", "POD_NAME"), ("namespace", "POD_NAMESPACE"))
        if environ.get(name)
    }
    try:
        return Settings.model_validate({**found, **from_pod})
    except ValidationError as error:
        raise SettingsError(f"{path}: {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    """Say the first mistake in one sentence, and how many more there are."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    match first["type"]:
        case "missing":
            return f"{where} needs a value, found none; set it{more}"
        case "extra_forbidden":
            return f"{where} is no setting that exists; correct its name or remove it{more}"
        case _:
            wanted = first["msg"].split(", found ")[0]
            for prefix in ("Value error, ", "Input should be ", "wanted "):
                wanted = wanted.removeprefix(prefix)
            wanted = f"{wanted[:1].lower()}{wanted[1:]}"
            return f"{where} needs {wanted}, found {_shown(first['input'])}; correct it{more}"


def _shown(value: Any) -> str:
    """Return *value* as one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
