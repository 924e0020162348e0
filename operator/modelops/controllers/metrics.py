"""The operator's own metrics; requests to the API server are counted by `clients.kube`."""

from prometheus_client import Counter, Gauge, Histogram

LEADER = Gauge("modelops_leader", "1 when this replica leads, else 0.")
QUEUE_DEPTH = Gauge("modelops_queue_depth", "Keys that wait for a worker.")
QUEUE_AGE = Gauge("modelops_queue_age_seconds", "How long the oldest waiting key has waited.")
PASSES = Counter("modelops_passes_total", "Passes over one object.", ("kind",))
PASS_ERRORS = Counter("modelops_pass_errors_total", "Passes that failed.", ("kind",))
PASS_SECONDS = Histogram("modelops_pass_seconds", "Wall time of a pass.", ("kind",))
WORKERS_ALIVE = Gauge("modelops_workers_alive", "Workers that take keys.")
WATCH_RESTARTS = Counter("modelops_watch_restarts_total", "Lists and restarts of watches.", ("kind",))
OBSERVE_FAILURES = Counter("modelops_observe_failures_total", "Objects that could not be read.", ("kind",))
ROLLOUT_SECONDS = Histogram(
    "modelops_rollout_seconds",
    "How long a run lasted, from its start to its decision.",
    ("outcome",),
    buckets=(60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, float("inf")),
)
LOOP_LAG = Gauge("modelops_loop_lag_seconds", "How late the event loop was, last measured.")
CLOCK_OFFSET = Gauge("modelops_clock_offset_seconds", "Wall clock minus the time that decisions use.")
