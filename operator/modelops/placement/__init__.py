"""Where a model runs: what the cluster has, and the tightest place that fits."""
