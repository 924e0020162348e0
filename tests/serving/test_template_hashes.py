"""What a release rendered from a record, every later release renders from it: an upgrade restarts no pod.

`tests/golden/templates` has one file for each release: records as they stand in the status of services, and
the hash of the pod template that was made of each.  The file of a release that is out never changes; where a
template must, records of the new kind say so, and old ones are rendered as before.
"""

from importlib.metadata import version

import pytest
import yaml

from modelops.controllers.execute import applied_hash
from modelops.serving.manifests import Owner, pod_template
from modelops.serving.revisions import from_status
from tests.serving.situations import GOLDEN

OWNER = Owner("quickstart", "chat", "c1f93f66-4091-57fb-85b6-be35191b25da")
TEMPLATES = GOLDEN / "templates"
THIS_RELEASE = TEMPLATES / f"{version('modelops')}.yaml"
SOURCES = (
    "a-candidate-starts-beside-stable",
    "a-decision-table-goes-to-the-predictive-runtime-without-a-gpu",
    "a-pickle-that-its-model-allows-runs-in-mlserver-unchanged",
    "a-pod-of-sglang-has-room-for-a-probe-that-makes-a-token",
    "a-pod-of-the-users-own-image-stands-behind-the-meter",
    "a-pod-of-triton-mounts-the-version-under-the-models-name",
    "a-pod-of-vllm-reads-safetensors-and-faces-the-callers-itself",
    "what-the-user-lays-over-the-pods-is-there",
)
"""Golden cases whose plans have a record of each kind of pod."""


def rendered(record):
    return applied_hash(pod_template(from_status(record, OWNER)))


def test_the_records_of_this_release_are_kept(update_golden):
    records = [
        record
        for case in SOURCES
        for record in yaml.safe_load((GOLDEN / case / "plan.yaml").read_text())["status"]["placement"][
            "revisions"
        ]
    ]
    if update_golden:
        kept = [{"template": rendered(record), "record": record} for record in records]
        THIS_RELEASE.parent.mkdir(exist_ok=True)
        THIS_RELEASE.write_text(yaml.safe_dump(kept, sort_keys=False, default_flow_style=None, width=120))
    assert [one["record"] for one in yaml.safe_load(THIS_RELEASE.read_text())] == records


@pytest.mark.parametrize("release", [path.stem for path in sorted(TEMPLATES.glob("*.yaml"))])
def test_a_record_of_a_release_still_gives_its_template(release):
    kept = yaml.safe_load((TEMPLATES / f"{release}.yaml").read_text())
    assert [rendered(one["record"]) for one in kept] == [one["template"] for one in kept]
