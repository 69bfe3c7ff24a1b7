"""What the TensorRT libraries' Python bindings promise, on ONNX Runtime, for machines that have neither.

It takes nothing that the real ones would refuse: shapes outside the profile, an address that was not set, one that
was set before the shape changed, a logger or a buffer of the wrong kind. An engine here is its graph and its profile.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "1.7.1.116")
MAGIC = b"fake"
executed: list[dict[str, dict[str, int]]] = []  # addresses of inputs and outputs, an entry for every run
caches: list[bytes] = []  # runtime caches that were read

DataType = enum.Enum("DataType", ["FLOAT", "HALF", "INT64", "BOOL"])
TensorIOMode = enum.Enum("TensorIOMode", ["INPUT", "OUTPUT"])
EngineValidity = enum.Enum("EngineValidity", ["VALID", "SUBOPTIMAL", "INVALID"])
EngineInvalidityDiagnostics = enum.IntEnum(
    "EngineInvalidityDiagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "MALFORMED_ENGINE": 32}
)
ComputeCapability = enum.IntEnum("ComputeCapability", {"NONE": 0, "CURRENT": 1, "SM75": 75, "SM86": 86, "SM120": 120})
NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 0})
BuilderFlag = enum.Enum("BuilderFlag", ["TF32"])

_ELEMENTS = {1: DataType.FLOAT, 7: DataType.INT64}
_NUMPY = {DataType.FLOAT: np.float32, DataType.INT64: np.int64}


class ILogger:
    """Severities, and what a logger has to have."""

    class Severity(enum.IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class Tensor:
    """A network's input or output; -1 is a dynamic axis."""

    def __init__(self, value: onnx.ValueInfoProto) -> None:
        tensor = value.type.tensor_type
        self.name = value.name
        self.dtype = _ELEMENTS[tensor.elem_type]
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)


class HostMemory(bytes):
    """Serialised contents."""

    @property
    def nbytes(self) -> int:
        return len(self)


class Network:
    """What the parser fills."""

    def __init__(self) -> None:
        self.model: onnx.ModelProto | None = None
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self.outputs[index]

    def unmark_output(self, tensor: Tensor) -> None:
        assert self.model is not None
        self.outputs.remove(tensor)
        kept = [value for value in self.model.graph.output if value.name != tensor.name]
        del self.model.graph.output[:]
        self.model.graph.output.extend(kept)


class ParserError:
    """Of the first node that cannot be read."""

    def __init__(self, name: str, operator: str, text: str) -> None:
        self._said = name, operator, text

    def node_name(self) -> str:
        return self._said[0]

    def node_operator(self) -> str:
        return self._said[1]

    def desc(self) -> str:
        return self._said[2]


