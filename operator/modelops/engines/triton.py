"""Triton: ONNX models and model folders of its own layout, on GPUs or CPUs.

Source: Triton's documents; research/engines.md 2.1 to 2.3, 3.4.  Never run by us: its image cannot be had
from a package registry.
"""

from modelops.engines.arguments import Allowed, refuse_extras
from modelops.engines.base import (
    METERED,
    TABULAR,
    Ask,
    Compute,
    Facts,
    Footprint,
    Launch,
    reading_seconds,
    refuse_code,
    refuse_driver,
    refuse_format,
    refuse_limits,
    refuse_no_adapters,
    refuse_nodes,
)
from modelops.plan import Reason

IMAGE = "nvcr.io/nvidia/tritonserver:25.09-py3"
"""CUDA 13; for new revisions, what runs keeps the image it has."""
REPOSITORY = "/models"
ONNX_FILE = "model.onnx"
"""What Triton looks for where no config.pbtxt names another file."""

ARGUMENTS = Allowed(
    engine="Triton",
    values=frozenset(
        {
            "--backend-config",
            "--buffer-manager-thread-count",
            "--cache-config",
            "--cuda-memory-pool-byte-size",
            "--http-thread-count",
            "--min-supported-compute-capability",
            "--model-load-thread-count",
            "--pinned-memory-pool-byte-size",
            "--rate-limit",
            "--rate-limit-resource",
        }
    ),
    switches=frozenset({"--disable-auto-complete-config"}),
    owned=frozenset(
        {
            "--allow-grpc",
            "--allow-http",
            "--allow-metrics",
            "--exit-on-error",
            "--exit-timeout-secs",
            "--http-address",
            "--http-port",
            "--metrics-address",
            "--metrics-port",
            "--model-control-mode",
            "--model-repository",
            "--model-store",
            "--strict-readiness",
        }
    ),
    forbidden={
        "--backend-directory": "which loads code into the engine",
        "--grpc-port": "since the meter measures HTTP alone",
        "--load-model": "since one service serves one version",
        "--log-file": "which writes requests to disk",
        "--log-verbose": "which writes requests into logs",
        "--repoagent-directory": "which loads code into the engine",
        "--trace-config": "which writes requests to disk",
    },
    owned_env=frozenset(),
    forbidden_env=("LD_", "PYTHON", "TRITON"),
    joined=True,
)


class Triton:
    """Serve a model with Triton, behind the meter.

    Its own metrics have a histogram for decoupled models only, and miss requests that fail before they are
    scheduled (triton-inference-server/tensorrtllm_backend#582), so a rollout could not be judged by them.
    """

    name = "Triton"
    formats = ("ONNX", "Triton")
    types = TABULAR | {"Embedding", "Reranker"}
    computes_on = Compute.EITHER
    faults = ()
    queries = METERED

    def refuses(self, model: Facts, ask: Ask) -> Reason | None:
        """Refuse what Triton cannot load, or may not be told."""
        return (
            refuse_format(self.name, self.formats, model, instead="Predictive, or Custom")
            or refuse_code(self.name, model)
            or _refuse_file(model)
            or refuse_limits(self.name, model, ask)
            or refuse_extras(model, ask, ARGUMENTS)
            or refuse_nodes(self.name, model, ask)
            or refuse_no_adapters(self.name, model, ask)
            or (refuse_driver(model, ask, IMAGE) if ask.gpus and not ask.image else None)
        )

    def footprint(self, model: Facts, ask: Ask) -> Footprint | None:
        """Return None: what a backend takes of a GPU is not told by the files."""
        return None

    def launch(self, model: Facts, ask: Ask) -> Launch:
        """Return the container.  It binds to loopback alone, since the meter faces callers and probes.

        The model's name is that of its folder, so the version is mounted under it; a single ONNX file lies
        one deeper, in the folder of a version.
        """
        folder = f"{REPOSITORY}/{ask.served_name}"
        return Launch(
            image=ask.image or IMAGE,
            command=ask.command or ("tritonserver",),
            args=(
                f"--model-repository={REPOSITORY}",
                "--model-control-mode=none",
                "--allow-http=true",
                "--http-address=127.0.0.1",
                "--http-port=8080",
                "--allow-grpc=false",
                "--allow-metrics=true",
                "--metrics-address=127.0.0.1",
                "--metrics-port=8002",
                "--strict-readiness=true",
                "--exit-on-error=true",
                f"--exit-timeout-secs={int(ask.drain.total_seconds())}",
                *ask.extra_args,
            ),
            env=dict(ask.env),
            port=8080,
            health_path="/v2/health/live",
            ready_path=f"/v2/models/{ask.served_name}/ready",
            startup_seconds=180 + reading_seconds(model, ask),
            shm_bytes=2**30 if ask.gpus else 0,
            drain=ask.drain,
            metered=True,
            engine_metrics_path=None,
            writable=(),
            model_at=f"{folder}/1" if model.format.lower() == "onnx" else folder,
        )


def _refuse_file(model: Facts) -> Reason | None:
    """Refuse an ONNX file of another name: Triton would look for it in vain."""
    if model.format.lower() != "onnx" or model.main_file == ONNX_FILE:
        return None
    return Reason(
        "MainFileUnknown",
        f"{model.name}: Triton needs {ONNX_FILE} at the top of the version, found "
        f"{model.main_file or 'none or several'}; rename it, add a config.pbtxt, or use Predictive",
    )
