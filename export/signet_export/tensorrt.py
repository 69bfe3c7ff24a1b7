"""ONNX graphs -> TensorRT engines: for the GPU that is here with the classic library, for any GPU with TensorRT-RTX.

TensorRT-RTX compiles for a compute capability and needs no GPU for it; what it cannot do without one is to load what
it built, so there the inputs and outputs are checked on the network that goes into the engine. Precision is the ONNX
file's: both libraries are told to keep every type as it is written there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from signet_runtime.bundle import Engine, EngineBuild, ShapeRange
from signet_runtime.engines.encoder import INPUTS, OUTPUTS
from signet_runtime.engines.tensorrt import (
    Gpu,
    invalidity,
    library_name,
    load_library,
    make_logger,
    this_gpu,
)
from signet_runtime.errors import BundleError, EngineError, OutputError
from signet_runtime.files import whole_file
from signet_runtime.generation.hypothesis import CROSS_ATTENTION
from signet_runtime.installation import how_to_install
from signet_runtime.models.home import file_record
from signet_runtime.remembered import trust, user_cache

Kind = Literal["tensorrt", "tensorrt-rtx"]
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

# The file of an engine is named like its part of the model.
ENCODER, DECODER, DECODER_WITH_PAST = "encoder.engine", "decoder.engine", "decoder_with_past.engine"
WITHOUT_GPU = "sm86"  # what is built where there is no GPU and none was named: the RTX 3090
_CARDS = {"rtx3090": "sm86", "rtx4090": "sm89", "rtx5090": "sm120"}
_FAILED, _CANNOT_WRITE = 10, 11  # exit codes of the building process


class Target(NamedTuple):
    """What to build for, and with which library.

    sm: compute capability, "sm86"; gpu: the one that is here, if it is of this kind.
    """

    kind: Kind
    sm: str
    gpu: Gpu | None


@dataclass(frozen=True)
class BuiltPart:
    """One engine file: seconds it took, bytes of memory at most (None where the system does not tell), bytes of it.

    loaded: whether the library loaded it again, for which it needs the GPU.
    """

    file: str
    seconds: float
    peak_memory: int | None
    size: int
    loaded: bool


@dataclass(frozen=True)
class BuiltEngines:
    """``engine`` goes into the manifest, behind the ONNX engine; it is recorded as not executed."""

    engine: Engine
    parts: tuple[BuiltPart, ...]


def choose_target(wanted: str | None, report: Callable[[str], None]) -> Target:
    """Find out what ``--target`` means on this machine.

    Args:
        wanted: "this-gpu", "sm86" or another compute capability, or a card such as "rtx3090"; None is this machine's
            GPU, and SM86 where there is none, which is reported.
        report: takes a line for the user.

    Raises:
        EngineError: no such target, no GPU for "this-gpu", or no library that builds for it.
    """
    gpu = this_gpu()
    if wanted is None and gpu is None:
        report(f"no GPU here that PyTorch sees: building for {WITHOUT_GPU} (RTX 3090); --target names another")
    if wanted in (None, "this-gpu"):
        if wanted and gpu is None:
            raise EngineError("--target this-gpu: PyTorch sees no GPU here; name one, as in --target sm86")
        sm = gpu.target if gpu else WITHOUT_GPU
    else:
        assert wanted is not None
        sm = _CARDS.get(wanted.lower(), wanted.lower())
        if not re.fullmatch(r"sm[0-9]{2,3}", sm):
            raise EngineError(f"--target {wanted}: not this-gpu, sm86 (or another smNN), {', '.join(_CARDS)}")
    here = gpu if gpu is not None and gpu.target == sm else None
    if here is not None and importlib.util.find_spec("tensorrt") is not None:
        return Target("tensorrt", sm, here)
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        both = how_to_install("rtx") + (f" or, for this GPU, {how_to_install('gpu')}" if here else "")
        raise EngineError(f"no TensorRT that builds for {sm} is installed; {both}")
    known = _capabilities(load_library("tensorrt-rtx"))
    if sm not in known:
        classic = f"; for this GPU {how_to_install('gpu')}, the classic TensorRT" if here else ""
        raise EngineError(f"target {sm}: TensorRT-RTX builds for {', '.join(known)}{classic}")
    return Target("tensorrt-rtx", sm, here)


def _capabilities(library: ModuleType) -> list[str]:
    return [name.lower() for name in library.ComputeCapability.__members__ if name.startswith("SM")]


def build_engines(
    directory: Path,
    onnx: Engine,
    target: Target,
    shapes: ShapeRange,
    report: Callable[[str], None] = lambda line: None,
) -> BuiltEngines:
    """Build the three engines from a bundle's ONNX graphs, into the bundle's directory: all, or none.

    Each is built in a process of its own: what the library needs it gives back, Ctrl-C ends it at once, and when it
    is killed for memory this process is not.

    Args:
        directory: of the bundle; the graphs' external data lie beside them.
        onnx: the graphs; the engines have their precision.
        shapes: what to build for.
        report: takes a line for the user before and after each engine.

    Raises:
        EngineError: the library is missing or cannot build one of the graphs.
        BundleError: a graph is missing.
        OSError: the engines cannot be written.
    """
    library = load_library(target.kind)
    graphs = {ENCODER: onnx.encoder, DECODER: onnx.decoder, DECODER_WITH_PAST: onnx.decoder_with_past}
    for graph in graphs.values():
        if not (directory / graph).is_file():
            raise BundleError(f"{directory / graph}: missing from the bundle; export the bundle again")
    parts = []
    # Beside what it becomes, so that a finished engine only changes its name.
    with tempfile.TemporaryDirectory(dir=directory, prefix=".engines-") as scratch:
        for number, (name, graph) in enumerate(graphs.items(), 1):
            report(f"{library_name(target.kind)} {library.__version__} for {target.sm}: {name}, {number} of 3 …")
            job = _Job(
                graph=str(directory / graph),
                engine=str(Path(scratch, name)),
                kind=target.kind,
                sm=target.sm,
                gpu_is_here=target.gpu is not None,
                shapes=shapes,
            )
            parts.append(_run(job, name))
            report(_describe(parts[-1]))
        for name in graphs:
            Path(scratch, name).replace(directory / name)
            trust(file_record(directory / name).sha256)  # they are code, and this is who may run it
    build = EngineBuild(version=library.__version__, target=target.sm, shapes=shapes, executed=False)
    engine = Engine(
        kind=target.kind,
        precision=onnx.precision,
        build=build,
        encoder=ENCODER,
        decoder=DECODER,
        decoder_with_past=DECODER_WITH_PAST,
    )
    return BuiltEngines(engine, tuple(parts))


def _describe(part: BuiltPart) -> str:
    memory = "" if part.peak_memory is None else f", {part.peak_memory / 1e9:.1f} GB of memory at most"
    return f"{part.file}: {part.seconds:.1f} s, {part.size / 1e6:.0f} MB{memory}"


class _Job(NamedTuple):
    graph: str
    engine: str
    kind: str
    sm: str
    gpu_is_here: bool
    shapes: ShapeRange


def _run(job: _Job, name: str) -> BuiltPart:
    described = json.dumps({**job._asdict(), "shapes": job.shapes.model_dump()})
    process = subprocess.Popen(
        [sys.executable, "-m", "signet_export.tensorrt", described],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        answer, said = process.communicate()
    finally:
        if process.poll() is None:  # interrupted; the library would go on to the end
            process.kill()
            process.wait()
    where = f"{Path(job.graph).name} for {job.sm}"
    if process.returncode == 0:
        return BuiltPart(file=name, **json.loads(answer))
    if process.returncode == _CANNOT_WRITE:
        raise OSError(*json.loads(answer))
    if process.returncode == _FAILED:
        raise EngineError(f"{where}: {json.loads(answer)}")
    if process.returncode < 0:
        raise EngineError(
            f"{where}: the build was ended by signal {-process.returncode}; the system does so when memory runs out"
        )
    reason = (said.strip().splitlines() or ["no reason given"])[-1]
    raise EngineError(f"{where}: the build failed ({reason})")


def _main(described: str) -> int:
    """Build one engine, here, and print what came of it as JSON."""
    fields = json.loads(described)
    job = _Job(**{**fields, "shapes": ShapeRange.model_validate(fields["shapes"])})
    try:
        seconds, size = _build(job)
    except OSError as error:
        print(json.dumps([error.errno, error.strerror or str(error)]))
        return _CANNOT_WRITE
    except EngineError as error:
        print(json.dumps(str(error)))
        return _FAILED
    print(json.dumps({"seconds": seconds, "size": size, "peak_memory": _peak_memory(), "loaded": job.gpu_is_here}))
    return 0


def _build(job: _Job) -> tuple[float, int]:
    started = time.perf_counter()
    library, name = load_library(job.kind), library_name(job.kind)
    log = make_logger(library)
    builder = library.Builder(log)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, log)
    if not parser.parse_from_file(job.graph):
        raise EngineError(f"{name} cannot read it: {_parser_error(parser)}")
    inputs = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    outputs = {network.get_output(i).name: network.get_output(i) for i in range(network.num_outputs)}
    if CROSS_ATTENTION in outputs:  # which `optimum`, that drives the engines, has no use for
        network.unmark_output(outputs.pop(CROSS_ATTENTION))
    _check_contract(Path(job.engine).name, inputs, outputs)

    config = builder.create_builder_config()
    config.clear_flag(library.BuilderFlag.TF32)  # ten bits of mantissa are not what a graph in fp32 says
    if job.kind == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(library.ComputeCapability.__members__[job.sm.upper()], 0)
    profile = builder.create_optimization_profile()
    for tensor in inputs.values():
        profile.set_shape(tensor.name, *input_shapes(tensor.name, tuple(tensor.shape), job.shapes))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{name} refuses the shapes: {log.first()}")
    # TensorRT-RTX has no use for timings, and would look for a GPU to take them on.
    timings = user_cache() / "tensorrt" / f"{library.__version__}-{job.sm}.timings" if job.kind == "tensorrt" else None
    if timings is not None:
        known = timings.read_bytes() if timings.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError(f"{name} cannot build it: {log.first()}")
    seconds = time.perf_counter() - started

    _check_engine(library, log, engine, job, {*inputs, *outputs})
    Path(job.engine).write_bytes(engine)
    if timings is not None:
        with contextlib.suppress(OSError, OutputError):  # costs taking them again, and nothing else
            timings.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(timings) as temporary:
                temporary.write_bytes(config.get_timing_cache().serialize())
    return seconds, engine.nbytes


def _parser_error(parser: Any) -> str:
    error = parser.get_error(0)
    where = f"node {error.node_name()} ({error.node_operator()}): " if error.node_operator() else ""
    return where + " ".join(error.desc().split())


def _check_contract(engine: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    """Check the names and types that the runtime will look for."""
    if engine == ENCODER:
        expected, given = set(INPUTS), set(OUTPUTS)
    else:
        layers = sum(name.endswith(".decoder.key") for name in outputs)
        kinds = [f"{side}.{part}" for side in ("decoder", "encoder") for part in ("key", "value")]
        expected, given = {"encoder_attention_mask", "input_ids"}, {"logits"}
        if engine == DECODER:
            expected.add("encoder_hidden_states")
            given |= {f"present.{i}.{kind}" for i in range(layers) for kind in kinds}
        else:
            expected |= {f"past_key_values.{i}.{kind}" for i in range(layers) for kind in kinds}
            given |= {f"present.{i}.{kind}" for i in range(layers) for kind in kinds[:2]}
    for what, wanted, found in (("inputs", expected, inputs), ("outputs", given, outputs)):
        if wanted != set(found):
            raise EngineError(f"its {what} are not those of {engine}: {', '.join(sorted(wanted ^ set(found))[:4])}")
    for name, tensor in (inputs | outputs).items():
        whole = name == "input_ids" or name.endswith("attention_mask")
        if whole != (tensor.dtype.name == "INT64"):
            raise EngineError(f"{name} is {tensor.dtype.name}, which the runtime does not give or read")


def input_shapes(name: str, shape: tuple[int, ...], limits: ShapeRange) -> Shapes:
    """Return the smallest, likely and largest shape of an engine's input.

    Args:
        name: of the input.
        shape: as in the graph, -1 for what is dynamic: the first axis the batch, and at most one more.
    """
    clips, beams = limits.clips, limits.beams
    batches: tuple[int, ...] = (1, beams, clips * beams)
    lengths: tuple[int, ...] = limits.frames
    if name in INPUTS:
        batches = (1, 1, clips)
    elif name == "input_ids":
        lengths = (1, 1, 1)
    elif ".decoder." in name:
        lengths = (1, (limits.tokens + 1) // 2, limits.tokens)
    else:
        lengths = tuple(limits.prompt + frames for frames in lengths)

    def fixed(batch: int, length: int) -> tuple[int, ...]:
        return (batch, *(length if size < 0 else size for size in shape[1:]))

    smallest, likely, largest = (fixed(b, n) for b, n in zip(batches, lengths, strict=True))
    return smallest, likely, largest


def _check_engine(library: ModuleType, log: Any, engine: Any, job: _Job, names: set[str]) -> None:
    """Load it again where there is such a GPU; elsewhere all that can be asked is whether its header is one."""
    runtime = library.Runtime(log)
    if not job.gpu_is_here:
        _, causes = runtime.get_engine_validity(engine)
        if causes & int(library.EngineInvalidityDiagnostics.MALFORMED_ENGINE):
            raise EngineError(f"{library_name(job.kind)} built what it does not know: {invalidity(library, causes)}")
        return
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise EngineError(f"{library_name(job.kind)} cannot load what it built: {log.first()}")
    found = {loaded.get_tensor_name(i) for i in range(loaded.num_io_tensors)}
    if found != names:
        raise EngineError(f"the engine has other inputs and outputs than its graph: {', '.join(sorted(found ^ names))}")


def _peak_memory() -> int | None:
    """Return this process's. Not `getrusage`, which on Linux remembers the process that started it."""
    try:
        found = re.search(r"VmHWM:\s*([0-9]+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
