"""Bring a model's bytes to a node: resolve, fetch, verify, keep."""
