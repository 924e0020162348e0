"""A predictor as MLServer sees it."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from fastapi import status
from mlserver import MLModel, ModelSettings
from mlserver.errors import InferenceError, MLServerError
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor

from modelops_predictive import tensors
from modelops_predictive.predictors.base import BadInput, Predictor, Tensor

log = logging.getLogger("modelops.predictive")


class Served(MLModel):
    """One loaded model.  Answers are made in threads, so that probes are answered meanwhile."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self._predictor: Predictor = settings.parameters.extra["predictor"]
        self._threads: ThreadPoolExecutor = settings.parameters.extra["threads"]

    async def load(self) -> bool:
        """Tell what goes in and out; the predictor itself was loaded before any port was open."""
        self.inputs = [_metadata(one) for one in self._predictor.inputs]
        self.outputs = [_metadata(one) for one in self._predictor.outputs]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request.

        Raises:
            InferenceError: the request does not fit, which is the caller's fault: 400.
            MLServerError: the model failed: 500, and the payload stays out of the log.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._answer, payload)
        except BadInput as error:
            raise InferenceError(str(error)[:1024]) from None
        except MLServerError:
            raise
        except Exception as error:  # noqa: BLE001  a library's fault must show no traceback to callers
            log.error("%s: fails on a request with %s", self.name, type(error).__name__)
            raise MLServerError(
                f"{self.name}: fails on this request with {type(error).__name__}; tell the model's owner",
                status.HTTP_500_INTERNAL_SERVER_ERROR,
            ) from None

    def _answer(self, payload: InferenceRequest) -> InferenceResponse:
        known = [one.name for one in self._predictor.outputs]
        wanted = [one.name for one in payload.outputs or ()]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise BadInput(f"outputs: needs some of {', '.join(known)}, found {unknown[0]}; correct it")
        answer = self._predictor.answer(tensors.read(payload.inputs), wanted)
        outputs = [tensors.write(name, value) for name, value in answer.items()]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def _metadata(one: Tensor) -> MetadataTensor:
    return MetadataTensor(name=one.name, datatype=one.datatype, shape=list(one.shape))
