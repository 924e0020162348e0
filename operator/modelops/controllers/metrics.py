"""The operator's own metrics; requests to the API server are counted by `clients.kube`.

Figures of the whole fleet, which only the leader knows, are in `figures`.
"""

from prometheus_client import Counter, Gauge, Histogram

# What a replica is.  These stand in the exposition of every replica, from its first second on.
LEADER = Gauge("modelops_leader", "1 when this replica leads, else 0.")
SYNCED = Gauge("modelops_synced", "1 when this replica leads and has seen every object once, else 0.")
WORKERS = Gauge("modelops_workers", "Workers that a leader should have, by its settings.")
WORKERS_ALIVE = Gauge("modelops_workers_alive", "Workers that take keys; 0 on a replica that does not lead.")
QUEUE_DEPTH = Gauge("modelops_queue_depth", "Keys that wait for a worker.")
QUEUE_AGE = Gauge("modelops_queue_age_seconds", "How long the key at the head of the queue has waited.")
CLOCK_OFFSET = Gauge("modelops_clock_offset_seconds", "Wall clock minus the time that decisions use.")
LOOP_LAG = Histogram(
    "modelops_loop_lag_seconds",
    "How late the event loop woke, measured each second.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

# What a leader does.  A series begins with the first pass, watch or failure of its kind.
PASSES = Counter("modelops_passes_total", "Passes over one object.", ("kind",))
RESTS = Counter(
    "modelops_rests_total", "Resyncs that read what the pass before had read, and did not plan.", ("kind",)
)
PASS_ERRORS = Counter(
    "modelops_pass_errors_total", "Passes that failed through the operator or lost an answer.", ("kind",)
)
PASS_REFUSALS = Counter(
    "modelops_pass_refusals_total",
    "Passes whose write the API server, a policy or another owner refused, by the reason that is told.",
    ("kind", "reason"),
)
PASS_SECONDS = Histogram("modelops_pass_seconds", "Wall time of a pass.", ("kind",))
WATCH_RESTARTS = Counter(
    "modelops_watch_restarts_total",
    "Lists and watches that began again, by why: listed anew, ended in good order after 5 to 10 minutes, "
    "broken before that, or failed.",
    ("kind", "reason"),
)
WATCH_UP = Gauge(
    "modelops_watch_up", "1 while the kind is listed or watched, or may be missing; else 0.", ("kind",)
)
OBSERVE_FAILURES = Counter(
    "modelops_observe_failures_total", "Objects that could not be read, and so are not planned.", ("kind",)
)
ROLLOUT_SECONDS = Histogram(
    "modelops_rollout_seconds",
    "How long a run lasted, from its start to its decision.",
    ("outcome",),
    buckets=(60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, float("inf")),
)
FIGURE_FAILURES = Counter(
    "modelops_figure_failures_total", "Scrapes that lack the figures of the fleet, since they cannot be made."
)
