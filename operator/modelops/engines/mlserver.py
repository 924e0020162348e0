"""MLServer, the upstream image unchanged: scikit-learn, XGBoost and LightGBM on CPUs.

Source: MLServer 1.7.1, run; research/engines.md 2.1 to 2.4, 3.4, 6.5.
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

IMAGE = "seldonio/mlserver:1.7.1"
"""With every runtime; for new revisions, what runs keeps the image it has."""
RUNTIMES = {
    "pickle": "mlserver_sklearn.SKLearnModel",
    "xgboost": "mlserver_xgboost.XGBoostModel",
    "lightgbm": "mlserver_lightgbm.LightGBMModel",
}
"""Class that loads a format, in lower case."""
INFER = 'path=~"/v2/models/.*/(infer|generate)(_stream)?"'
IMPORT_SECONDS = 120
"""Python and the libraries on busy cores: 16 s were seen.  Source: research/engines.md 6.5."""

ARGUMENTS = Allowed(
    engine="MLServer",
    values=frozenset(),  # `mlserver start` takes a folder and nothing else
    switches=frozenset(),
    owned=frozenset(),
    forbidden={},
    owned_env=frozenset(),
    forbidden_env=("LD_", "MLSERVER_", "PYTHON"),
    joined=False,
)


class MLServer:
    """Serve a predictive model with MLServer."""

    name = "MLServer"
    formats = ("pickle", "XGBoost", "LightGBM")
    types = TABULAR
    computes_on = Compute.CPUS
    faults = (
        Fault("Some of the models failed to load during startup!", "cannot load its model; see logTail"),
    )
    queries = Queries(
        requests=Series("rest_server_requests_total", INFER),
        errors=(Series("rest_server_requests_total", f'{INFER},status_code=~"5.."'),),
        e2e=Series("rest_server_request_duration_seconds_bucket", INFER),
        running=Series("rest_server_requests_in_progress"),
    )

    def refuses(self, model: Facts, ask: Ask) -> Reason | None:
        """Refuse what MLServer cannot load, or may not be told."""
        return (
            refuse_format(self.name, self.formats, model, instead="Predictive for skops, ONNX and rules")
            or refuse_code(self.name, model)
            or refuse_no_file(self.name, model)
            or refuse_limits(self.name, model, ask)
            or refuse_extras(model, ask, ARGUMENTS)
            or refuse_nodes(self.name, model, ask)
            or refuse_no_adapters(self.name, model, ask)
            or refuse_gpus(self.name, model, ask)
        )

    def footprint(self, model: Facts, ask: Ask) -> Footprint | None:
        """Return None: what a model of these libraries takes in memory is not told by its file."""
        return None

    def launch(self, model: Facts, ask: Ask) -> Launch:
        """Return the container, told all by its environment.

        It starts in an empty folder: settings that lie beside the model would win over these, and could
        name a class to import.  Without workers a stop waits for what runs, and one process is scraped.
        """
        return Launch(
            image=ask.image or IMAGE,
            command=ask.command or ("mlserver", "start"),
            args=("/tmp",),
            env={
                **ask.env,
                "MLSERVER_DEBUG": "false",  # by default an error answers with its traceback
                "MLSERVER_GRPC_PORT": "8001",
                "MLSERVER_HOST": "0.0.0.0",
                "MLSERVER_HTTP_PORT": "8000",
                "MLSERVER_METRICS_PORT": "8002",
                "MLSERVER_MODEL_IMPLEMENTATION": RUNTIMES.get(model.format.lower(), ""),
                "MLSERVER_MODEL_NAME": ask.served_name,
                "MLSERVER_MODEL_URI": f"{ask.model_path}/{model.main_file}",
                "MLSERVER_PARALLEL_WORKERS": "0",
            },
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
