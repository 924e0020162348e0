"""Read GPUs through NVML: the only module that knows pynvml.  Every call may block."""

import ctypes
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pynvml

from modelops.nodes.facts import GpuFacts, Lapse, NodeFacts, Rows, Slice, Xid
from modelops.plan import Reason

MIB, GIB = 2**20, 2**30
SLICE_MS = 200
LAPSES = {
    pynvml.NVML_ERROR_GPU_IS_LOST: Lapse.LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: Lapse.RESET_REQUIRED,
}
WANTED_EVENTS = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
PROFILE = re.compile(r" MIG (\S+)$")

_RUNTIME = "give the pod the NVIDIA runtime (nodes.runtimeClassName)"
REFUSALS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "LibraryMissing",
        f"needs libnvidia-ml.so.1, found none; {_RUNTIME}, or keep the agent off nodes without a GPU",
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "DriverNotLoaded",
        "needs the NVIDIA driver, found it not loaded; look at the driver's pod and the node's kernel log",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "NoPermission",
        f"needs to read the node's GPUs, found no permission on their device files; {_RUNTIME}",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "VersionMismatch",
        "needs a library of the driver's version, found another; the driver was replaced, so delete the "
        "agent's pod to have it made anew, and restart the node if that does not help",
    ),
}
"""Reason code and the rest of the sentence, by what NVML returned."""

_Error = pynvml.NVMLError


class Nvml:
    """One connection to NVML, opened at the first look and again after every failure."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._handles: dict[int, Any] = {}
        self._events: Any = None
        self._is_open = False
        self._is_stopped = False
        self._known: dict[int, GpuFacts] = {}

    def read(self) -> NodeFacts | Reason:
        """Return all GPUs, or why NVML cannot be asked; a GPU that is lost keeps what it said before."""
        try:
            if self._is_open and pynvml.nvmlDeviceGetCount() != len(self._handles):
                self.close()
            if not self._is_open:
                self._open()
            gpus = tuple(self._gpu(index) for index in sorted(self._handles))
            return NodeFacts(gpus, pynvml.nvmlSystemGetDriverVersion(), _cuda())
        except _Error as error:
            self.close()
            return self._refusal(error)

    def wait(self, seconds: float) -> tuple[Xid, ...]:
        """Return the errors that came, at the first or after *seconds*; at once where nobody can listen."""
        end = time.monotonic() + seconds
        while self._events is not None and not self._is_stopped and (left := end - time.monotonic()) > 0:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, min(SLICE_MS, int(1000 * left) + 1))
            except _Error as error:
                if error.value == pynvml.NVML_ERROR_TIMEOUT:
                    continue
                return ()
            if event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                return (Xid(self._index(event.device), int(event.eventData)), *self._rest())
            return ()  # a memory error: the next look counts it
        return ()

    def stop(self) -> None:
        """Make a wait in another thread return soon."""
        self._is_stopped = True

    def close(self) -> None:
        """End the connection; nothing happens when there is none."""
        was_open, events = self._is_open, self._events
        self._is_open, self._events, self._handles = False, None, {}
        if events is not None:
            _optional(lambda: pynvml.nvmlEventSetFree(events))
        if was_open:
            _optional(pynvml.nvmlShutdown)

    # --- opening -------------------------------------------------------------------------------

    def _open(self) -> None:
        pynvml.nvmlInit()
        self._is_open = True
        self._handles = {index: _handle(index) for index in range(pynvml.nvmlDeviceGetCount())}
        self._events = self._listen()

    def _listen(self) -> Any:
        """Return the event set of all GPUs that can tell errors, or None."""
        events = _optional(pynvml.nvmlEventSetCreate)
        if events is None:
            return None
        heard = [self._register(handle, events) for handle in self._handles.values() if handle is not None]
        if any(heard):
            return events
        _optional(lambda: pynvml.nvmlEventSetFree(events))
        return None

    @staticmethod
    def _register(handle: Any, events: Any) -> bool:
        supported = _told(lambda: pynvml.nvmlDeviceGetSupportedEventTypes(handle)) or 0
        if not supported & WANTED_EVENTS:
            return False
        try:
            pynvml.nvmlDeviceRegisterEvents(handle, supported & WANTED_EVENTS, events)
        except _Error:
            return False
        return True

    def _rest(self) -> tuple[Xid, ...]:
        """Return what is queued behind the first error: one fault often tells several."""
        found: list[Xid] = []
        while len(found) < 64:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 1)
            except _Error:
                break
            if event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                found.append(Xid(self._index(event.device), int(event.eventData)))
        return tuple(found)

    def _index(self, device: Any) -> int | None:
        """Return the GPU of an event by its handle: one that is lost cannot be asked for its index."""
        address = _address(device)
        known = {_address(handle): index for index, handle in self._handles.items() if handle is not None}
        return known.get(address)

    def _refusal(self, error: Any) -> Reason:
        code, words = REFUSALS.get(
            error.value,
            ("NvmlFailed", f"needs an answer of NVML, found {error}; look at the node's kernel log"),
        )
        return Reason(code, f"{self._node}: {words}")

    # --- one GPU -------------------------------------------------------------------------------

    def _gpu(self, index: int) -> GpuFacts:
        try:
            handle = self._handles[index] or _handle(index, is_needed=True)
            self._handles[index] = handle
            facts = _facts(index, handle)
        except _Error as error:
            if error.value not in LAPSES:
                raise
            known = self._known.get(index, GpuFacts(index))
            return replace(known, lapse=LAPSES[error.value])
        self._known[index] = facts
        return facts


def _handle(index: int, *, is_needed: bool = False) -> Any:
    """Return the handle of a GPU; None for one that is lost, unless it *is_needed*."""
    try:
        return pynvml.nvmlDeviceGetHandleByIndex(index)
    except _Error as error:
        if is_needed or error.value not in LAPSES:
            raise
        return None


def _facts(index: int, handle: Any) -> GpuFacts:
    total, reserved, free = _memory(handle)
    mode = _told(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    has_mig = None if mode is None else mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    return GpuFacts(
        index=index,
        bus_id=pynvml.nvmlDeviceGetPciInfo(handle).busId.upper(),
        name=pynvml.nvmlDeviceGetName(handle),
        memory_bytes=total,
        reserved_bytes=reserved,
        free_bytes=free,
        has_mig=has_mig,
        slices=_slices(handle, total) if has_mig else (),
        mps_processes=len(_told(lambda: pynvml.nvmlDeviceGetMPSComputeRunningProcesses(handle)) or ()),
        peers=frozenset(_peers(handle)),
        ecc_uncorrected=_told(
            lambda: pynvml.nvmlDeviceGetTotalEccErrors(
                handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
            )
        ),
        rows=_rows(handle),
        recovery=_recovery(handle),
    )


def _memory(handle: Any) -> tuple[int | None, int | None, int | None]:
    """Return total, reserved and free bytes; drivers before 510 do not tell what they reserve."""
    second = _told(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2))
    if second is not None:
        return int(second.total), int(second.reserved), int(second.free)
    first = _told(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    return (None, None, None) if first is None else (int(first.total), None, int(first.free))


def _slices(handle: Any, gpu_bytes: int | None) -> tuple[Slice, ...]:
    found = []
    for index in range(_told(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0):
        device = _mig_device(handle, index)
        if device is None:
            continue
        total, _, free = _memory(device)
        found.append(Slice(_profile(device, gpu_bytes), total, free))
    return tuple(found)


def _mig_device(handle: Any, index: int) -> Any:
    return _told(lambda: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))


def _profile(device: Any, gpu_bytes: int | None) -> str:
    """Return the profile that the driver puts into the slice's name, else reckoned from its size."""
    named = PROFILE.search(_told(lambda: pynvml.nvmlDeviceGetName(device)) or "")
    if named:
        return named[1]
    size = _told(lambda: pynvml.nvmlDeviceGetAttributes(device))
    if size is None or not gpu_bytes:
        return "unknown"
    compute, slices = size.computeInstanceSliceCount, size.gpuInstanceSliceCount
    return mig_profile(compute, slices, size.memorySizeMB, gpu_bytes)


