"""Install the distribution packages that the cluster and its stand-ins need, only those that are missing."""

import os
import shutil
from pathlib import Path

from e2e.cluster import cache
from e2e.cluster.progress import CACHED, CommandFailed, run, say, stage

WANTED = {
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "nftables": "nft",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "util-linux": "nsenter",
    "procps": "ps",
    "kmod": "modprobe",
    "openssl": "openssl",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "docker-registry": "docker-registry",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
    "gcc": "cc",
    "libc6-dev": "/usr/include/stdio.h",
}
"""Package and what is wanted of it: a program, or a file by its whole path."""

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Unsupported(Exception):
    """This machine cannot run the native cluster; the text says why in one sentence."""


def ensure() -> dict[str, str]:
    """Install what is missing of WANTED and return package and version of all of it.

    A program that is there without its package (a container engine brings its own runc) counts,
    with the version "other".  No installed package is ever removed for one of ours.

    Raises:
        Unsupported: not Debian, or packages are missing and this user is not root.
        CommandFailed: apt could not install them.
    """
    if shutil.which("apt-get") is None or not Path("/etc/debian_version").exists():
        raise Unsupported(
            "native cluster: needs Debian 12 or newer, found another system; "
            "name an existing cluster, or install a container engine for kind"
        )
    with stage("packages") as step, cache.lock("packages"):
        absent = missing()
        step.outcome = f"installed {len(absent)}" if absent else CACHED
        if absent:
            _install(absent)
    found = versions()
    say("packages: " + ", ".join(f"{name} {version}" for name, version in found.items()))
    return found


def missing() -> tuple[str, ...]:
    """Return the packages whose program or file this machine lacks."""
    return tuple(
        name
        for name, wanted in WANTED.items()
        if shutil.which(wanted, path=SEARCH) is None and not Path("/", wanted).exists()
    )


def versions() -> dict[str, str]:
    """Return the installed version of each package of WANTED, "other" where it is not from apt."""
    listed = run(["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}|${Package}|${Version}\\n"])
    rows = [line.split("|") for line in listed.splitlines()]
    known = {name: version for status, name, version in rows if status.startswith("ii")}
    return {name: known.get(name, "other") for name in WANTED}


def _install(names: tuple[str, ...]) -> None:
    if os.geteuid() != 0:
        raise Unsupported(
            f"native cluster: needs the packages {', '.join(names)}, found none of them; "
            "run as root, or install them"
        )
    log = cache.log_of("packages")
    run(["apt-get", "update"], log=log)
    run(
        ["apt-get", "install", "--yes", "--no-remove", "--no-install-recommends", *names],
        log=log,
        env={"DEBIAN_FRONTEND": "noninteractive"},
    )
    if "docker-registry" in names:
        _stop_registry_service()


def _stop_registry_service() -> None:
    """Stop the service that the package starts; the cluster runs a registry of its own."""
    if not Path("/run/systemd/system").is_dir():
        return
    try:
        run(["systemctl", "disable", "--now", "docker-registry.service"])
    except CommandFailed as error:
        say(f"packages: docker-registry still runs as a service: {error}")
