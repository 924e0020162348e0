"""Predictive: our runtime image on MLServer's library, for models that answer from a row of features.

Open Inference Protocol over HTTP and gRPC; scikit-learn, XGBoost, LightGBM, ONNX and decision tables, on
CPUs.
"""

from modelops.engines.arguments import Allowed, refuse_extras
from modelops.engines.base import (
    TABULAR,
    Ask,
    Compute,
    Facts,
    Fault,
    Footprint,
    Launch,
    Queries,
    Series,
    reading_seconds,
    refuse_code,
    refuse_format,
    refuse_gpus,
    refuse_limits,
    refuse_no_adapters,
    refuse_no_file,
    refuse_nodes,
)
from modelops.plan import Reason

INFER = 'path=~"/v2/models/.*/(infer|generate)(_stream)?"'
IMPORT_SECONDS = 120
"""Python and the libraries on busy cores, as for MLServer."""
PICKLE = "pickle"

ARGUMENTS = Allowed(
    engine="Predictive",
    values=frozenset({"--threads"}),
    switches=frozenset(),
    owned=frozenset(
        {
            "--drain-seconds",
            "--file",
            "--format",
            "--grpc-port",
            "--host",
            "--http-port",
            "--metrics-port",
            "--name",
        }
    ),
    forbidden={"--allow-pickle": "which the model's governance.formats.allowed decides"},
    owned_env=frozenset({"HOME"}),
    forbidden_env=("LD_", "MLSERVER_", "PYTHON"),
    joined=False,
)


class Predictive:
    """Serve a predictive model or a decision table with our runtime."""

    name = "Predictive"
    formats = ("skops", "ONNX", "XGBoost", "LightGBM", "rules-json", PICKLE)
    types = TABULAR
    computes_on = Compute.CPUS
    faults = (Fault("modelops-predictive: ", "cannot load its model"),)
    queries = Queries(
        requests=Series("rest_server_requests_total", INFER),
        errors=(Series("rest_server_requests_total", f'{INFER},status_code=~"5.."'),),
        e2e=Series("rest_server_request_duration_seconds_bucket", INFER),
        running=Series("rest_server_requests_in_progress"),
    )

    def refuses(self, model: Facts, ask: Ask) -> Reason | None:
        """Refuse what the runtime cannot load, or may not be told."""
        return (
            refuse_format(self.name, self.formats, model, instead="vLLM or LlamaCpp for language models")
            or refuse_code(self.name, model)
            or refuse_no_file(self.name, model)
            or refuse_limits(self.name, model, ask)
            or refuse_extras(model, ask, ARGUMENTS)
            or refuse_nodes(self.name, model, ask)
            or refuse_no_adapters(self.name, model, ask)
            or refuse_gpus(self.name, model, ask)
            or _refuse_no_image(model, ask)
        )

    def footprint(self, model: Facts, ask: Ask) -> Footprint | None:
        """Return None: what a model of these libraries takes in memory is not told by its file."""
        return None

    def launch(self, model: Facts, ask: Ask) -> Launch:
        """Return the container.

        It may unpickle only when the version is a pickle, which the gate has let pass by then; a pickle that
        lies beside another format is never looked at.
        """
        is_pickle = model.format.lower() == PICKLE
        return Launch(
            image=ask.image or "",
            command=ask.command or ("modelops-predictive",),
            args=(
                *("--name", ask.served_name),
                *("--format", model.format),
                *("--file", f"{ask.model_path}/{model.main_file}"),
                *("--host", "0.0.0.0"),
                *("--http-port", "8000"),
                *("--grpc-port", "8001"),
                *("--metrics-port", "8002"),
                *("--drain-seconds", str(int(ask.drain.total_seconds()))),
                *(("--allow-pickle",) if is_pickle else ()),
                *ask.extra_args,
            ),
            env={**ask.env, "HOME": "/tmp"},
            port=8000,
            health_path="/v2/health/live",
            ready_path=f"/v2/models/{ask.served_name}/ready",
            startup_seconds=IMPORT_SECONDS + reading_seconds(model, ask),
            shm_bytes=0,
            drain=ask.drain,
            metered=False,
            engine_metrics_path="/metrics",
            writable=(),
            grpc_port=8001,
            metrics_port=8002,
        )


def _refuse_no_image(model: Facts, ask: Ask) -> Reason | None:
    """Refuse a cluster without the runtime's image: none is published."""
    if ask.image:
        return None
    return Reason(
        "ImageMissing",
        f"{model.name}: Predictive needs its runtime image, found none; build "
        "runtimes/predictive/Dockerfile, push it, and name it in engine.image or the chart's engineImages",
    )
