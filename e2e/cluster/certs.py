"""Make the cluster's certificate authority, its leaves and the kubeconfigs that use them."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.paths import Layout
from e2e.cluster.progress import run

_DAYS = "3650"


def ensure(layout: Layout) -> None:
    """Make what is missing of the authority, the leaves and the administrator's kubeconfig."""
    pki = layout.pki
    pki.mkdir(parents=True, exist_ok=True)
    if not (pki / "ca.crt").exists():
        _authority(pki, "ca", f"modelops-{layout.name}")
    if not (pki / "service-account.key").exists():
        _service_account(pki)
    for name, subject in _clients(layout).items():
        leaf(pki, name, subject)
    leaf(pki, "kube-apiserver", "/CN=kube-apiserver", _server_names(layout))
    for node in layout.nodes:
        leaf(
            pki,
            f"kubelet-{node.name}",
            f"/O=system:nodes/CN=system:node:{node.name}",
            (f"DNS:{node.name}", f"IP:{node.address}"),
        )
    for name in (*_clients(layout), *(f"kubelet-{node.name}" for node in layout.nodes)):
        _write(pki / f"{name}.kubeconfig", kubeconfig(layout, name))
    _write(layout.kubeconfig, kubeconfig(layout, "admin"))


def user(layout: Layout, name: str, groups: Sequence[str]) -> Path:
    """Return a kubeconfig whose client certificate names the user and the groups."""
    slug = "user-" + base64.urlsafe_b64encode("\n".join((name, *groups)).encode()).decode().rstrip("=")
    path = layout.state / "users" / f"{slug}.kubeconfig"
    if not path.exists():
        leaf(layout.pki, slug, subject_of(name, groups))
        path.parent.mkdir(exist_ok=True)
        _write(path, kubeconfig(layout, slug))
    return path


def subject_of(name: str, groups: Sequence[str]) -> str:
    """Return a user and groups as openssl's ``-subj`` takes them, with its separators escaped."""
    return "".join(f"/O={_escaped(group)}" for group in groups) + f"/CN={_escaped(name)}"


def kubeconfig(layout: Layout, name: str) -> dict[str, Any]:
    """Return a kubeconfig that holds everything inline and uses the leaf *name*."""
    pki = layout.pki
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": layout.name,
        "contexts": [{"name": layout.name, "context": {"cluster": layout.name, "user": name}}],
        "clusters": [
            {
                "name": layout.name,
                "cluster": {"server": layout.server, "certificate-authority-data": _inline(pki / "ca.crt")},
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _inline(pki / f"{name}.crt"),
                    "client-key-data": _inline(pki / f"{name}.key"),
                },
            }
        ],
    }


def leaf(pki: Path, name: str, subject: str, names: Sequence[str] = ()) -> None:
    """Make a key and a certificate signed by the authority, for both client and server, if missing."""
    certificate = pki / f"{name}.crt"
    if certificate.exists():
        return
    extensions = ["-addext", "extendedKeyUsage=clientAuth,serverAuth"]
    if names:
        extensions += ["-addext", "subjectAltName=" + ",".join(names)]
    partial = pki / f"{name}.crt.partial"
    _openssl(
        *("req", "-x509", "-CA", str(pki / "ca.crt"), "-CAkey", str(pki / "ca.key")),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", _DAYS),
        *("-keyout", str(pki / f"{name}.key"), "-out", str(partial), "-subj", subject),
        *("-config", str(_plain(pki)), "-addext", "basicConstraints=critical,CA:FALSE"),
        *("-addext", "keyUsage=critical,digitalSignature"),
        *extensions,
    )
    partial.rename(certificate)


def _clients(layout: Layout) -> Mapping[str, str]:
    return {
        "admin": "/O=system:masters/CN=admin",
        "kube-apiserver-kubelet-client": "/O=system:masters/CN=kube-apiserver-kubelet-client",
        "kube-controller-manager": "/CN=system:kube-controller-manager",
        "kube-scheduler": "/CN=system:kube-scheduler",
        "kube-proxy": "/CN=system:kube-proxy",
        "front-proxy": "/CN=front-proxy",
    }


def _server_names(layout: Layout) -> tuple[str, ...]:
    services = (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    )
    addresses = (layout.first_service, layout.nodes[0].address, "127.0.0.1")
    return (*(f"DNS:{name}" for name in services), *(f"IP:{address}" for address in addresses))


def _authority(pki: Path, name: str, common_name: str) -> None:
    partial = pki / f"{name}.crt.partial"
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", _DAYS),
        *("-keyout", str(pki / f"{name}.key"), "-out", str(partial), "-subj", f"/CN={common_name}"),
        *("-config", str(_plain(pki)), "-addext", "basicConstraints=critical,CA:TRUE"),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
    )
    partial.rename(pki / f"{name}.crt")


def _service_account(pki: Path) -> None:
    key = pki / "service-account.key"
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{key}.partial")
    _openssl("pkey", "-in", f"{key}.partial", "-pubout", "-out", str(pki / "service-account.pub"))
    Path(f"{key}.partial").rename(key)


def _plain(pki: Path) -> Path:
    """Return a configuration without extensions; the distribution's would make every leaf an authority."""
    config = pki / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name = name\n[name]\n")
    return config


def _openssl(*args: str) -> None:
    run(["openssl", *args])


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in "\\/+" else char for char in text)


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _write(path: Path, config: dict[str, Any]) -> None:
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
