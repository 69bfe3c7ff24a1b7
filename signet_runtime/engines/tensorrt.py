"""One TensorRT engine, of either family: classic TensorRT, or TensorRT-RTX, which also builds where there is no GPU.

An engine is bound to the exact version of its library and to one kind of GPU; whatever does not fit is an error that
says what to build again, and nothing else is run instead. Buffers are PyTorch's, on the GPU, ordered by one stream.

Written against the libraries' documented interface and tested through a stand-in for it that checks every call. No
GPU has executed it yet: see `parity`, which every engine has to pass where it is first loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from signet_runtime.bundle import EngineBuild
from signet_runtime.errors import EngineError, InputError, OutputError, one_line
from signet_runtime.files import whole_file
from signet_runtime.installation import how_to_install
from signet_runtime.remembered import user_cache

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# kind in the manifest -> name, module (the bindings may be installed without the package that renames them), extra
_LIBRARIES = {
    "tensorrt": ("TensorRT", "tensorrt", "gpu"),
    "tensorrt-rtx": ("TensorRT-RTX", "tensorrt_rtx_bindings", "rtx"),
}


class Gpu(NamedTuple):
    """name: as the driver has it; target: compute capability, "sm86" for 8.6."""

    name: str
    target: str


def this_gpu() -> Gpu | None:
    """Return the GPU that PyTorch uses; None when it sees none."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return Gpu(torch.cuda.get_device_name(), f"sm{major}{minor}")


def library_name(kind: str) -> str:
    """Return what the library of an engine's kind is called."""
    return _LIBRARIES[kind][0]


def load_library(kind: str) -> ModuleType:
    """Import the library of "tensorrt" or "tensorrt-rtx".

    Raises:
        EngineError: it is not installed or cannot be loaded.
    """
    name, module, extra = _LIBRARIES[kind]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise EngineError(
                f"{name} cannot be loaded ({error}); install it again: {how_to_install(extra)}"
            ) from error
        raise EngineError(f"{name} is not installed; {how_to_install(extra)}") from error
    except Exception as error:  # the bindings load shared libraries, and raise what they please
        how = f"install it again: {how_to_install(extra)}"
        raise EngineError(f"{name} cannot be loaded ({one_line(error)}); {how}") from error


