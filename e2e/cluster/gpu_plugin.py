"""Advertise pretend GPUs to kubelet: a device plugin whose devices are the lines of a JSON file.

Runs as ``python gpu_plugin.py FILE FOLDER``.  FOLDER is kubelet's device plugin folder.  FILE holds

    {"resource": "nvidia.com/gpu", "devices": {"GPU-n1-0": "Healthy", "GPU-n1-1": "Unhealthy"}}

and is read again five times a second, so a test breaks a GPU by writing it.  One process serves one
resource name; a second resource (a MIG profile) is a second process with its own file.

Source: kubelet's device plugin API v1beta1, k8s.io/kubelet v0.36 pkg/apis/deviceplugin/v1beta1/api.proto.
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

POLL_S = 0.2

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Field.TYPE_STRING, "bool": _Field.TYPE_BOOL}

# Message: its fields as (number, name, type); a type in brackets is repeated.  A map is a repeated
# message with fields 1 and 2.  Only what is sent or read here: other fields of the API are left
# out, and protobuf keeps unknown fields apart.
MESSAGES: Mapping[str, tuple[tuple[int, str, str], ...]] = {
    "Empty": (),
    "DevicePluginOptions": (
        (1, "pre_start_required", "bool"),
        (2, "get_preferred_allocation_available", "bool"),
    ),
    "RegisterRequest": (
        (1, "version", "string"),
        (2, "endpoint", "string"),
        (3, "resource_name", "string"),
        (4, "options", "DevicePluginOptions"),
    ),
    "Device": ((1, "ID", "string"), (2, "health", "string")),
    "ListAndWatchResponse": ((1, "devices", "[Device]"),),
    "ContainerAllocateRequest": ((1, "devices_ids", "[string]"),),
    "AllocateRequest": ((1, "container_requests", "[ContainerAllocateRequest]"),),
    "Env": ((1, "key", "string"), (2, "value", "string")),
    "ContainerAllocateResponse": ((1, "envs", "[Env]"),),
    "AllocateResponse": ((1, "container_responses", "[ContainerAllocateResponse]"),),
}


def _messages() -> dict[str, Any]:
    """Return a class per message of the table."""
    file = descriptor_pb2.FileDescriptorProto(name="deviceplugin.proto", package="v1beta1", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            repeated, base = kind.startswith("["), kind.strip("[]")
            field = message.field.add(
                name=field_name,
                number=number,
                label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL,
                type=_SCALARS.get(base, _Field.TYPE_MESSAGE),
            )
            if base not in _SCALARS:
                field.type_name = f".v1beta1.{base}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1beta1.{name}"))
        for name in MESSAGES
    }


MESSAGE = _messages()


class Plugin:
    """What kubelet calls: the list of devices as it changes, and what a container gets."""

    def __init__(self, file: Path, ended: threading.Event) -> None:
        self._file = file
        self._ended = ended

    def options(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        """Answer that kubelet needs to ask for nothing before it starts a container."""
        return MESSAGE["DevicePluginOptions"]()

    def watch(self, _request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """Send all devices now and after each change of the file, until kubelet leaves."""
        told: Mapping[str, str] | None = None
        while context.is_active() and not self._ended.is_set():
            devices = read(self._file)[1]
            if devices != told:
                told = devices
                listed = [MESSAGE["Device"](ID=name, health=health) for name, health in devices.items()]
                yield MESSAGE["ListAndWatchResponse"](devices=listed)
            self._ended.wait(POLL_S)

    def allocate(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Answer with the environment that the NVIDIA runtime reads; nothing is mounted."""
        return MESSAGE["AllocateResponse"](
            container_responses=[
                MESSAGE["ContainerAllocateResponse"](
                    envs=[MESSAGE["Env"](key="NVIDIA_VISIBLE_DEVICES", value=",".join(asked.devices_ids))]
                )
                for asked in request.container_requests
            ]
        )


def read(file: Path) -> tuple[str, Mapping[str, str]]:
    """Return the resource name and the health of each device."""
    given = json.loads(file.read_text())
    return given["resource"], given["devices"]


def main(file: Path, folder: Path) -> None:
    """Serve and register; return when kubelet was restarted, to be started again and register anew."""
    kubelet = folder / "kubelet.sock"
    while not kubelet.exists():
        time.sleep(POLL_S)
    born = kubelet.stat().st_ctime_ns
    resource = read(file)[0]
    own = folder / f"{resource.replace('/', '-')}.sock"
    own.unlink(missing_ok=True)

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    server = _serve(Plugin(file, ended), own)
    _register(kubelet, own.name, resource)
    while not ended.wait(POLL_S) and _is_same(kubelet, born) and own.exists():
        pass
    ended.set()
    server.stop(grace=None).wait()


def _serve(plugin: Plugin, own: Path) -> grpc.Server:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers = {
        "GetDevicePluginOptions": unary(
            plugin.options, MESSAGE["Empty"].FromString, MESSAGE["DevicePluginOptions"].SerializeToString
        ),
        "ListAndWatch": stream(
            plugin.watch, MESSAGE["Empty"].FromString, MESSAGE["ListAndWatchResponse"].SerializeToString
        ),
        "Allocate": unary(
            plugin.allocate,
            MESSAGE["AllocateRequest"].FromString,
            MESSAGE["AllocateResponse"].SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", handlers),))
    server.add_insecure_port(f"unix://{own}")
    server.start()
    return server


def _register(kubelet: Path, endpoint: str, resource: str) -> None:
    with grpc.insecure_channel(f"unix://{kubelet}") as channel:
        register = channel.unary_unary(
            "/v1beta1.Registration/Register",
            request_serializer=MESSAGE["RegisterRequest"].SerializeToString,
            response_deserializer=MESSAGE["Empty"].FromString,
        )
        register(
            MESSAGE["RegisterRequest"](version="v1beta1", endpoint=endpoint, resource_name=resource),
            timeout=10,
        )


def _is_same(kubelet: Path, born: int) -> bool:
    try:
        return kubelet.stat().st_ctime_ns == born
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
