"""``kubectl modelops``: what people ask a cluster, and what needs none."""
