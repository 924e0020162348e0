"""The pinned parts: their go.mod files, and the names of the images made of them."""

import re

import pytest

from e2e.cluster import binaries, images

GO_PARTS = sorted(part.name for part in binaries.BUILT.values() if part.module)


@pytest.mark.parametrize("part", GO_PARTS)
def test_a_part_only_pins_tools_of_its_module(part):
    text = (binaries.PARTS / part / "go.mod").read_text()
    tools = re.search(r"^tool (?:\((.*?)\n\)|(\S+)$)", text, re.MULTILINE | re.DOTALL)
    assert tools is not None
    paths = (tools[1] or tools[2]).split()
    module = binaries.BUILT[part].module
    assert all(path == module or path.startswith(module + "/") for path in paths)
    assert not [path.name for path in (binaries.PARTS / part).iterdir() if path.suffix == ".go"]


@pytest.mark.parametrize("part", sorted(path.parent.name for path in binaries.PARTS.glob("*/go.mod")))
def test_a_part_needs_no_newer_go_than_the_project(part):
    wanted = re.search(r"^go (\d+)\.(\d+)", (binaries.PARTS / part / "go.mod").read_text(), re.MULTILINE)
    assert wanted is not None
    assert (int(wanted[1]), int(wanted[2])) <= binaries.GO


def test_each_part_folder_is_known():
    assert {path.parent.name for path in binaries.PARTS.glob("*/go.mod")} == set(binaries.BUILT)


def test_kubernetes_and_etcd_are_built_first():
    assert binaries.CLUSTER[:2] == ("kubernetes", "etcd")
    assert "kwok" not in binaries.CLUSTER


@pytest.mark.parametrize(
    ("image", "version"),
    [
        pytest.param(images.COREDNS, binaries.version("coredns"), id="CoreDNS"),
        pytest.param(images.ENVOY_GATEWAY, binaries.version("envoy-gateway"), id="Envoy Gateway"),
        pytest.param(
            images.PROMETHEUS,
            # Module v0.315.0 is release 3.15.0.
            re.sub(r"^v0\.(\d)(\d\d)\.", r"v\1.\2.", binaries.version("prometheus")),
            id="Prometheus",
        ),
        pytest.param(
            images.ENVOY,
            "v" + images.ENVOY_LOCK.read_text().split()[0].partition("==")[2],
            id="Envoy",
        ),
    ],
)
def test_an_image_is_tagged_with_the_version_that_is_pinned(image, version):
    assert "v" + image.partition(":")[2] == version


def test_a_module_that_is_not_required_is_refused():
    with pytest.raises(LookupError, match=r"go\.mod: needs a line that requires example\.org/x, found none"):
        binaries.pinned("example.org/x", "module m\n\nrequire example.org/xy v1.0.0\n")


@pytest.mark.parametrize(
    "go_mod",
    [
        pytest.param("require example.org/x v1.2.3\n", id="a line of its own"),
        pytest.param("require (\n\texample.org/x v1.2.3 // indirect\n)\n", id="in a block"),
        pytest.param("require example.org/x/y v9.0\nrequire example.org/x v1.2.3\n", id="after a longer one"),
    ],
)
def test_the_required_version_is_found(go_mod):
    assert binaries.pinned("example.org/x", go_mod) == "v1.2.3"


def test_a_chart_value_without_a_name_in_the_table_is_refused():
    assert images.filled("image: ${Image}", {"Image": "localhost/x:1"}) == "image: localhost/x:1"
    with pytest.raises(LookupError, match="needs a value for Other, found none"):
        images.filled("image: ${Other}", {"Image": "localhost/x:1"})
