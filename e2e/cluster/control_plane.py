"""Run etcd, the API server, the controller manager and the scheduler as plain processes.

They use the network namespace of the first node, so the API server reaches pods and services.
"""

import json
import signal
import time
from pathlib import Path

from e2e.cluster import binaries, certs, network, processes
from e2e.cluster.paths import API_PORT, Layout
from e2e.cluster.progress import CommandFailed, run

AUDITED = "modelops-system"
"""Namespace whose accounts are audited."""
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{AUDITED}"]},
        {"level": "None"},
    ],
}
"""Tests ask what the product asked the server for, and what was refused; the rest would be a flood."""
PROCESSES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

_ETCD = "http://127.0.0.1:2379"  # the loopback of the first node's namespace, not the host's
_CLIENT_RATE = ("--kube-api-qps=300", "--kube-api-burst=600")
_READY_S = 90


def up(layout: Layout) -> None:
    """Start what does not run and wait until the API server is ready."""
    certs.ensure(layout)
    _audit_policy(layout).write_text(json.dumps(AUDIT))
    kubernetes = binaries.ensure("kubernetes")
    commands = {
        "etcd": (str(binaries.ensure("etcd") / "etcd"), *_etcd(layout)),
        "kube-apiserver": (str(kubernetes / "kube-apiserver"), *_api_server(layout)),
        "kube-controller-manager": (
            str(kubernetes / "kube-controller-manager"),
            *_controller_manager(layout),
        ),
        "kube-scheduler": (str(kubernetes / "kube-scheduler"), *_scheduler(layout)),
    }
    entered = network.inside(layout.nodes[0].netns)
    for name in PROCESSES[:2]:
        _start(layout, name, (*entered, *commands[name]))
    _wait_ready(layout, kubernetes / "kubectl")
    for name in PROCESSES[2:]:
        _start(layout, name, (*entered, *commands[name]))


def restart_api_server(layout: Layout) -> None:
    """Kill the API server, start it again, and wait until it is ready."""
    processes.stop(layout.state, "kube-apiserver", how=signal.SIGKILL)
    up(layout)


def down(layout: Layout) -> None:
    """End the processes, clients first.

    An API server whose etcd is gone keeps its port while it drains: wait for its end before etcd's.
    """
    for name in reversed(PROCESSES):
        processes.stop(layout.state, name, how=signal.SIGKILL)


def _start(layout: Layout, name: str, argv: tuple[str, ...]) -> None:
    if processes.pid_of(layout.state, name) is None:
        processes.start(layout.state, name, argv)


def _wait_ready(layout: Layout, kubectl: Path) -> None:
    deadline = time.monotonic() + _READY_S
    asking = [
        str(kubectl),
        f"--kubeconfig={layout.kubeconfig}",
        "--request-timeout=2s",
        "get",
        "--raw=/readyz",
    ]
    while True:
        try:
            run(asking, env={"KUBECACHEDIR": str(layout.state / "kube-cache")})
            return
        except CommandFailed as error:
            who, log = f"cluster {layout.name}: the API server", f"read {layout.logs}/kube-apiserver.log"
            if processes.pid_of(layout.state, "kube-apiserver") is None:
                raise RuntimeError(f"{who} must run, found it ended; {log}") from error
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{who} must be ready within {_READY_S} s, found {error}; {log}"
                ) from error
        time.sleep(0.2)


def _etcd(layout: Layout) -> tuple[str, ...]:
    return (
        f"--data-dir={layout.state}/etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def _api_server(layout: Layout) -> tuple[str, ...]:
    pki = layout.pki
    return (
        f"--etcd-servers={_ETCD}",
        f"--advertise-address={layout.nodes[0].address}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={layout.services}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/kube-apiserver.crt",
        f"--tls-private-key-file={pki}/kube-apiserver.key",
        f"--service-account-key-file={pki}/service-account.pub",
        f"--service-account-signing-key-file={pki}/service-account.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/kube-apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/kube-apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",  # else exec and logs ask DNS for the node's name
        f"--requestheader-client-ca-file={pki}/ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        f"--audit-policy-file={_audit_policy(layout)}",
        f"--audit-log-path={layout.audit}",
    )


def _audit_policy(layout: Layout) -> Path:
    return layout.state / "audit-policy.json"


def _controller_manager(layout: Layout) -> tuple[str, ...]:
    pki = layout.pki
    config = f"{pki}/kube-controller-manager.kubeconfig"
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--root-ca-file={pki}/ca.crt",
        f"--service-account-private-key-file={pki}/service-account.key",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--flex-volume-plugin-dir={layout.state}/volume-plugins",  # the default is made in /usr/libexec
        "--use-service-account-credentials",
        "--allocate-node-cidrs=false",
        "--leader-elect=false",
        "--node-monitor-grace-period=20s",  # a lost node is noticed after about 23 s, not 51
        *_CLIENT_RATE,
    )


def _scheduler(layout: Layout) -> tuple[str, ...]:
    config = f"{layout.pki}/kube-scheduler.kubeconfig"
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--leader-elect=false",
        *_CLIENT_RATE,
    )
