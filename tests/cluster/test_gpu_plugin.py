"""The GPU plugin against a kubelet of our own: real sockets, real gRPC, the published field numbers."""

import json
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from e2e.cluster import gpu_plugin
from e2e.cluster.gpu_plugin import MESSAGE


@pytest.fixture
def kubelet(tmp_path):
    """Serve kubelet's registration; give the device file, what was registered, and the plugin."""
    done = futures.Future()

    def register(request, _context):
        if not done.done():
            done.set_result(request)
        return MESSAGE["Empty"]()

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    handler = grpc.unary_unary_rpc_method_handler(
        register, MESSAGE["RegisterRequest"].FromString, MESSAGE["Empty"].SerializeToString
    )
    service = grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": handler})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"unix://{tmp_path}/kubelet.sock")
    server.start()
    file = tmp_path / "gpus.json"
    file.write_text(
        json.dumps({"resource": "nvidia.com/gpu", "devices": {"GPU-0": "Healthy", "GPU-1": "Healthy"}})
    )
    plugin = subprocess.Popen([sys.executable, gpu_plugin.__file__, str(file), str(tmp_path)])
    yield file, done, plugin
    plugin.kill()
    plugin.wait()
    server.stop(grace=None).wait()


def test_a_gpu_is_registered_listed_allocated_and_broken(kubelet):
    file, done, plugin = kubelet
    asked = done.result(timeout=10)
    assert (asked.version, asked.resource_name) == ("v1beta1", "nvidia.com/gpu")

    with grpc.insecure_channel(f"unix://{file.parent}/{asked.endpoint}") as channel:
        listed = channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            request_serializer=MESSAGE["Empty"].SerializeToString,
            response_deserializer=MESSAGE["ListAndWatchResponse"].FromString,
        )(MESSAGE["Empty"](), timeout=10)
        assert {device.ID: device.health for device in next(listed).devices} == {
            "GPU-0": "Healthy",
            "GPU-1": "Healthy",
        }

        file.write_text(json.dumps({"resource": "nvidia.com/gpu", "devices": {"GPU-0": "Unhealthy"}}))
        assert {device.ID: device.health for device in next(listed).devices} == {"GPU-0": "Unhealthy"}

        allocate = channel.unary_unary(
            "/v1beta1.DevicePlugin/Allocate",
            request_serializer=MESSAGE["AllocateRequest"].SerializeToString,
            response_deserializer=MESSAGE["AllocateResponse"].FromString,
        )
        wanted = MESSAGE["ContainerAllocateRequest"](devices_ids=["GPU-0", "GPU-1"])
        answer = allocate(MESSAGE["AllocateRequest"](container_requests=[wanted]), timeout=10)
        (env,) = answer.container_responses[0].envs
        assert (env.key, env.value) == ("NVIDIA_VISIBLE_DEVICES", "GPU-0,GPU-1")

    (file.parent / "kubelet.sock").unlink()  # kubelet was restarted: the plugin leaves, to register anew
    assert plugin.wait(timeout=10) == 0


def test_a_map_on_the_wire_is_what_kubelet_decodes():
    response = MESSAGE["ContainerAllocateResponse"](envs=[MESSAGE["Env"](key="A", value="b")])
    assert response.SerializeToString() == bytes.fromhex("0a 06 0a 01 41 12 01 62")


def test_the_devices_of_a_file_are_read_in_its_order(tmp_path: Path):
    file = tmp_path / "gpus.json"
    file.write_text('{"resource": "nvidia.com/mig-1g.10gb", "devices": {"b": "Healthy", "a": "Unhealthy"}}')
    resource, devices = gpu_plugin.read(file)
    assert resource == "nvidia.com/mig-1g.10gb"
    assert list(devices.items()) == [("b", "Healthy"), ("a", "Unhealthy")]
