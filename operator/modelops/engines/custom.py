"""Custom: a container of the user's own, which answers HTTP behind the meter, on port 8080 unless told."""

from modelops.engines.base import (
    METERED,
    Ask,
    Compute,
    Facts,
    Footprint,
    Launch,
    refuse_no_adapters,
    refuse_nodes,
)
from modelops.plan import Reason

PORT = 8080
HEALTH_PATH = "/health"
STARTUP_SECONDS = 600


class Custom:
    """Serve any version with the user's image; nothing is reckoned, so the GPU count is a number."""

    name = "Custom"
    formats = ()
    types: frozenset[str] = frozenset()
    computes_on = Compute.GPUS
    faults = ()
    queries = METERED

    def refuses(self, model: Facts, ask: Ask) -> Reason | None:
        """Refuse a service that does not say what to run."""
        if ask.image:
            return refuse_nodes(self.name, model, ask) or refuse_no_adapters(self.name, model, ask)
        return Reason(
            "ImageMissing",
            f"{ask.served_name}: engine Custom needs engine.image, found none; name the image that serves "
            f"{model.name}",
        )

    def footprint(self, model: Facts, ask: Ask) -> Footprint | None:
        """Return None: what the container needs is not known."""
        return None

    def launch(self, model: Facts, ask: Ask) -> Launch:
        """Return the container as the user gave it; it answers 200 on its health path once it can serve."""
        return Launch(
            image=ask.image or "",
            command=ask.command,
            args=ask.extra_args,
            env=dict(ask.env),
            port=ask.port or PORT,
            health_path=ask.health_path or HEALTH_PATH,
            ready_path=ask.health_path or HEALTH_PATH,
            startup_seconds=STARTUP_SECONDS,
            shm_bytes=0,
            drain=ask.drain,
            metered=True,
            engine_metrics_path=None,
            writable=(),
            tells=False,
        )
