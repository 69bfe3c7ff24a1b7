"""BLEURT-20 in its PyTorch form: a learned score, read into transformers' RemBERT."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.errors import InputError, first_line
from signet_train.evaluation.metrics import check_pairs

if TYPE_CHECKING:
    import torch
    from transformers import RemBertConfig


def bleurt(
    references: Sequence[str], hypotheses: Sequence[str], checkpoint: Path, device: str = "cpu", batch_size: int = 16
) -> list[float]:
    """Return a BLEURT for each sentence, by BLEURT-20 or a distilled BLEURT-20-D3, -D6 or -D12 in its PyTorch form.

    ``checkpoint`` is the directory of ``lucadiliello/BLEURT-20``: ``config.json``, ``spm.model``, and
    ``model.safetensors`` or ``pytorch_model.bin``. Its network is a RemBERT with one output, under other names.
    Input is encoded as BLEURT's own code does: [CLS] reference [SEP] hypothesis [SEP], cut to the model's positions.

    Raises:
        InputError: as `signet_train.evaluation.metrics.translation_scores`; or no such checkpoint.
    """
    import torch
    from sentencepiece import SentencePieceProcessor
    from torch.nn.utils.rnn import pad_sequence

    check_pairs(references, hypotheses)
    model, config = _load_bleurt(checkpoint)
    model.to(device)
    vocabulary = checkpoint / "spm.model"
    try:
        pieces = SentencePieceProcessor(model_file=str(vocabulary))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{vocabulary}: not a SentencePiece model, or none there") from error
    cls, sep = pieces.piece_to_id("[CLS]"), pieces.piece_to_id("[SEP]")
    if pieces.unk_id() in (cls, sep) or pieces.get_piece_size() > config.vocab_size:
        raise InputError(f"{vocabulary}: not the vocabulary of this checkpoint")
    room = config.max_position_embeddings - 3
    encoded: list[tuple[list[int], list[int]]] = []
    for reference, hypothesis in zip(pieces.encode(list(references)), pieces.encode(list(hypotheses)), strict=True):
        while len(reference) + len(hypothesis) > room:
            (reference if len(reference) > len(hypothesis) else hypothesis).pop()
        segments = [0] * (len(reference) + 2) + [1] * (len(hypothesis) + 1)
        encoded.append(([cls, *reference, sep, *hypothesis, sep], segments))
    scores = np.empty(len(encoded))
    # Pairs of like length together: a batch costs what its longest costs.
    order = np.argsort([len(ids) for ids, _ in encoded], kind="stable")
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = [torch.tensor([ids, segments, [1] * len(ids)]).T for ids, segments in (encoded[i] for i in batch)]
        tokens, types, mask = pad_sequence(rows, batch_first=True).to(device).unbind(-1)
        with torch.inference_mode():
            logits = model(input_ids=tokens, token_type_ids=types, attention_mask=mask).logits
        scores[batch] = logits[:, 0].cpu().numpy()
    return [float(score) for score in scores]


# What the checkpoint calls a size of the network -> what transformers' RemBERT calls it.
_BLEURT_CONFIG = {"embedding_size": "input_embedding_size"} | {
    name: name
    for name in (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "max_position_embeddings",
        "type_vocab_size",
        "layer_norm_eps",
        "pad_token_id",
    )
}


def _load_bleurt(checkpoint: Path) -> tuple[torch.nn.Module, RemBertConfig]:
    from safetensors import SafetensorError
    from transformers import RemBertConfig, RemBertForSequenceClassification

    try:
        stored = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        if stored.get("model_type") != "bleurt" or not stored.get("embedding_size"):
            raise KeyError("embedding_size")
        sizes = {ours: stored[theirs] for theirs, ours in _BLEURT_CONFIG.items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"{checkpoint}: not BLEURT-20 in PyTorch form: it takes the files of lucadiliello/BLEURT-20 (or -D3, -D6, "
            "-D12), not Google's TensorFlow folder and not an older BLEURT, a BERT whose scores differ"
        ) from error
    try:
        config = RemBertConfig(**sizes, num_labels=1)
        model = RemBertForSequenceClassification(config)
        model.load_state_dict(_rembert_names(_read_weights(checkpoint)), assign=True)
    except (OSError, EOFError, RuntimeError, TypeError, ValueError, KeyError, SafetensorError) as error:
        reason = first_line(error)
        raise InputError(f"{checkpoint}: damaged, or not BLEURT ({reason})") from error
    return model.float().eval(), config


def _read_weights(checkpoint: Path) -> Mapping[str, torch.Tensor]:
    import pickle

    import torch
    from safetensors.torch import load_file

    if (checkpoint / "model.safetensors").is_file():
        return load_file(checkpoint / "model.safetensors")
    try:
        weights: Mapping[str, torch.Tensor] = torch.load(
            checkpoint / "pytorch_model.bin", map_location="cpu", weights_only=True
        )
    except pickle.UnpicklingError:
        raise ValueError("pytorch_model.bin holds more than weights") from None
    return weights


def _rembert_names(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    def renamed(name: str) -> str:
        name = name.replace("encoder.embedding_projection.", "encoder.embedding_hidden_mapping_in.")
        return f"rembert.{name.removeprefix('bleurt.')}" if name.startswith("bleurt.") else name

    # A buffer of 0, 1, 2, …, which RemBERT does not store.
    return {renamed(name): tensor for name, tensor in weights.items() if not name.endswith(".position_ids")}
