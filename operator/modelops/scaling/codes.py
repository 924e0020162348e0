"""Why a service has so many replicas, as reason codes."""

UP, DOWN, CLOCK, BOUNDS, STARTED = "ScaledUp", "ScaledDown", "Scheduled", "BoundsChanged", "Started"
WITHIN, MAXIMUM, NO_ROOM = "WithinTarget", "AtMaximum", "WaitingForCapacity"
MISSING, AWAY = "MetricsMissing", "MetricsUnavailable"
WANTS_MORE = frozenset({MAXIMUM, NO_ROOM})
"""Codes that stay until the load fits."""
TROUBLES = WANTS_MORE | {MISSING, AWAY, "MetricUnsupported", "TargetNeeded", "TimeZoneUnknown", "Malformed"}
"""Codes that somebody should look at."""
