"""What is taken over from the machine: apt's mirror, pip's package sources."""

import pytest

from e2e.cluster import imagebuild, rootfs
from e2e.cluster.packages import Unsupported

MAIN = "http://mirror.test/debian/|Debian|Debian"
SECURITY = "http://mirror.test/debian-security/|Debian|Debian-Security"
VENDOR = "https://vendor.test/apt/|Vendor|Vendor"


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param([MAIN, SECURITY], id="main first"),
        pytest.param([VENDOR, SECURITY, MAIN], id="a vendor and security before it"),
    ],
)
def test_the_mirror_is_that_of_the_main_archive(targets):
    assert rootfs.mirror("\n".join(targets)) == "http://mirror.test/debian/"


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param([], id="no sources"),
        pytest.param([SECURITY], id="only security"),
        pytest.param(["http://mirror.test/ubuntu/|Ubuntu|Ubuntu"], id="another distribution"),
    ],
)
def test_without_a_debian_mirror_it_says_what_to_do(targets):
    with pytest.raises(Unsupported, match="needs a Debian mirror in apt's sources, found none; add one"):
        rootfs.mirror("\n".join(targets))


@pytest.mark.parametrize(
    ("listed", "lines"),
    [
        pytest.param("", [], id="nothing set"),
        pytest.param("global.index-url='https://a.test/x'", ["index-url = https://a.test/x"], id="a file"),
        pytest.param(
            ":env:.index-url='https://b.test/x'\nglobal.index-url='https://a.test/x'",
            ["index-url = https://b.test/x"],
            id="the environment wins",
        ),
        pytest.param("global.find-links='/opt/wheels'", [], id="folders of this machine stay out"),
    ],
)
def test_a_build_gets_the_package_sources_of_the_machine(listed, lines):
    head = ["[global]", f"cert = {imagebuild.BUNDLE}"]
    assert imagebuild.pip_settings(listed).splitlines() == head + lines
