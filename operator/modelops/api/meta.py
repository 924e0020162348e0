"""What all kinds share: base classes, conditions, references, and the marks that become schema."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from modelops.api.names import API_VERSION

# --- marks ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule: true, or the API server refuses the object with *message*."""

    cel: str
    message: str
    reason: str = "FieldValueInvalid"
    """FieldValueInvalid, FieldValueForbidden, FieldValueRequired or FieldValueDuplicate."""
    path: str | None = None
    """Field that the refusal names, relative to where the rule stands; None names that place."""

    def to_schema(self) -> dict[str, str]:
        """Return the entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message, "reason": self.reason}
        return entry if self.path is None else {**entry, "fieldPath": self.path}

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        return {**schema, RULES_KEY: [*schema.get(RULES_KEY, ()), self.to_schema()]}


@dataclass(frozen=True, slots=True)
class Refused:
    """Mark a field, or all but some of its values, as not built yet: the schema refuses it in a sentence."""

    message: str
    allowed: tuple[str | bool, ...] = ()
    """Values that work already; none refuses the field whenever it is set."""

    def to_rule(self) -> Rule:
        """Return the CEL rule that refuses the field."""
        values = ", ".join(str(v).lower() if isinstance(v, bool) else f"'{v}'" for v in self.allowed)
        return Rule(f"self in [{values}]" if values else "false", self.message, "FieldValueForbidden")

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.to_rule().__get_pydantic_json_schema__(core, handler)


@dataclass(frozen=True, slots=True)
class ListMap:
    """Mark a list whose items are known by *keys*, so that several writers can share it."""

    keys: tuple[str, ...]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), LIST_TYPE_KEY: "map", "x-kubernetes-list-map-keys": list(self.keys)}


@dataclass(frozen=True, slots=True)
class ListSet:
    """Mark a list of scalars that holds each value once."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), LIST_TYPE_KEY: "set"}


@dataclass(frozen=True, slots=True)
class IntOrText:
    """Mark a value that is a whole number or a text."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {INT_OR_STRING_KEY: True}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`; *wide* ones show with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """How a kind is called on the wire and on the command line."""

    kind: str
    plural: str
    short: str
    is_namespaced: bool = True


RULES_KEY = "x-kubernetes-validations"
LIST_TYPE_KEY = "x-kubernetes-list-type"
INT_OR_STRING_KEY = "x-kubernetes-int-or-string"
PRESERVE_KEY = "x-kubernetes-preserve-unknown-fields"

# --- scalars -------------------------------------------------------------------------------------

Instant = AwareDatetime
Word = Annotated[str, Field(min_length=1, max_length=63)]
Line = Annotated[str, Field(max_length=256)]
Sentence = Annotated[str, Field(max_length=1024)]
Message = Annotated[str, Field(max_length=32768)]
Address = Annotated[str, Field(max_length=2048)]
ObjectName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
]
LabelName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$")
]
"""The metadata.name of a Model or ModelVersion: short enough to be a label value."""
EnvironmentName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
]
Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
LabelMap = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64)]
Unbuilt = dict[str, Any]
"""A block whose shape comes with its behaviour; always with a Refused mark."""

# --- base classes --------------------------------------------------------------------------------


def _add_class_rules(schema: dict[str, Any], cls: type[Any]) -> None:
    if cls.rules:
        schema[RULES_KEY] = [rule.to_schema() for rule in cls.rules]
    if cls.keeps_unknown:
        schema[PRESERVE_KEY] = True


class Wire(BaseModel):
    """Anything that travels as JSON: snake_case here, camelCase there, frozen, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        defer_build=True,
        json_schema_extra=_add_class_rules,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """CEL rules over several fields of the object."""
    keeps_unknown: ClassVar[bool] = False
    """Whether the server keeps fields that the schema does not name."""

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form with only what was given; reading it again gives an equal value."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Spec(Wire):
    """A part of what users write."""


class Status(Wire):
    """A part of what the operator reports."""


class OpenStatus(Status):
    """A report whose details belong to one domain: fields not named here are kept, in ``model_extra``."""

    model_config = ConfigDict(extra="allow")

    keeps_unknown: ClassVar[bool] = True


