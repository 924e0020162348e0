"""Hold a pod until its model is on the node."""

import os
import time
from collections.abc import Callable

LOOK_SECONDS = 0.5
SAY_SECONDS = 10


def wait(
    path: str,
    *,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once *path* exists; say so every ten seconds until then.

    The folder appears complete, by one rename, so its being there is all that matters.
    """
    started = clock()
    said = 0
    while not os.path.isdir(path):
        waited = int(clock() - started)
        if waited >= said * SAY_SECONDS:
            say(f"{path}: waits for the node's agent to fetch and verify the model, {waited} s so far")
            said += 1
        sleep(LOOK_SECONDS)
    say(f"{path}: is there")
