"""List the six kinds."""

from modelops.api.approval import ModelApproval
from modelops.api.meta import Resource
from modelops.api.model import Model
from modelops.api.node import ModelNode
from modelops.api.policy import RolloutPolicy
from modelops.api.service import InferenceService
from modelops.api.version import ModelVersion

KINDS: tuple[type[Resource], ...] = (
    Model,
    ModelVersion,
    InferenceService,
    RolloutPolicy,
    ModelApproval,
    ModelNode,
)