# --- shared parts --------------------------------------------------------------------------------


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Status):
    """One aspect of an object's state, in the shape all of Kubernetes uses."""

    type: Annotated[
        str,
        Field(
            max_length=316,
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
            r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        ),
    ]
    """What the condition is about, in CamelCase."""
    status: ConditionStatus
    """True, False, or Unknown while an outside system does not answer."""
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """Why, as one CamelCase word from a closed set."""
    message: Message
    """Why, as one sentence: object, wanted, found, what to do."""
    last_transition_time: Instant
    """When the status last flipped."""
    observed_generation: Count | None = None
    """The metadata.generation that this condition judged.  Absent: not recorded."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32), ListMap(("type",))]


class NameRef(Spec):
    """Another object by name, in the same namespace."""

    name: ObjectName
    """The metadata.name of the object."""


class HistoryObject(Status):
    """The object that an audit entry is about."""

    kind: Word
    """Kind of the object."""
    namespace: Word | None = None
    """Namespace of the object.  Absent: cluster-scoped."""
    name: ObjectName
    """Name of the object."""


class HistoryActor(Status):
    """Who caused an audit entry."""

    kind: Word
    """User, Operator or Job."""
    name: Line
    """Name of the user as the API server authenticated it, or of the program."""
    source: Line | None = None
    """Object that carried the decision, as kind/uid.  Absent: none."""


class HistoryEntry(OpenStatus):
    """One entry of the audit chain."""

    v: Count
    """Version of the format of this entry."""
    uid: Word
    """The metadata.uid of the object, which names the chain."""
    seq: Count
    """Position in the chain, from 1."""
    prev: Digest
    """Hash of the entry before; of the uid for the first."""
    time: Annotated[str, Field(max_length=40)]
    """When it happened, in UTC by RFC 3339, kept letter by letter."""
    type: Word
    """What happened, in CamelCase."""
    object: HistoryObject | None = None
    """The object it happened to.  Absent: the object that holds this entry."""
    actor: HistoryActor | None = None
    """Who caused it.  Absent: the operator."""
    from_: Annotated[Line | None, Field(alias="from")] = None
    """State before.  Absent: none, or not a change of state."""
    to: Line | None = None
    """State after.  Absent: not a change of state."""
    reason: Sentence | None = None
    """Reason code or text of the decision.  Absent: none given."""
    hash: Digest
    """Hash of this entry without this field."""


History = Annotated[tuple[HistoryEntry, ...], Field(max_length=20)]


class AuditHead(Status):
    """The end of the audit chain."""

    seq: Count
    """Position of the last entry."""
    head: Digest
    """Hash of the last entry."""


class MeasuredCache(Status):
    """What an engine reported of its cache once it was ready, beside what was planned."""

    basis: Word
    """Digest of what the overhead depends on: shape of the model, image, GPU, arguments."""
    version: LabelName
    """ModelVersion that was served."""
    engine: Word
    """Engine that reported."""
    product: Line
    """GPU product that it ran on."""
    gpus: Count
    """GPUs of one pod."""
    kv_cache_tokens: Count
    """Tokens that the cache holds, as the engine reports them; the least of the pods."""
    planned_low_tokens: Count
    """Tokens with the most overhead that was planned with."""
    planned_high_tokens: Count
    """Tokens with the least overhead that was planned with."""
    overhead_bytes: Count
    """Memory of each GPU that is neither weights nor cache, in bytes, in the plan's own terms."""
    error_percent: Count
    """How far the report lies outside of what was planned, in percent of it."""


class UsedBy(Status):
    """An object that uses this one."""

    kind: Word
    """Kind of the user."""
    namespace: Word | None = None
    """Namespace of the user.  Absent: cluster-scoped."""
    name: ObjectName
    """Name of the user."""


# --- objects -------------------------------------------------------------------------------------


class OwnerReference(Wire):
    """One owner of an object."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Wire):
    """The metadata that the operator reads; the API server fills the rest."""

    name: str
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: Instant | None = None
    deletion_timestamp: Instant | None = None
    owner_references: tuple[OwnerReference, ...] = ()


class Resource(Wire):
    """One object of a kind of ours, as read from the API server or from a file."""

    names: ClassVar[Names]
    columns: ClassVar[tuple[Column, ...]] = ()
    selectable: ClassVar[tuple[str, ...]] = ()
    """Fields that `kubectl get --field-selector` can ask for."""

    api_version: str = API_VERSION
    kind: str = ""
    metadata: ObjectMeta

    @property
    def name(self) -> str:
        """The metadata.name."""
        return self.metadata.name

    @property
    def namespace(self) -> str | None:
        """The metadata.namespace; None for cluster-scoped kinds."""
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        """The metadata.uid; empty for an object that the server never saw."""
        return self.metadata.uid

    @classmethod
    def parse(cls, obj: dict[str, Any]) -> Self:
        """Return the object that *obj* writes, in wire form.

        Raises:
            Malformed: a field has the wrong type or form; the message names the object and the field.
        """
        try:
            return cls.model_validate({"kind": cls.names.kind, **obj})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            meta = obj.get("metadata") or {}
            name = "/".join(str(meta[key]) for key in ("namespace", "name") if meta.get(key))
            raise Malformed(f"{cls.names.kind} {name}: {where}: {first['msg']}; correct the field") from error


class Malformed(ValueError):
    """An object that does not have the form of its kind; the message holds the field path."""


def refusals(part: Wire, path: str = "spec") -> Iterator[str]:
    """Yield `<field path>: <sentence>` for each field of *part* that is set and not built yet.

    What the API server refuses by CEL is found here too, for objects that never met admission.
    """
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        where = f"{path}.{info.alias or name}"
        if value is None or name not in part.model_fields_set:
            continue
        for mark in info.metadata:
            if isinstance(mark, Refused) and value not in mark.allowed:
                yield f"{where}: {mark.message}"
        for at, inner in _parts(value, where):
            yield from refusals(inner, at)


def _parts(value: object, where: str) -> Iterator[tuple[str, Wire]]:
    if isinstance(value, Wire):
        yield where, value
    elif isinstance(value, tuple):
        yield from ((f"{where}[{i}]", item) for i, item in enumerate(value) if isinstance(item, Wire))
