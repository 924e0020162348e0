"""The inventory that follows single rows is the one that is made anew from all of them."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelops.controllers import rows
from modelops.controllers.stock import Stock
from modelops.controllers.store import Store
from modelops.placement.inventory import inventory
from tests.serving.situations import model_node, node

NODES = st.sampled_from(("node-a", "node-b"))
PODS = st.sampled_from("pqr")


class Model(RuleBasedStateMachine):
    """Pods, nodes and reports come, change and go in any order."""

    def __init__(self):
        super().__init__()
        self.store = Store()
        self.stock = Stock(self.store)
        self.version = 0

    def put(self, kind, project, obj):
        self.version += 1
        meta = {"uid": obj["metadata"]["name"], **obj["metadata"], "resourceVersion": str(self.version)}
        self.store.put(kind, project({**obj, "metadata": meta}))

    @rule(name=NODES, gpus=st.integers(0, 4), cordoned=st.booleans())
    def node_comes(self, name, gpus, cordoned):
        obj = node(name, "NVIDIA-L4", 23034, gpus)
        self.put("Node", rows.node, {**obj, "spec": {"unschedulable": cordoned}})

    @rule(name=NODES, healthy=st.booleans())
    def report_comes(self, name, healthy):
        gpu = {"index": 0, "healthy": healthy, "memoryBytes": 24 * 2**30, "freeBytes": 24 * 2**30}
        self.put("ModelNode", rows.model_node, {**model_node(name), "status": {"gpus": [gpu]}})

    @rule(name=PODS, where=st.one_of(st.none(), NODES), gpus=st.integers(0, 2), ended=st.booleans())
    def pod_comes(self, name, where, gpus, ended):
        limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
        spec = {"containers": [{"name": "engine", "resources": {"limits": limits}}]}
        obj = {
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "n"},
            "spec": {**spec, **({"nodeName": where} if where else {})},
            "status": {"phase": "Succeeded" if ended else "Running"},
        }
        self.put("Pod", rows.pod, obj)

    @rule(kind=st.sampled_from(("Pod", "Node", "ModelNode")), name=st.one_of(NODES, PODS))
    def something_goes(self, kind, name):
        self.store.drop(kind, "n" if kind == "Pod" else "", name, name)

    @invariant()
    def is_the_inventory_of_all_rows(self):
        nodes = [row.node for row in self.store.rows("Node")]
        reports = [row.gpus for row in self.store.rows("ModelNode") if row.gpus]
        uses = [row.use for row in self.store.rows("Pod") if row.use]
        assert self.stock.inventory() == inventory(nodes, uses, reports)


Model.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestAgainstAllRows = Model.TestCase
