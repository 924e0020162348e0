"""Stories about GPUs: many of them, slices of them, broken ones, and nodes that are emptied."""