class OnnxParser:
    """Reads a file; an operator called Unknown is one that it does not know."""

    def __init__(self, network: Network, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._network, self._errors = network, []

    def parse_from_file(self, path: str) -> bool:
        try:
            model = onnx.load(path)
        except Exception:
            self._errors.append(ParserError("", "", "Assertion failed:\n Failed to parse the ONNX model."))
            return False
        for node in model.graph.node:
            if node.op_type == "Unknown":
                self._errors.append(ParserError(node.name, node.op_type, "Plugin not found"))
        self._network.model = model
        self._network.inputs = [Tensor(value) for value in model.graph.input]
        self._network.outputs = [Tensor(value) for value in model.graph.output]
        return not self._errors

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class Profile:
    """Shapes by input."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, name: str, smallest: Any, likely: Any, largest: Any) -> None:
        for low, middle, high in zip(smallest, likely, largest, strict=True):
            if not 0 <= low <= middle <= high:
                raise ValueError(f"profile of {name}")
        self.shapes[name] = (tuple(smallest), tuple(likely), tuple(largest))


class BuilderConfig:
    """What an engine is built for."""

    def __init__(self) -> None:
        self.num_compute_capabilities = 0
        self.capabilities: dict[int, ComputeCapability] = {}
        self.profiles: list[Profile] = []
        self.cleared: list[BuilderFlag] = []
        self.timings: bytes | None = None

    def set_compute_capability(self, capability: ComputeCapability, index: int) -> bool:
        assert index < self.num_compute_capabilities
        assert isinstance(capability, ComputeCapability)
        self.capabilities[index] = capability
        return True

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.cleared.append(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, known: bytes) -> bytes:
        return known

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self.timings = cache
        return True

    def get_timing_cache(self) -> BuilderConfig:
        return self

    def serialize(self) -> HostMemory:
        return HostMemory((self.timings or b"") + b"+")


class Builder:
    """Builds; the environment says what goes wrong."""

    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> HostMemory | None:
        fate = os.environ.get("FAKE_TENSORRT_BUILD")
        if fate == "hang":
            Path(os.environ["FAKE_TENSORRT_PID"]).write_text(str(os.getpid()))
            time.sleep(60)
        if fate == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fate == "disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        if fate == "fail":
            self._logger.log(ILogger.ERROR, "Error Code 1: Cannot compile\n operation '/MatMul'")
            self._logger.log(ILogger.ERROR, "and then another")
            return None
        assert network.model is not None
        (profile,) = config.profiles
        for tensor in network.inputs:
            for shape in profile.shapes[tensor.name]:
                for declared, size in zip(tensor.shape, shape, strict=True):
                    assert declared in (-1, size), (tensor.name, tensor.shape, shape)
        assert {value.name for value in network.inputs} == set(profile.shapes)
        if __name__ != "tensorrt":  # the classic library builds for the GPU that is here
            assert [config.capabilities[i] for i in range(config.num_compute_capabilities)]
        header = {"version": __version__, "shapes": profile.shapes, "tf32": BuilderFlag.TF32 not in config.cleared}
        return HostMemory(MAGIC + json.dumps(header).encode() + b"\n" + network.model.SerializeToString())


class RuntimeCache:
    """Kernels that were compiled."""

    def __init__(self) -> None:
        self.contents = b""

    def deserialize(self, contents: bytes) -> bool:
        caches.append(bytes(contents))
        return True

    def serialize(self) -> HostMemory:
        return HostMemory(b"compiled")


class RuntimeConfig:
    """Of a context."""

    def __init__(self) -> None:
        self.cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class Engine:
    """A graph, the shapes that it takes, and ONNX Runtime to run it."""

    def __init__(self, header: dict[str, Any], graph: bytes) -> None:
        model = onnx.ModelProto.FromString(graph)
        self.shapes = {name: tuple(map(tuple, shapes)) for name, shapes in header["shapes"].items()}
        self.inputs = {value.name: Tensor(value) for value in model.graph.input}
        self.outputs = {value.name: Tensor(value) for value in model.graph.output}
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    num_io_tensors = property(lambda self: len(self.inputs) + len(self.outputs))

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return (self.inputs | self.outputs)[name].dtype

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        return list(self.shapes[name])

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: RuntimeConfig | None = None) -> Context:
        return Context(self)


class Context:
    """Runs an engine on memory that it is given the addresses of."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.engine.shapes[name]
        assert all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True))
        self._shapes[name] = shape
        self._addresses.clear()
        return True

    def infer_shapes(self) -> list[str]:
        missing = [name for name in self.engine.inputs if name not in self._shapes]
        if not missing:
            zeros = {
                name: np.zeros(self._shapes[name], _NUMPY[value.dtype]) for name, value in self.engine.inputs.items()
            }
            for name, value in zip(self.engine.outputs, self._compute(zeros), strict=True):
                self._shapes[name] = value.shape
        return missing

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert isinstance(address, int) and address
        assert name in self._shapes
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert isinstance(stream, int)
        assert set(self._addresses) == set(self.engine.inputs) | set(self.engine.outputs)
        executed.append(
            {
                "inputs": {name: self._addresses[name] for name in self.engine.inputs},
                "outputs": {name: self._addresses[name] for name in self.engine.outputs},
            }
        )
        given = {}
        for name, value in self.engine.inputs.items():
            array = np.empty(self._shapes[name], _NUMPY[value.dtype])
            ctypes.memmove(array.ctypes.data, self._addresses[name], array.nbytes)
            given[name] = array
        for name, result in zip(self.engine.outputs, self._compute(given), strict=True):
            result = np.ascontiguousarray(result)
            assert result.shape == self._shapes[name]
            assert result.dtype == _NUMPY[self.engine.outputs[name].dtype]
            ctypes.memmove(self._addresses[name], result.ctypes.data, result.nbytes)
        return True

    def _compute(self, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.engine.session.run(list(self.engine.outputs), given)


class Runtime:
    """Loads engines."""

    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._logger = logger

    def get_engine_validity(self, contents: Any) -> tuple[EngineValidity, int]:
        if bytes(contents[: len(MAGIC)]) != MAGIC:
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.MALFORMED_ENGINE)
        return EngineValidity.VALID, 0

    def deserialize_cuda_engine(self, contents: Any) -> Engine | None:
        header, _, graph = bytes(contents)[len(MAGIC) :].partition(b"\n")
        try:
            return Engine(json.loads(header), graph)
        except Exception:
            self._logger.log(ILogger.ERROR, "Error Code 4: Internal Error\n (deserialization failed)")
            return None
