"""Checkpoint in, verified bundle out."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Literal

from signet_export.decoder import DECODER, DECODER_WITH_PAST, export_decoders
from signet_export.encoder import export_encoder
from signet_export.fuse import FusedEncoder
from signet_export.verify import FILE, Verification, verify
from signet_runtime.bundle import Bundle, Engine, Expert, Generation, Manifest, Routing, new_bundle, write_manifest
from signet_runtime.errors import BundleError
from signet_train.checkpoint import Checkpoint

_MADE_WITH = ("signet-slt", "torch", "transformers", "optimum-onnx", "onnx", "onnxruntime")


def export_bundle(
    checkpoint: Checkpoint,
    path: Path,
    *,
    top_k: int | None = None,
    routing: Literal["topk", "dense", "pinned"] = "topk",
    overwrite: bool = False,
) -> Verification:
    """Export, check against PyTorch, and only then let the bundle appear at ``path``.

    Args:
        top_k: how many experts the graph keeps per clip; None takes the checkpoint's.
        routing: how the graph is made, see `FusedEncoder`; ``pinned`` says that ``checkpoint`` is one that `pin` made,
            whose graph is then dense.

    Raises:
        BundleError: parity fails, ``top_k`` does not fit the experts, or ``path`` is taken.
    """
    model, config = checkpoint.model.eval(), checkpoint.config
    k = top_k or (model.fusion.router.top_k if model.fusion is not None else 1)
    if not 1 <= k <= len(checkpoint.experts):
        raise BundleError(f"top-k {k}: this checkpoint has {len(checkpoint.experts)} experts")
    if model.fusion is not None:
        model.fusion.router.top_k = k
    card = config.card
    manifest = Manifest(
        name=card.name,
        language=card.language,
        notice=card.notice,
        experts=[
            Expert(name=e.name, sign_languages=list(e.sign_languages), corpus=e.corpus) for e in checkpoint.experts
        ],
        routing=Routing(mode=routing, k=k),
        profile=checkpoint.experts[0].profile,
        pose_estimator=card.pose_estimator,
        frame_rate=config.data.frame_rate,
        max_frames=config.data.max_frames,
        generation=Generation(num_beams=card.num_beams, max_new_tokens=card.max_new_tokens),
        engines=[
            Engine(
                kind="onnx",
                precision="fp32",
                encoder="encoder.onnx",
                decoder=DECODER,
                decoder_with_past=DECODER_WITH_PAST,
            )
        ],
        created_with={package: version(package) for package in _MADE_WITH},
    )
    with new_bundle(path, overwrite=overwrite) as draft:
        export_encoder(FusedEncoder(model, "topk" if routing == "topk" else "dense"), draft / "encoder.onnx")
        export_decoders(model.language_model, checkpoint.tokenizer, draft)
        write_manifest(draft, manifest)
        verification = verify(Bundle.load(draft, verify=True), model)
        (draft / FILE).write_text(verification.model_dump_json(indent=2) + "\n")
        write_manifest(draft, manifest)
    return verification
