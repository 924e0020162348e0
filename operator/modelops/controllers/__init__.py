"""Watch, decide, act: the loop, its shell, and the tie to kopf."""