def mig_profile(compute: int, slices: int, memory_mib: int, gpu_bytes: int) -> str:
    """Return the profile's name: memory is counted in whole eighths of the GPU, in whole GB.

    Source: NVIDIA's go-nvlib 0.7, by which the device plugin names its resources.
    """
    eighths = -(-memory_mib * MIB * 8 // gpu_bytes)
    gigabytes = int(eighths / 8 * -(-gpu_bytes // GIB) + 0.5)  # round() would make 70 of an H200's 70.5
    prefix = "" if compute == slices else f"{compute}c."
    return f"{prefix}{slices}g.{gigabytes}gb"


def _peers(handle: Any) -> list[str]:
    """Return the PCI addresses at the other end of the active links."""
    found = []
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            if pynvml.nvmlDeviceGetNvLinkState(handle, link) != pynvml.NVML_FEATURE_ENABLED:
                continue
            found.append(pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId.upper())
        except _Error as error:
            if error.value in LAPSES:
                raise
            if error.value in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT):
                break  # no links, or no more of them
    return found


def _rows(handle: Any) -> Rows | None:
    """Return remapped rows, or the pages that older GPUs retire instead."""
    told = _told(lambda: pynvml.nvmlDeviceGetRemappedRows(handle))
    if told is not None:
        corrected, uncorrected, is_pending, has_failed = told
        return Rows(corrected + uncorrected, bool(is_pending), bool(has_failed))
    pending = _told(lambda: pynvml.nvmlDeviceGetRetiredPagesPendingStatus(handle))
    if pending is None:
        return None
    causes = (
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    return Rows(sum(_retired(handle, cause) for cause in causes), bool(pending))


def _retired(handle: Any, cause: int) -> int:
    return len(_told(lambda: pynvml.nvmlDeviceGetRetiredPages(handle, cause)) or ())


def _recovery(handle: Any) -> int:
    """Return what the driver asks for; 0 also from drivers that do not know the field."""
    field = pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
    told = _told(lambda: pynvml.nvmlDeviceGetFieldValues(handle, [field]))
    if told is None or told[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return 0
    return int(told[0].value.uiVal)


def _cuda() -> str:
    number = _optional(pynvml.nvmlSystemGetCudaDriverVersion_v2)
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _told(ask: Callable[[], Any]) -> Any:
    """Return the answer; None where the GPU or its driver does not tell; a GPU that is lost raises."""
    try:
        return ask()
    except _Error as error:
        if error.value in LAPSES:
            raise
        return None


def _optional(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except _Error:
        return None


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
