"""How good a model's text is: every figure as the literature reports it, with what makes it comparable beside it."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jiwer
import langcodes
import numpy as np
from rapidfuzz.distance import LCSseq

from signet_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import RemBertConfig

# sacrebleu's tokenizers that need no second installation and no download.
TOKENIZERS = ("13a", "zh", "char", "intl", "none")
# Scripts without spaces between words, and Korean, whose particles are written together with their words.
# sacrebleu's own Japanese and Korean tokenizers need MeCab's dictionaries: characters instead.
_TOKENIZER_OF_SCRIPT = {"Hans": "zh", "Hant": "zh", "Hani": "zh"} | dict.fromkeys(
    ("Jpan", "Kore", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"), "char"
)
_BETA = 1.2


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Edits needed per reference character, over the whole set (not the mean of sentences)."""
    return float(jiwer.cer(list(references), list(hypotheses)))


def tokenizer_for(language: str) -> str:
    """What sacrebleu calls ``tokenize``, for a text language (BCP 47): ``zh``, ``char`` or ``13a``.

    Raises:
        InputError: not a language tag.
    """
    try:
        script = langcodes.Language.get(language).maximize().script
    except ValueError:
        raise InputError(f"{language!r}: not a BCP 47 language tag, as de, en or zh-Hant") from None
    return _TOKENIZER_OF_SCRIPT.get(script or "", "13a")


def ascii_punctuation(sentence: str) -> str:
    """Full-width commas and question marks as ASCII ones, which is how mT5 writes them.

    For Chinese, references and hypotheses alike, before they are scored: as Uni-Sign and Geo-Sign do on CSL-Daily.
    """
    return sentence.translate({ord("，"): ",", ord("？"): "?"})


@dataclass(frozen=True, slots=True)
class Scores:
    """Corpus scores, all 0 to 100.

    Attributes:
        sentences: how many there were.
        tokenize: sacrebleu's tokenizer, for BLEU; ``zh`` and ``char`` also mean that ROUGE-L counts characters.
        bleu_1, bleu_2, bleu_3, bleu_4: sacrebleu's corpus BLEU up to that n-gram order.
        chrf: sacrebleu's chrF2.
        rouge_l_beta: LCS F-score with beta 1.2, the mean over sentences.
        rouge_l_pypi: F of the package `rouge`, the mean over sentences.
        bleu_signature, chrf_signature: sacrebleu's signatures.
    """

    sentences: int
    tokenize: str
    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    chrf: float
    rouge_l_beta: float
    rouge_l_pypi: float
    bleu_signature: str
    chrf_signature: str

    def table(self) -> str:
        """A line a figure, with the tokens and signature that it was computed with."""
        tokens = "characters" if _by_character(self.tokenize) else "words"
        rows = [(f"BLEU-{n}", getattr(self, f"bleu_{n}"), self.bleu_signature) for n in range(1, 5)]
        rows += [
            ("chrF", self.chrf, self.chrf_signature),
            ("ROUGE-L beta", self.rouge_l_beta, f"tokens:{tokens}|lcs|beta:{_BETA}|mean of sentences"),
            ("ROUGE-L PyPI", self.rouge_l_pypi, f"tokens:{tokens}|rouge.rouge-l.f|version:{version('rouge')}"),
        ]
        lines = [f"{name:<12}  {score:6.2f}  {how}" for name, score, how in rows]
        return "\n".join([f"{'sentences':<12}  {self.sentences:6d}", *lines])


