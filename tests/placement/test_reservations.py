"""What is planned and not bound is not free for others."""

from hypothesis import given
from hypothesis import strategies as st

from modelops.placement.inventory import NodeRow, PodUse, inventory, renewed
from modelops.placement.reservations import Reservation, reserve

GPU = "nvidia.com/gpu"
MIB = 2**20


def node(name, product="NVIDIA-L4", count=4, **changes):
    labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": "23034"}
    return NodeRow(name, labels, {GPU: count}, {GPU: count}, **changes)


def held(on="a", product="NVIDIA-L4", gpus=1, pods=1, service="team/chat"):
    return Reservation(service, "aa", on, product, GPU, gpus, pods)


def free(found):
    return {state.name: state.free(GPU) for state in found.nodes}


CLUSTER = inventory([node("a"), node("b"), node("h", "NVIDIA-H100")], [PodUse("b", {GPU: 3})])


def test_a_reservation_takes_its_planned_node():
    assert free(reserve(CLUSTER, [held(gpus=3)])) == {"a": 1, "b": 1, "h": 4}


def test_further_pods_take_the_tightest_node_of_the_product():
    assert free(reserve(CLUSTER, [held(gpus=1, pods=5)])) == {"a": 0, "b": 0, "h": 4}
    assert free(reserve(CLUSTER, [held(gpus=4, pods=2)])) == {"a": 0, "b": 1, "h": 4}


def test_a_node_that_is_gone_reserves_elsewhere_and_nothing_where_nothing_is_free():
    assert free(reserve(CLUSTER, [held(on="gone")])) == {"a": 4, "b": 0, "h": 4}
    assert free(reserve(CLUSTER, [held(on="gone", product="NVIDIA-T4")])) == free(CLUSTER)


def test_a_node_that_is_not_ready_is_promised_to_nobody():
    found = inventory([node("a", ready=False)], [])
    assert free(reserve(found, [held(on="gone")])) == {"a": 4}


def test_groups_hold_the_same_nodes_as_the_list():
    found = reserve(CLUSTER, [held(gpus=2)])
    assert sorted(state.name for nodes in found.alike for state in nodes) == ["a", "b", "h"]
    assert {state.name: state.free(GPU) for nodes in found.alike for state in nodes} == free(found)
    assert all(found.node(name).name == name for name in "abh")
    assert found.node("c") is None


@given(
    st.lists(
        st.builds(
            held,
            st.sampled_from("abhx"),
            gpus=st.integers(1, 4),
            pods=st.integers(0, 3),
            service=st.text(max_size=3),
        ),
        max_size=5,
    ),
    st.randoms(),
)
def test_the_order_of_reservations_changes_nothing_and_none_is_taken_twice(wanted, random):
    unique = list({(r.service, r.revision): r for r in wanted}.values())
    found = reserve(CLUSTER, unique)
    shuffled = list(unique)
    random.shuffle(shuffled)
    assert free(reserve(CLUSTER, shuffled)) == free(found)
    for state, before in zip(found.nodes, CLUSTER.nodes, strict=True):
        assert 0 <= state.free(GPU) <= before.free(GPU)


@given(st.lists(st.tuples(st.sampled_from("abhx"), st.integers(1, 4)), max_size=6), st.integers(0, 6))
def test_an_inventory_that_is_renewed_is_the_one_made_anew(pods, split):
    rows = [node("a"), node("b", count=8), node("h", "NVIDIA-H100"), node("z", ready=False)]
    uses = [PodUse(name, {GPU: count}) for name, count in pods]
    before, after = inventory(rows, uses[:split]), inventory(rows, uses)
    touched = {use.node for use in uses}
    assert renewed(before, taken(touched, uses)) == after
    assert renewed(after, taken(touched, uses[:split])) == before


def taken(nodes, uses):
    """Return what pods take of the nodes, nothing included."""
    found = {name: {} for name in nodes}
    for use in uses:
        found[use.node] = {GPU: found[use.node].get(GPU, 0) + use.requests[GPU]}
    return found
