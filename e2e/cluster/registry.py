"""Run the image registry on the host's end of the cluster's bridge."""

import shutil

import yaml

from e2e.cluster import processes
from e2e.cluster.paths import Layout

PROCESS = "registry"


def up(layout: Layout) -> None:
    """Start the registry if it does not run."""
    if processes.pid_of(layout.state, PROCESS) is not None:
        return
    program = shutil.which("docker-registry", path="/usr/local/bin:/usr/bin:/bin")
    if program is None:
        raise RuntimeError(f"cluster {layout.name}: needs docker-registry, found none; install that package")
    config = layout.state / "registry.yaml"
    wanted = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(layout.state / "registry")}},
        "http": {"addr": layout.registry},
    }
    config.write_text(yaml.safe_dump(wanted))
    processes.start(
        layout.state, PROCESS, (program, "serve", str(config)), env={"OTEL_TRACES_EXPORTER": "none"}
    )


def down(layout: Layout) -> None:
    """End the registry."""
    processes.stop(layout.state, PROCESS)
