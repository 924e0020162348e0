"""Golden pairs: what was seen, and the whole plan.  The name of a case is its claim."""

import pytest

from tests.serving.golden import CASES, cluster_of, plan_of, printed
from tests.serving.shapes import SHAPES
from tests.serving.situations import SITUATIONS

golden = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@golden
def test_the_plan_is_the_golden_one(case, update_golden):
    cluster, root = cluster_of(case)
    found = printed(cluster, plan_of(cluster, root))
    if update_golden:
        (case / "plan.yaml").write_text(found)
    assert found == (case / "plan.yaml").read_text()


def test_every_situation_is_a_case():
    assert {case.name for case in CASES} == set(SITUATIONS)
    assert set(SHAPES) <= set(SITUATIONS)