def translation_scores(references: Sequence[str], hypotheses: Sequence[str], tokenize: str) -> Scores:
    """BLEU-1 to BLEU-4, chrF and both kinds of ROUGE-L; ``tokenize`` of `TOKENIZERS`, as `tokenizer_for` gives it.

    Raises:
        InputError: no sentences, unequal numbers of them, an empty reference, or another tokenizer.
    """
    from sacrebleu.metrics import CHRF

    _check(references, hypotheses)
    metrics = [_bleu(n, tokenize) for n in range(1, 5)]
    bleu = [metric.corpus_score(hypotheses, [references]).score for metric in metrics]
    chrf = CHRF()
    return Scores(
        sentences=len(references),
        tokenize=tokenize,
        bleu_1=bleu[0],
        bleu_2=bleu[1],
        bleu_3=bleu[2],
        bleu_4=bleu[3],
        chrf=chrf.corpus_score(hypotheses, [references]).score,
        rouge_l_beta=_rouge_l_beta(references, hypotheses, tokenize),
        rouge_l_pypi=_rouge_l_pypi(references, hypotheses, tokenize),
        bleu_signature=str(metrics[3].get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )


def corpus_bleu4(references: Sequence[str], hypotheses: Sequence[str], tokenize: str) -> float:
    """BLEU-4 of `translation_scores` alone, for validation.

    Raises:
        InputError: as `translation_scores`.
    """
    _check(references, hypotheses)
    return float(_bleu(4, tokenize).corpus_score(hypotheses, [references]).score)


def recognition_accuracy(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[float, float]:
    """Top-1 accuracy, 0 to 100: per instance, and per class (the mean over the classes among the references).

    Case, and how much white space there is, make no difference.

    Raises:
        InputError: as `translation_scores`.
    """
    _check(references, hypotheses)
    right: dict[str, list[bool]] = defaultdict(list)
    for reference, hypothesis in zip(map(_normal, references), map(_normal, hypotheses), strict=True):
        right[reference].append(reference == hypothesis)
    per_instance = sum(map(sum, right.values())) / len(references)
    per_class = sum(sum(hits) / len(hits) for hits in right.values()) / len(right)
    return 100 * per_instance, 100 * per_class


def _normal(label: str) -> str:
    return " ".join(label.split()).casefold()


def _check(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(references) != len(hypotheses):
        raise InputError(f"{len(references)} references for {len(hypotheses)} hypotheses: nothing can be compared")
    if not references:
        raise InputError("no sentences to score: the split or the file is empty")
    empty = next((i for i, reference in enumerate(references, 1) if not reference.strip()), None)
    if empty is not None:
        raise InputError(f"the reference of sentence {empty} is empty: leave the sentence out")


def _bleu(order: int, tokenize: str) -> Any:
    from sacrebleu.metrics import BLEU

    if tokenize not in TOKENIZERS:
        raise InputError(f"{tokenize!r}: no tokenizer that can be used here; there are {', '.join(TOKENIZERS)}")
    # `force` only silences a warning about sentences that end in " .", as all of PHOENIX-2014T's do.
    return BLEU(max_ngram_order=order, tokenize=tokenize, force=True)


def _by_character(tokenize: str) -> bool:
    return tokenize in ("zh", "char")


def _tokens(sentence: str, tokenize: str) -> list[str]:
    """ROUGE-L's: what white space separates, or every character that is not white space."""
    words = sentence.split()
    return list("".join(words)) if _by_character(tokenize) else words


def _rouge_l_beta(references: Sequence[str], hypotheses: Sequence[str], tokenize: str) -> float:
    total = 0.0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        ours, theirs = _tokens(hypothesis, tokenize), _tokens(reference, tokenize)
        common = LCSseq.similarity(ours, theirs)
        if common:
            precision, recall = common / len(ours), common / len(theirs)
            total += (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)
    return 100 * total / len(references)


def _rouge_l_pypi(references: Sequence[str], hypotheses: Sequence[str], tokenize: str) -> float:
    from rouge import Rouge

    rouge, total = Rouge(metrics=["rouge-l"]), 0.0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        ours, theirs = (" ".join(_tokens(sentence, tokenize)) for sentence in (hypothesis, reference))
        # The package takes "." for the end of a sentence and raises where nothing else is left: such a pair counts 0.
        if ours.replace(".", "") and theirs.replace(".", ""):
            with _recursion(len(ours) + len(theirs)):
                total += rouge.get_scores(ours, theirs)[0]["rouge-l"]["f"]
    return 100 * total / len(references)


@contextmanager
def _recursion(depth: int) -> Iterator[None]:
    """The package reads a common subsequence back by recursion, a level a token."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def bleurt(
    references: Sequence[str], hypotheses: Sequence[str], checkpoint: Path, device: str = "cpu", batch_size: int = 16
) -> list[float]:
    """A sentence's BLEURT each, by BLEURT-20 or a distilled BLEURT-20-D3, -D6 or -D12 in its PyTorch form.

    ``checkpoint`` is the directory of ``lucadiliello/BLEURT-20``: ``config.json``, ``spm.model``, and
    ``model.safetensors`` or ``pytorch_model.bin``. Its network is a RemBERT with one output, under other names.
    Input is encoded as BLEURT's own code does: [CLS] reference [SEP] hypothesis [SEP], cut to the model's positions.

    Raises:
        InputError: as `translation_scores`; or no such checkpoint.
    """
    import torch
    from sentencepiece import SentencePieceProcessor
    from torch.nn.utils.rnn import pad_sequence

    _check(references, hypotheses)
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
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
        "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id",
    )
}  # fmt: skip


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
        reason = (str(error) or type(error).__name__).splitlines()[0]
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
