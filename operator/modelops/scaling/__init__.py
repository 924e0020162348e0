"""How many pods serve: by load, by the clock, and no more than fit."""
