"""Call kubectl as one user of one cluster."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.progress import CommandFailed, run


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The program, whose kubeconfig it uses, and where it may cache what the server offers."""

    program: Path
    kubeconfig: Path
    cache: Path

    def __call__(self, *args: str) -> str:
        """Run kubectl and return what it printed.

        Raises:
            CommandFailed: it ended with an error.
        """
        return run(
            [self.program, f"--kubeconfig={self.kubeconfig}", *args],
            env={"KUBECACHEDIR": str(self.cache)},
        )

    def apply(self, *files: Path) -> None:
        """Apply manifests, server side, as the owner of every field in them."""
        named = [word for file in files for word in ("-f", str(file))]
        self("apply", "--server-side", "--force-conflicts", *named)

    def rollout(self, namespace: str, workload: str, *, timeout_s: int = 120) -> None:
        """Wait until a Deployment or DaemonSet runs as wanted.

        Raises:
            TimeoutError: it did not; the text tells the state of the namespace's pods.
        """
        try:
            self("rollout", "status", "-n", namespace, workload, f"--timeout={timeout_s}s")
        except CommandFailed as error:
            pods = self("get", "pods", "-n", namespace, "-o", "wide")
            raise TimeoutError(
                f"{namespace}/{workload}: must run within {timeout_s} s, found {error}; its pods:\n{pods}"
            ) from error


def until(what: str, check: Callable[[], bool], *, timeout_s: float) -> None:
    """Wait until *check* holds; a command that fails counts as not yet.

    Raises:
        TimeoutError: it did not hold within *timeout_s* seconds.
    """
    deadline = time.monotonic() + timeout_s
    found = "it did not happen"
    while True:
        try:
            if check():
                return
        except CommandFailed as error:
            found = str(error)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: wanted within {timeout_s:.0f} s, found: {found}")
        time.sleep(0.2)
