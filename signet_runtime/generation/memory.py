"""Where a decoder's tensors lie between its steps, and the little that is done with them there.

On a CPU they are numpy's arrays. On a GPU they stay on it, as ONNX Runtime's values: of a step only the candidates are
read back, and the rows of the cache are moved by small graphs of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.errors import EngineError, one_line
from signet_runtime.generation.candidates import likeliest
from signet_runtime.generation.graphs import gather_model, likeliest_model
from signet_runtime.generation.search import Candidates

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue


class HostMemory:
    """Tensors as arrays."""

    def put(self, array: np.ndarray) -> np.ndarray:
        """Bring an array to where the sessions are."""
        return array

    def fetch(self, value: np.ndarray) -> np.ndarray:
        """Bring what a session gave back."""
        return value

    def run(
        self, session: InferenceSession, outputs: Sequence[str], given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Run a session.

        Raises:
            EngineError: it fails.
        """
        try:
            return dict(zip(outputs, session.run(list(outputs), dict(given)), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise _failure(error) from error

    def take(self, values: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows of each, in their order; one row may be taken several times."""
        return {name: value[rows] for name, value in values.items()}

    def likeliest(self, logits: np.ndarray, count: int) -> Candidates:
        """Return the ``count`` likeliest tokens of logits float32 (R, 1, V), see `candidates.likeliest`."""
        return likeliest(logits[:, -1], count)


class DeviceMemory:
    """Tensors as ONNX Runtime's values on a device; as `HostMemory`.

    Args:
        provider: of the sessions.
        device: its name for ONNX Runtime, "cuda" or "cpu".
    """

    def __init__(self, provider: str, device: str) -> None:
        self._provider, self._device = provider, device
        self._gathers: dict[int, InferenceSession] = {}  # by how many tensors they move

    def put(self, array: np.ndarray) -> OrtValue:
        """Bring an array to the device."""
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_numpy(array, self._device, 0)

    def fetch(self, value: OrtValue) -> np.ndarray:
        """Bring what a session gave back from the device."""
        return value.numpy()

    def run(
        self, session: InferenceSession, outputs: Sequence[str], given: Mapping[str, OrtValue]
    ) -> dict[str, OrtValue]:
        """Run a session; the outputs stay on the device.

        Raises:
            EngineError: it fails.
        """
        try:
            binding = session.io_binding()
            for name, value in given.items():
                binding.bind_ortvalue_input(name, value)
            for name in outputs:
                binding.bind_output(name, self._device, 0)
            session.run_with_iobinding(binding)
            return dict(zip(outputs, binding.get_outputs(), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise _failure(error) from error

    def take(self, values: Mapping[str, OrtValue], rows: np.ndarray) -> dict[str, OrtValue]:
        """Return the rows of each, float32, in their order, moved in one run."""
        from signet_runtime.engines.session import open_session

        count = len(values)
        if count not in self._gathers:
            self._gathers[count] = open_session(gather_model(count), self._provider)
        given = {f"x{i}": value for i, value in enumerate(values.values())}
        given["rows"] = self.put(np.ascontiguousarray(rows, np.int64))
        found = self.run(self._gathers[count], [f"y{i}" for i in range(count)], given)
        return dict(zip(values, found.values(), strict=True))

    def likeliest(self, logits: OrtValue, count: int) -> Candidates:
        """Return the ``count`` likeliest tokens of logits float32 (R, 1, V); only these leave the device."""
        count = min(count, logits.shape()[-1])
        given = {"logits": logits, "count": self.put(np.array([count], np.int64))}
        found = self.run(self._likeliest, ["values", "tokens", "log_sum"], given)
        values, tokens, log_sums = (found[name].numpy()[:, -1] for name in ("values", "tokens", "log_sum"))
        largest = values[:, :1]  # they fall
        return Candidates(tokens, (values - largest) - (log_sums - largest))

    @cached_property
    def _likeliest(self) -> InferenceSession:
        from signet_runtime.engines.session import open_session

        return open_session(likeliest_model(), self._provider)


Memory = HostMemory | DeviceMemory


def memory_of(session: InferenceSession) -> Memory:
    """Return the memory that a session's tensors lie in."""
    provider = session.get_providers()[0]
    return DeviceMemory(provider, "cuda") if provider == "CUDAExecutionProvider" else HostMemory()


def _failure(error: Exception) -> EngineError:
    return EngineError(f"the text decoder failed ({one_line(error)}); run signet-doctor")
