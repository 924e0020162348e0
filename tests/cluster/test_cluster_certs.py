"""Certificates and kubeconfigs, judged by openssl itself."""

import base64
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from e2e.cluster import certs, paths


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> paths.Layout:
    made = paths.layout("test", tmp_path_factory.mktemp("state"))
    certs.ensure(made)
    return made


def openssl(*args: str) -> str:
    return subprocess.run(["openssl", *args], check=True, capture_output=True, text=True).stdout


def subject(certificate: Path) -> str:
    return openssl(
        "x509", "-in", str(certificate), "-noout", "-subject", "-nameopt", "RFC2253,-esc_ctrl"
    ).strip()


def test_every_leaf_is_signed_by_the_authority_and_is_none_itself(layout):
    leaves = [path for path in layout.pki.glob("*.crt") if path.name != "ca.crt"]
    assert len(leaves) == 9
    for leaf in leaves:
        openssl("verify", "-CAfile", str(layout.pki / "ca.crt"), str(leaf))
        assert "CA:FALSE" in openssl("x509", "-in", str(leaf), "-noout", "-ext", "basicConstraints")


def test_the_servers_certificate_names_its_service_and_its_addresses(layout):
    names = openssl("x509", "-in", str(layout.pki / "kube-apiserver.crt"), "-noout", "-ext", "subjectAltName")
    for wanted in ("kubernetes.default.svc", str(layout.first_service), str(layout.nodes[0].address)):
        assert wanted in names


def test_a_kubelet_is_the_node_of_its_name(layout):
    assert subject(layout.pki / "kubelet-n2.crt") == "subject=CN=system:node:n2,O=system:nodes"


def test_a_second_call_makes_nothing_new(layout):
    before = {path: path.stat().st_mtime_ns for path in layout.pki.glob("*.crt")}
    certs.ensure(layout)
    assert {path: path.stat().st_mtime_ns for path in layout.pki.glob("*.crt")} == before


@pytest.mark.parametrize(
    ("user", "groups", "wanted"),
    [
        pytest.param("alice", (), "subject=CN=alice", id="a user without groups"),
        pytest.param("alice", ("b", "a"), "subject=CN=alice,O=a,O=b", id="two groups"),
        pytest.param("team/alice", ("x+y",), r"subject=CN=team/alice,O=x\+y", id="characters that separate"),
        pytest.param(
            "system:serviceaccount:ns:sa", (), "subject=CN=system:serviceaccount:ns:sa", id="colons"
        ),
    ],
)
def test_a_user_certificate_says_who_it_is_for(layout, user, groups, wanted):
    config = yaml.safe_load(certs.user(layout, user, groups).read_text())
    given = config["users"][0]["user"]["client-certificate-data"]
    certificate = layout.state / "one.crt"
    certificate.write_bytes(base64.b64decode(given))
    assert subject(certificate) == wanted


def test_keys_and_kubeconfigs_are_for_their_owner_only(layout):
    secret = [*layout.pki.glob("*.key"), *layout.pki.glob("*.kubeconfig"), layout.kubeconfig]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
