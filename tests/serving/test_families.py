"""Golden manifests: each engine with each family of models; a reviewer reads the difference."""

import pytest

from tests.serving.families import CASES, rendered
from tests.serving.restricted import refusals
from tests.serving.situations import GOLDEN, text

FOLDER = GOLDEN / "families"


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_workload_is_the_golden_one(case, update_golden):
    found, path = rendered(case), FOLDER / f"{case}.yaml"
    if update_golden:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text(found))
    assert text(found) == path.read_text()
    assert refusals(found["spec"]["template"]["spec"]) == []


def test_every_golden_belongs_to_a_case():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(CASES)
