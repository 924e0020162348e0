"""Ask a server over gRPC: ``ask_grpc.py HOST:PORT REQUEST``; prints the numbers of the first output.

Run by the Python of MLServer's environment, which has the protocol's messages.
"""

import json
import sys

import grpc
from mlserver.codecs import NumpyCodec
from mlserver.grpc import converters
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import InferenceRequest

request = json.loads(sys.argv[2])
name = request.pop("name")
for one in request["inputs"]:
    if one["datatype"] == "BYTES":
        one["data"] = [text.encode() for text in one["data"]]
message = converters.ModelInferRequestConverter.from_types(
    InferenceRequest(**request), model_name=name, model_version=None
)
with grpc.insecure_channel(sys.argv[1]) as channel:
    answer = GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=30)
first = converters.ModelInferResponseConverter.to_types(answer).outputs[0]
is_text = first.datatype == "BYTES"
print(json.dumps([] if is_text else NumpyCodec.decode_output(first).reshape(-1).tolist()))
