"""The list of what the operator watches."""

from modelops.clients.kinds import RESOURCES
from tests.serving.cluster import Cluster


def test_no_kind_is_watched_twice():
    watched = [one.resource.kind for one in Cluster().kinds.watched]
    assert sorted(set(watched)) == sorted(watched), "a second watch costs, and both forget what the other saw"


def test_rows_are_kept_by_kind_so_that_no_two_groups_may_have_one_of_the_same_name():
    names = [resource.kind for resource in RESOURCES]
    assert sorted(set(names)) == sorted(names)


def test_a_kind_that_may_be_absent_may_be_denied_unless_its_right_comes_with_every_release():
    """RBAC says no before discovery says that there is nothing: an older role must not stop the operator."""
    first = {"HTTPRoute", "GRPCRoute", "Gateway", "GatewayClass"}
    later = {one.resource.kind for one in Cluster().kinds.watched if one.is_optional} - first
    may = {one.resource.kind for one in Cluster().kinds.watched if one.may_be_denied}
    assert later <= may
