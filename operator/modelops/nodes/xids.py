"""XID errors after which a GPU takes no new work, and what NVIDIA tells to do about each.

Source: NVIDIA's XID catalog of October 2025 (Ampere and newer): those whose immediate resolution is a reset
of the GPU, a restart of the machine, or a look at the hardware, and the workflows of 48 and 74, which end in
a reset.  Not here: 109, which NVIDIA's device plugin 0.20 counts among errors of the application and for
which it goes on offering the GPU; and 144 to 150, whose severity stands in a sub-code that NVML does not
tell, so that the driver's own recovery action speaks for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

RESET = "drain the node and reset the GPU"
RESTART = "drain the node and restart it"
POWER = "drain the node and check the GPU's power cable"
REPLACE = "drain the node and replace the GPU"


@dataclass(frozen=True, slots=True)
class Critical:
    """What a number means, and the cure."""

    meaning: str
    cure: str = RESET


CRITICAL: Mapping[int, Critical] = {
    46: Critical("GPU stopped processing"),
    48: Critical("double-bit memory error"),
    54: Critical("auxiliary power is not connected", POWER),
    62: Critical("internal micro-controller halted"),
    64: Critical("memory rows could not be remapped"),
    74: Critical("NVLink error"),
    79: Critical("GPU has fallen off the bus", RESTART),
    95: Critical("uncontained memory error"),
    110: Critical("security fault"),
    119: Critical("the GPU's system processor does not answer"),
    120: Critical("error of the GPU's system processor"),
    136: Critical("link training failed"),
    140: Critical("unrecovered memory error"),
    143: Critical("GPU could not be initialised"),
    151: Critical("key rotation failed", RESTART),
    155: Critical("NVLink error told by software"),
    156: Critical("a faulty resource waits to be retired"),
    158: Critical("fatal timeout of the GPU"),
}

RECOVERY: Mapping[int, Critical] = {
    1: Critical("a reset of the GPU"),
    2: Critical("a restart of the node", RESTART),
    3: Critical("no traffic over its links", "drain the node"),
    4: Critical("no new work, then a reset of the GPU"),
    5: Critical("a recovery of the IMEX domain", "drain the node and restart the IMEX daemons"),
    6: Critical("a reset of the bus", RESTART),
    7: Critical("a restart of the whole system", RESTART),
}
"""What the driver asks for by itself.  Source: NVML_GPU_RECOVERY_ACTION in nvidia-ml-py 13.615."""