def make_logger(library: ModuleType) -> Any:
    """Make a logger for the library that prints nothing and keeps what went wrong, in ``errors``."""

    class Errors(library.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

        def first(self) -> str:
            """Return what came first, which caused the rest."""
            return self.errors[0][:300] if self.errors else "it gives no reason"

    return Errors()


@dataclass(frozen=True)
class TensorSpec:
    """An engine's input or output: its dtype, and of inputs the smallest and largest shape."""

    dtype: torch.dtype
    smallest: tuple[int, ...] = ()
    largest: tuple[int, ...] = ()


class TensorRTEngine:
    """One engine file, loaded onto the GPU.

    Args:
        path: the file.
        kind: the library's.
        build: of the manifest, what the file is bound to.

    Raises:
        EngineError: the library is missing or of another version, the GPU is missing or of another kind, or the
            library refuses the file.
    """

    def __init__(self, path: Path, kind: str, build: EngineBuild) -> None:
        self.path, self.name = path, library_name(kind)
        library = load_library(kind)
        self._check_fit(library, build)
        self._library, self._log = library, make_logger(library)
        runtime = library.Runtime(self._log)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents:
            if hasattr(runtime, "get_engine_validity"):
                validity, causes = runtime.get_engine_validity(contents)
                if validity == library.EngineValidity.INVALID:
                    raise self._refusal(", ".join(invalidity(library, causes)) or self._log.first())
            self._engine = runtime.deserialize_cuda_engine(contents)
        if self._engine is None:
            raise self._refusal(self._log.first())
        self._runtime = runtime  # outlives its engines
        self._runtime_cache = _RuntimeCache(path, library.__version__)
        self._context = self._runtime_cache.create_context(self._engine)
        if self._context is None:
            raise self._refusal(self._log.first())
        self.inputs, self.outputs = self._read_specs()

    def _check_fit(self, library: ModuleType, build: EngineBuild) -> None:
        again = "export the bundle again here with --engine trt"
        if library.__version__ != build.version:
            raise EngineError(
                f"{self.path}: built with {self.name} {build.version} and here is {library.__version__}, which cannot "
                f"read it; {again}, or install {build.version}"
            )
        gpu = this_gpu()
        if gpu is None:
            raise EngineError(f"{self.path}: {self.name} needs a GPU and PyTorch sees none; use the onnx engine")
        if gpu.target != build.target:
            raise EngineError(f"{self.path}: built for {build.target} and {gpu.name} is {gpu.target}; {again}")

    def _refusal(self, reason: str) -> EngineError:
        return EngineError(
            f"{self.path}: {self.name} cannot load it ({reason}); export the bundle again here with --engine trt"
        )

    def _read_specs(self) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
        engine, inputs, outputs = self._engine, {}, {}
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            dtype = _torch_dtype(engine.get_tensor_dtype(name))
            if engine.get_tensor_mode(name) == self._library.TensorIOMode.INPUT:
                smallest, _, largest = engine.get_tensor_profile_shape(name, 0)
                inputs[name] = TensorSpec(dtype, tuple(smallest), tuple(largest))
            else:
                outputs[name] = TensorSpec(dtype)
        return inputs, outputs

    def __call__(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run on the current CUDA stream and return without waiting for it.

        Args:
            given: every input by its name, on the GPU; each is converted to the engine's dtype.

        Returns:
            Every output, in buffers of its own.

        Raises:
            InputError: a shape that the engine was not built for.
            EngineError: the engine failed.
        """
        import torch

        context, gpu = self._context, device()
        buffers: dict[str, Tensor] = {}
        for name, spec in self.inputs.items():
            tensor = given[name].to(device=gpu, dtype=spec.dtype).contiguous()
            limits = list(zip(spec.smallest, tensor.shape, spec.largest, strict=True))
            if not all(low <= size <= high for low, size, high in limits):
                raise InputError(
                    f"{self.path.name}: {name} of shape {tuple(tensor.shape)} is outside the engine's "
                    f"{spec.smallest} to {spec.largest}; export the bundle with wider shapes, or use the onnx engine"
                )
            buffers[name] = tensor
            context.set_input_shape(name, tuple(tensor.shape))
        if missing := context.infer_shapes():
            raise EngineError(f"{self.path}: {self.name} does not know the shapes of {', '.join(missing)}")
        results = {
            name: torch.empty(tuple(context.get_tensor_shape(name)), dtype=spec.dtype, device=gpu)
            for name, spec in self.outputs.items()
        }
        # An input's buffer may be freed as soon as this returns: PyTorch reuses it in the order of the stream.
        for name, tensor in (buffers | results).items():
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(_stream_handle()):
            raise EngineError(f"{self.path}: {self.name} failed ({self._log.first()})")
        return results

    def close(self) -> None:
        """Keep for the next start what the library compiled for this GPU."""
        self._runtime_cache.save()


class _RuntimeCache:
    """TensorRT-RTX compiles the last stage on the GPU that it runs on; this keeps it. The classic one has none."""

    def __init__(self, engine: Path, version: str) -> None:
        gpu, status = this_gpu(), engine.stat()
        identity = f"{engine.resolve()} {status.st_size} {status.st_mtime_ns} {version} {gpu}"
        self._path = user_cache() / "tensorrt-rtx" / hashlib.sha256(identity.encode()).hexdigest()
        self._cache: Any = None

    def create_context(self, engine: Any) -> Any:
        if not hasattr(engine, "create_runtime_config"):
            return engine.create_execution_context()
        config = engine.create_runtime_config()
        if not hasattr(config, "create_runtime_cache"):
            return engine.create_execution_context()
        self._cache = config.create_runtime_cache()
        with contextlib.suppress(OSError):
            self._cache.deserialize(self._path.read_bytes())  # refuses what was made by another driver or library
        config.set_runtime_cache(self._cache)
        return engine.create_execution_context(config)

    def save(self) -> None:
        if self._cache is not None:
            with contextlib.suppress(OSError, OutputError):  # costs compiling again, and nothing else
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(self._path) as temporary:
                    temporary.write_bytes(self._cache.serialize())


@contextlib.contextmanager
def on_stream() -> Iterator[Any]:
    """Make one CUDA stream current, the same each time: TensorRT synchronises the whole device on the default one."""
    import torch

    global _stream
    if device().type != "cuda":
        yield None
        return
    if _stream is None:
        _stream = torch.cuda.Stream()
    with torch.cuda.stream(_stream):
        yield _stream


_stream: Any = None


def _stream_handle() -> int:
    import torch

    return int(torch.cuda.current_stream().cuda_stream)


def device() -> torch.device:
    """Return where the engines' buffers are."""
    import torch

    return torch.device("cuda")


def invalidity(library: ModuleType, causes: int) -> list[str]:
    """Name the reasons for which TensorRT-RTX finds an engine invalid, in words."""
    members = library.EngineInvalidityDiagnostics.__members__
    return [name.lower().replace("_", " ") for name, member in members.items() if causes & int(member)]


def _torch_dtype(dtype: Any) -> torch.dtype:
    import torch

    return {
        "FLOAT": torch.float32,
        "HALF": torch.float16,
        "BF16": torch.bfloat16,
        "INT32": torch.int32,
        "INT64": torch.int64,
        "BOOL": torch.bool,
    }[dtype.name]
