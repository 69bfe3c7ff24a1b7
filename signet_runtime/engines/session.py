"""ONNX Runtime sessions on the device that was asked for, or an error that says why not."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from signet_runtime.errors import BundleError, EngineError, one_line
from signet_runtime.installation import how_to_install

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

# y = Identity(x), float32 (1,), opset 13: the smallest model whose session shows whether a provider loads.
_IDENTITY_MODEL = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)


def create_session(model: Path, device: str, *, prepack: bool = True) -> InferenceSession:
    """Load ``model`` on ``device`` ("cpu" or "cuda").

    Args:
        prepack: keep a copy of the weights that is arranged for speed on a CPU. Without it they are read where the
            file is mapped, which loads in no time and takes no memory of its own.

    Raises:
        EngineError: ONNX Runtime is missing or cannot run on the device; the message has the reason.
        BundleError: ONNX Runtime cannot load the file.
    """
    provider = PROVIDERS[device]
    problem = provider_problem(provider)
    if problem:
        raise EngineError(f"device {device} is not available: {problem}")
    try:
        return open_session(str(model), provider, prepack)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BundleError(f"{model}: ONNX Runtime cannot load it ({one_line(error)})") from error


def provider_problem(provider: str) -> str | None:
    """Say why ONNX Runtime cannot run a model with ``provider``, and what to do; None when it can.

    Asking what is *available* is not enough: a provider is listed when it was compiled in, and a session
    falls back to the CPU without an error when the provider's libraries cannot be loaded.
    """
    try:
        import onnxruntime
    except ImportError as error:
        return f"ONNX Runtime cannot be loaded ({one_line(error)}); install signet-slt again"
    if provider not in onnxruntime.get_available_providers():
        return (
            f"ONNX Runtime {onnxruntime.__version__} here was built without {provider}; for CUDA "
            f"{how_to_install('gpu')} and see signet-doctor, which finds two ONNX Runtimes that overwrite each other"
        )
    if provider == "CUDAExecutionProvider":
        with contextlib.redirect_stdout(sys.stderr):  # it prints
            onnxruntime.preload_dlls()  # finds CUDA and cuDNN where pip installs them
    try:
        loaded = open_session(_IDENTITY_MODEL, provider).get_providers()
    except Exception as error:
        return f"{provider} does not start ({one_line(error)})"
    if provider not in loaded:
        return f"{provider} does not load ({_library_problem(provider)}); install the libraries it needs"
    return None


def open_session(model: str | bytes, provider: str, prepack: bool = True) -> InferenceSession:
    """Load a file or a model's bytes, with whatever ONNX Runtime raises; `create_session` says what is wrong."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, and said in one line
    options.add_session_config_entry("session.load_model_format", "ONNX")  # in no other was looked at what it refers to
    options.intra_op_num_threads = _thread_count()
    options.add_session_config_entry("session.disable_prepacking", str(int(not prepack)))
    providers = [provider] if provider == PROVIDERS["cpu"] else [provider, PROVIDERS["cpu"]]
    # With the fallback on, a failing provider prints to stdout and the CPU takes over silently.
    return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)


def _thread_count() -> int:
    """Count the threads for one operator; 0 leaves the choice (one per physical core) to ONNX Runtime."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and int(limit) > 0:
        return int(limit)
    # In a container or under taskset, ONNX Runtime would start a thread for every core of the machine.
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
        if usable < (os.cpu_count() or usable):
            return usable
    return 0


def _library_problem(provider: str) -> str:
    import onnxruntime

    stem = provider.removesuffix("ExecutionProvider").lower()
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{stem}.so"))
    except OSError as error:
        return one_line(error)
    return "its library loads but found no device it can use"
