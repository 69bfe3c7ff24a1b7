"""Checkpoint in, verified bundle out."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from signet_export.attention import expose_attention
from signet_export.decoder import (
    DECODER,
    DECODER_DATA,
    DECODER_WITH_PAST,
    disk_needed,
    export_decoders,
    share_weights,
)
from signet_export.encoder import export_encoder, export_split_encoder
from signet_export.fuse import FusedEncoder
from signet_export.precision import to_half
from signet_export.quantize import quantize
from signet_export.split import reach
from signet_export.tensorrt import Target, build_engines
from signet_export.verification import FILE, Verification
from signet_export.verify import verify
from signet_runtime.bundle import (
    Bundle,
    Engine,
    Expert,
    Generation,
    Manifest,
    Routing,
    ShapeRange,
    new_bundle,
    write_manifest,
)
from signet_runtime.confidence.calibration import Calibration, write_calibration
from signet_runtime.errors import BundleError, CheckpointError, EngineError, OutputError
from signet_train.checkpoint import Checkpoint
from signet_train.model.signet import Signet

ENCODER, FEATURES = "encoder.onnx", "features.onnx"
_MADE_WITH = ("signet-slt", "torch", "transformers", "optimum-onnx", "onnx", "onnxruntime")


def export_bundle(
    checkpoint: Checkpoint,
    path: Path,
    *,
    top_k: int | None = None,
    routing: Literal["topk", "dense", "pinned"] = "topk",
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    target: Target | None = None,
    confidence: Callable[[Bundle], Calibration] | None = None,
    report: Callable[[str], None] = lambda line: None,
    overwrite: bool = False,
) -> Verification:
    """Export, check against PyTorch, and only then let the bundle appear at ``path``.

    Of a checkpoint with the causal normalisation the encoder becomes two graphs, the first of which runs while somebody
    signs. Nothing is routed before the end, so every expert is computed whole, and ``topk`` is ``dense``.

    Args:
        top_k: how many experts the graph keeps per clip; None takes the checkpoint's.
        routing: how the graph is made, see `FusedEncoder`; ``pinned`` says that ``checkpoint`` is one that `pin` made,
            whose graph is then dense.
        precision: of the large products, see `precision` and `quantize`.
        target: also build TensorRT engines for it; the ONNX engine is in every bundle.
        confidence: fits what the bundle's confidence is worth, see `signet_export.confidence`; None: it has none.
        report: takes a line for the user before and after each of these.

    Raises:
        CheckpointError: ``top_k`` does not fit its experts, or its fusion is an ablation's.
        BundleError: parity fails, ``path`` is taken, or the memory is too small.
        OutputError: the disk is too small.
        EngineError: TensorRT cannot build an engine, or is asked for one of two graphs.
    """
    model, config = checkpoint.model.eval(), checkpoint.config
    fusion = model.config.fusion
    if fusion is not None and (fusion.gating != "router" or fusion.router_reads != "hands"):
        raise CheckpointError("model.fusion: an ablation, with other gating or router_reads, is not exported")
    k = top_k or (model.routed.router.top_k if model.routed is not None else 1)
    if not 1 <= k <= len(checkpoint.experts):
        raise CheckpointError(f"top-k {k}: this checkpoint has {len(checkpoint.experts)} experts")
    if model.routed is not None:
        model.routed.router.top_k = k
    normalisation = checkpoint.experts[0].normalisation
    streams = normalisation == "causal"
    if streams and target is not None:
        raise EngineError(
            "--engine trt: with the causal profile the encoder is two graphs, which TensorRT engines are not made of; "
            "export it with --engine onnx"
        )
    if streams and routing == "topk":
        routing = "dense"
        report("causal profile: experts are computed while somebody signs, before any is chosen, so routing is dense")
    card = config.card
    manifest = Manifest(
        name=card.name,
        language=card.language or "und",
        notice=card.notice,
        experts=[
            Expert(name=e.name, sign_languages=list(e.sign_languages), corpus=e.corpus) for e in checkpoint.experts
        ],
        routing=Routing(mode=routing, k=k),
        normalisation=normalisation,
        pose_estimator=card.pose_estimator or "unknown",
        frame_rate=config.data.frame_rate or _common_rate(checkpoint),
        max_frames=config.data.max_frames,
        long_clips=config.data.long_clips,
        generation=Generation(num_beams=card.num_beams, max_new_tokens=card.max_new_tokens),
        engines=[
            Engine(
                kind="onnx",
                precision=precision,
                encoder=ENCODER,
                decoder=DECODER,
                decoder_with_past=DECODER_WITH_PAST,
                features=FEATURES if streams else None,
                reach=reach(config.model.backbone) if streams else None,
            )
        ],
        created_with={package: version(package) for package in _MADE_WITH},
    )
    with new_bundle(path, overwrite=overwrite) as draft:
        _check_room(draft, model, precision, target)
        encoder = FusedEncoder(model, "topk" if routing == "topk" else "dense")
        if precision == "fp32":
            _export_encoder(encoder, streams, draft)
            export_decoders(model.language_model, checkpoint.tokenizer, draft)
        else:
            _export_converted(checkpoint, encoder, streams, precision, draft)
        for name in (DECODER, DECODER_WITH_PAST):
            expose_attention(draft / name)
        verification = verify(Bundle(draft, write_manifest(draft, manifest)), model)
        (draft / FILE).write_text(verification.model_dump_json(indent=2) + "\n")
        if confidence is not None:
            write_calibration(draft, confidence(Bundle(draft, write_manifest(draft, manifest))))
        if target is not None:
            engine = _build(draft, manifest, target, len(model.prompt), report)
            manifest = manifest.model_copy(update={"engines": [*manifest.engines, engine]})
        write_manifest(draft, manifest)
    return verification


def _build(draft: Path, manifest: Manifest, target: Target, prompt: int, report: Callable[[str], None]) -> Engine:
    """Build TensorRT engines; where their GPU is they are run once and compared, and then count as executed."""
    shapes = ShapeRange(
        frames=(1, 128, max(512, manifest.max_frames)),
        beams=manifest.generation.num_beams,
        tokens=manifest.generation.max_new_tokens,
        prompt=prompt,
    )
    engine = build_engines(draft, manifest.engines[0], target, shapes, report).engine
    if target.gpu is None or engine.build is None:
        return engine
    from signet_runtime.engines.tensorrt_model import load_model

    write_manifest(draft, manifest.model_copy(update={"engines": [*manifest.engines, engine]}))
    load_model(Bundle.load(draft), engine).close()
    return engine.model_copy(update={"build": engine.build.model_copy(update={"executed": True})})


def _export_encoder(encoder: FusedEncoder, streams: bool, directory: Path) -> list[Path]:
    """Export its graphs, one or two."""
    if streams:
        export_split_encoder(encoder, directory / FEATURES, directory / ENCODER)
        return [directory / FEATURES, directory / ENCODER]
    export_encoder(encoder, directory / ENCODER)
    return [directory / ENCODER]


def _export_converted(
    checkpoint: Checkpoint, encoder: FusedEncoder, streams: bool, precision: Literal["fp16", "int8"], draft: Path
) -> None:
    """Export the graphs in fp32 beside the draft, and what is made of them in it."""

    def convert(source: Path, into: Path) -> Path:
        if precision == "int8":
            quantize(source, into / source.name)
        else:
            to_half(source, into / source.name, precision)
        return into / source.name

    with tempfile.TemporaryDirectory(dir=draft.parent) as scratch:
        exported, converted = Path(scratch, "fp32"), Path(scratch, precision)
        exported.mkdir()
        converted.mkdir()
        graphs = _export_encoder(encoder, streams, exported)
        for graph in graphs:
            convert(graph, draft)
        export_decoders(checkpoint.model.language_model, checkpoint.tokenizer, exported)
        share_weights([convert(exported / name, converted) for name in (DECODER, DECODER_WITH_PAST)], draft)
        for file in exported.iterdir():
            if file not in graphs and file.name not in (DECODER, DECODER_WITH_PAST, DECODER_DATA):
                file.rename(draft / file.name)


def _common_rate(checkpoint: Checkpoint) -> float | None:
    """Return the rate that the data of all experts had, where the model has no clock of its own."""
    rates = {expert.frame_rate for expert in checkpoint.experts}
    return rates.pop() if len(rates) == 1 else None


def _check_room(directory: Path, model: Signet, precision: str, target: Target | None) -> None:
    """Raise OutputError where the disk is too small, BundleError where memory is, before minutes are spent on it."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    disk = disk_needed(model.language_model) + weights  # the encoder's are fewer
    if precision != "fp32":  # which the conversion starts from
        disk *= 2
    if target is not None:  # each engine has its own
        disk += 2 * weights
    rooms = {"on disk": (shutil.disk_usage(directory).free, disk), "of memory": (available_memory(), 2 * weights)}
    for where, (free, needed) in rooms.items():
        if free is not None and free < needed:
            raise (OutputError if where == "on disk" else BundleError)(
                f"{directory.parent.parent}: the export takes {needed / 1e9:.1f} GB {where}, "
                f"{free / 1e9:.1f} GB are free"
            )


def available_memory() -> int | None:
    """Return how many bytes can be had without swapping; None where the system does not tell."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
