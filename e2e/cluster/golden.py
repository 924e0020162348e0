"""Import image archives into a containerd root that no node uses, for nodes to copy."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.progress import CommandFailed, run

NAMESPACE = "k8s.io"  # where kubelet's side of containerd looks for images
START_SECONDS = 30.0

# The parts that kubelet talks to want a network and a sandbox image; an import needs neither.
SETTINGS = """\
version = 3
disabled_plugins = [
  "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime",
  "io.containerd.grpc.v1.cri",
]
"""


def import_images(archive: Path, root: Path, programs: Path, log: Path) -> None:
    """Import an OCI *archive* into the containerd *root*, unpacked for the overlay snapshotter.

    *programs* is the folder with ``containerd`` and ``ctr``.

    Raises:
        CommandFailed: containerd did not start, or the import failed.
    """
    with running(root, programs, log) as socket:
        # Not through the daemon's stream, which takes twice as long; the path must be absolute.
        run(
            [
                programs / "ctr",
                "--address",
                socket,
                "--namespace",
                NAMESPACE,
                "images",
                "import",
                "--local",
                archive.absolute(),
            ]
        )


@contextmanager
def running(root: Path, programs: Path, log: Path) -> Iterator[Path]:
    """Run a containerd on *root* and give its socket; it has ended when the block has."""
    # Sockets have at most 107 characters in their names, so not below the cache.
    with tempfile.TemporaryDirectory(prefix="modelops-containerd-") as scratch, log.open("w") as out:
        settings, socket = Path(scratch, "config.toml"), Path(scratch, "sock")
        settings.write_text(SETTINGS)
        daemon = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "TERM"),  # it shall not outlive a run that is killed
                programs / "containerd",
                "--config",
                settings,
                "--root",
                root,
                "--state",
                Path(scratch, "state"),
                "--address",
                socket,
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # else an interrupt of the terminal ends it before its client
        )
        try:
            _wait(daemon, socket, programs, log)
            yield socket
        finally:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _wait(daemon: "subprocess.Popen[bytes]", socket: Path, programs: Path, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while daemon.poll() is None and time.monotonic() < until:
        try:
            run([programs / "ctr", "--address", socket, "--connect-timeout", "1s", "version"])
            return
        except CommandFailed:
            time.sleep(0.1)
    raise CommandFailed(
        f"containerd: needs to answer within {START_SECONDS:.0f} s, found silence; read {log}"
    )
