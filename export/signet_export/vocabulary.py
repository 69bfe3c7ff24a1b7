"""A vocabulary of what is written alone: mT5's 250,000 pieces, twice, are two thirds of its weights.

`pieces` says which pieces a corpus or a language uses; `trim` makes the checkpoint that has only these. A row of the
embedding or of the output head does not depend on the others, so the model's states, and the logits of what is kept,
stay as they were. What changes is the softmax's denominator: greedy search gives the same text wherever the full model
writes kept pieces alone, beams nearly so. `agreement` says how nearly.
"""

from __future__ import annotations

import codecs
import copy
import itertools
import string
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import langcodes
import torch
import wordfreq
from sentencepiece import sentencepiece_model_pb2
from torch import Tensor, nn
from tqdm import tqdm
from transformers import GenerationConfig, MT5ForConditionalGeneration, PreTrainedTokenizerBase, T5Tokenizer
from wordfreq.language_info import get_language_info

from signet_runtime.errors import BundleError, CheckpointError, InputError
from signet_train.checkpoint import Checkpoint
from signet_train.data.batches.collate import pad_regions
from signet_train.model.signet import Signet

# Of a language's words the most frequent ones: 74 (Finnish) to 90 (English) of a hundred running words.
WORDS = 10_000
NUMBERS = 2_100  # years among them

_SPACE = "▁"
_SPECIAL = (0, 1, 2)  # padding, end of sentence, unknown
_LANGUAGES = "lang:"
_LINES = 1000
_PROGRESS_FROM = 1_000_000  # bytes, some seconds
_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece
_TRAINER = sentencepiece_model_pb2.TrainerSpec
# By their names in a generation configuration: tokens that are no special ones.
_TOKEN_LISTS = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "constraints",
    "force_words_ids",
    "sequence_bias",
    "suppress_tokens",
)
_TOKENS = (
    "bos_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "pad_token_id",
)


@dataclass(frozen=True)
class Trimmed:
    """What `trim` made.

    Attributes:
        checkpoint: with the small vocabulary.
        ids: at a new id, the old one.
        rows: of the vocabulary before.
        bytes: of embedding and head now; ``bytes_before``: before.
    """

    checkpoint: Checkpoint
    ids: tuple[int, ...]
    rows: int
    bytes: int
    bytes_before: int

    def __str__(self) -> str:
        return (
            f"{len(self.ids):,} of {self.rows:,} pieces kept: embedding and output head take "
            f"{tqdm.format_sizeof(self.bytes, 'B')} instead of {tqdm.format_sizeof(self.bytes_before, 'B')}"
        )


@dataclass(frozen=True)
class Agreement:
    """How a trimmed model's text compares with the full one's, clip by clip.

    Attributes:
        clips: compared.
        kept: of which the full model writes kept pieces alone, greedily; with these the trimmed one writes the same.
        kept_with_beams: the same of beam search.
        same_with_beams: of ``kept_with_beams``, those that the trimmed model writes too.
    """

    clips: int
    kept: int
    kept_with_beams: int
    same_with_beams: int


def pieces(tokenizer: PreTrainedTokenizerBase, vocabulary: str) -> set[int]:
    """Return the ids of the pieces that ``vocabulary`` uses: ``lang:de,en``, or the path of a text file.

    Raises:
        InputError: as `pieces_of_corpus` and `pieces_of_languages`.
    """
    if vocabulary.startswith(_LANGUAGES):
        return pieces_of_languages(tokenizer, vocabulary.removeprefix(_LANGUAGES).split(","))
    return pieces_of_corpus(tokenizer, Path(vocabulary))


def pieces_of_corpus(tokenizer: PreTrainedTokenizerBase, path: Path) -> set[int]:
    """Return the ids of the pieces in a UTF-8 file's lines; the file may be larger than memory.

    Raises:
        InputError: no such file, not UTF-8, or nothing in it that the vocabulary knows.
    """
    found: set[int] = set()
    written = False
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            with tqdm(total=size, unit="B", unit_scale=True, desc=path.name, disable=size < _PROGRESS_FROM) as bar:
                numbered = enumerate(file, start=1)
                while batch := list(itertools.islice(numbered, _LINES)):
                    texts = [text for number, line in batch if (text := _decode(line, path, number))]
                    bar.update(sum(len(line) for _, line in batch))
                    if texts:
                        written = True
                        found.update(*tokenizer(texts, add_special_tokens=False, verbose=False).input_ids)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); give a text file or lang:de") from error
    if not written:
        raise InputError(f"{path}: empty; give text as the model is to write it, a sentence a line")
    if not _known(tokenizer, found):
        raise InputError(f"{path}: none of the model's pieces is in it; give text of a language that the model writes")
    return found


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line {number} is not UTF-8 ({error.reason}); save the text as UTF-8") from error


def pieces_of_languages(tokenizer: PreTrainedTokenizerBase, languages: Sequence[str]) -> set[int]:
    """Return the ids of the pieces that languages need, from wordfreq's word lists.

    The 10,000 most frequent words in lower case and capitalised, their characters one by one, numbers up to 2,100,
    punctuation and currency signs. A corpus of what is to be translated serves better.

    Args:
        languages: BCP 47, such as de or en-GB.

    Raises:
        InputError: a language that there is no list of, or that the vocabulary does not know.
    """
    lists = {language: _listed(language) for language in languages}  # first of all: the rest takes seconds
    found = {i for ids in _encode(tokenizer, map(str, range(NUMBERS + 1))) for i in ids} | _marks(tokenizer)
    for language, name in lists.items():
        words = [w for w in wordfreq.top_n_list(name, WORDS) if not any(c.isdigit() for c in w)]
        words += [w[:1].upper() + w[1:] for w in words]
        encoded = _encode(tokenizer, words)
        if 2 * sum(_known(tokenizer, ids) for ids in encoded) < len(encoded):
            raise InputError(f"lang:{language}: the model's vocabulary lacks its letters; the model cannot write it")
        found.update(*encoded)
        if get_language_info(name)["tokenizer"] in ("jieba", "mecab"):  # words, or their parts, without spaces between
            found.update(*_model(tokenizer).encode(words))
        characters = {c for word in words for c in word}
        found |= _ids(tokenizer, (prefix + c for c in characters for prefix in ("", _SPACE)))
    return found


def _listed(language: str) -> str:
    """Return the word list of a language, or of what is written nearly alike (de-CH: de; hr: sh)."""
    there = sorted(wordfreq.available_languages("best"))
    match = langcodes.closest_supported_match(language, there, 9) if langcodes.tag_is_valid(language) else None
    if match is None:
        raise InputError(f"lang:{language}: no word list; there are {' '.join(there)}; give a text file for any other")
    return match


def _marks(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the pieces of one character that is punctuation, a currency sign, or one of ASCII's other signs."""
    marks = set()
    for i in range(_model(tokenizer).get_piece_size()):
        mark = _model(tokenizer).id_to_piece(i).removeprefix(_SPACE)
        category = unicodedata.category(mark) if len(mark) == 1 else ""
        if category.startswith("P") or category == "Sc" or (category and mark in string.punctuation):
            marks.add(i)
    return marks


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids


def _ids(tokenizer: PreTrainedTokenizerBase, wanted: Iterable[str]) -> set[int]:
    return {_model(tokenizer).piece_to_id(piece) for piece in wanted} - {_model(tokenizer).unk_id()}


def _model(tokenizer: PreTrainedTokenizerBase) -> Any:  # sentencepiece has no types
    return tokenizer.sp_model


def _known(tokenizer: PreTrainedTokenizerBase, found: Iterable[int]) -> bool:
    """Tell whether there is a piece that stands for text: not unknown, a byte, or the boundary of a word."""
    model = _model(tokenizer)
    text = (i for i in found if i < model.get_piece_size() and not (model.is_unknown(i) or model.is_control(i)))
    return any(not model.is_byte(i) and model.id_to_piece(i) != _SPACE for i in text)


def trim(checkpoint: Checkpoint, keep: set[int]) -> Trimmed:
    """Make a checkpoint with the pieces ``keep`` alone; the given one stays as it is.

    Kept besides: special pieces and bytes, the word boundary, the prompt's pieces, and four that make text be cut into
    pieces as before. All weights but the two tables are shared with the given checkpoint, not copied. T5's sentinels
    and rows beyond the tokenizer's pieces go.

    Raises:
        CheckpointError: the tokenizer or the configuration is of a kind that cannot be trimmed.
    """
    tokenizer, before = checkpoint.tokenizer, checkpoint.model.language_model
    _refuse_unknown_kinds(tokenizer, before)
    proto = sentencepiece_model_pb2.ModelProto.FromString(_model(tokenizer).serialized_model_proto())
    prompt = checkpoint.config.model.language_model.prompt
    kept = keep | _always(tokenizer, proto, tokenizer(prompt).input_ids if prompt is not None else [])
    ids = sorted(i for i in kept if i < len(proto.pieces))
    rows = torch.tensor(ids)
    old = (before.get_input_embeddings().weight.detach(), before.lm_head.weight.detach())
    tables = [table[rows.to(table.device)] for table in old]
    language_model = with_tables(before, *tables)

    size = {"vocab_size": len(ids)}
    model_config = checkpoint.config.model
    model_config = model_config.model_copy(
        update={"language_model": model_config.language_model.model_copy(update=size)}
    )
    memo: dict[int, object] = {id(p): p for p in checkpoint.model.parameters()}
    memo[id(before)] = language_model
    model: Signet = copy.deepcopy(checkpoint.model, memo)
    model.config = model_config
    small = Checkpoint(
        model,
        list(checkpoint.experts),
        _tokenizer_of(proto, ids, tokenizer),
        checkpoint.config.model_copy(update={"model": model_config}),
    )
    return Trimmed(small, tuple(ids), len(old[0]), *(sum(t.nbytes for t in part) for part in (tables, old)))


def with_tables(
    language_model: MT5ForConditionalGeneration, embedding: Tensor, head: Tensor
) -> MT5ForConditionalGeneration:
    """Make a model with other tables (V, E) for the vocabulary's two, configured for their size.

    It has modules and configurations of its own; all other weights are the given model's, not copied.
    """
    model = copy.deepcopy(language_model, {id(p): p for p in language_model.parameters()})
    table = nn.Embedding.from_pretrained(embedding, freeze=not model.shared.weight.requires_grad)
    model.set_input_embeddings(table)
    linear = nn.Linear(head.shape[1], head.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(head, requires_grad=model.lm_head.weight.requires_grad)
    model.set_output_embeddings(linear.train(model.lm_head.training))
    table.train(model.training)
    for config in (model.config, model.encoder.config, model.decoder.config):
        config.vocab_size = len(embedding)
    return model


def _refuse_unknown_kinds(tokenizer: PreTrainedTokenizerBase, language_model: MT5ForConditionalGeneration) -> None:
    """Raise CheckpointError for whatever would be silently wrong with other ids."""
    what = "the vocabulary cannot be trimmed"
    if not isinstance(tokenizer, T5Tokenizer):
        raise CheckpointError(
            f"{what}: the tokenizer is a {type(tokenizer).__name__}, not T5's with a SentencePiece model"
        )
    if (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) != _SPECIAL:
        raise CheckpointError(f"{what}: the tokenizer's padding, end and unknown are not 0, 1 and 2, as mT5's are")
    pieces = _model(tokenizer).get_piece_size()
    added = {i: str(t) for i, t in tokenizer.added_tokens_decoder.items() if i not in _SPECIAL}
    others = sorted(token for token in added.values() if not token.startswith("<extra_id_"))
    if others:
        raise CheckpointError(f"{what}: tokens were added to the tokenizer ({', '.join(others[:3])})")
    rows = min(language_model.get_input_embeddings().weight.shape[0], language_model.lm_head.weight.shape[0])
    if rows < pieces:
        raise CheckpointError(f"{what}: the tokenizer has {pieces} pieces and the model only {rows}")
    if language_model.config.tie_word_embeddings:
        raise CheckpointError(f"{what}: its embedding and output head are one, and mT5's are two")
    for config in (language_model.config, language_model.generation_config or GenerationConfig()):
        for name in _TOKENS:
            value = getattr(config, name, None)
            if any(v not in _SPECIAL for v in (value if isinstance(value, list) else [value]) if v is not None):
                raise CheckpointError(f"{what}: {name} is {value}, and only 0, 1 and 2 keep their meaning")
        for name in _TOKEN_LISTS:
            if getattr(config, name, None):
                raise CheckpointError(f"{what}: {name} of the generation's configuration names pieces; remove it")


def _always(
    tokenizer: PreTrainedTokenizerBase, proto: sentencepiece_model_pb2.ModelProto, prompt: Sequence[int]
) -> set[int]:
    if proto.trainer_spec.model_type not in (_TRAINER.UNIGRAM, _TRAINER.CHAR):
        kind = _TRAINER.ModelType.Name(proto.trainer_spec.model_type)
        raise CheckpointError(f"the vocabulary cannot be trimmed: its kind is {kind}, and only UNIGRAM and CHAR can be")
    types = (_PIECE.CONTROL, _PIECE.UNKNOWN, _PIECE.BYTE)
    kept = {i for i, piece in enumerate(proto.pieces) if piece.type in types or piece.piece == _SPACE}
    # SentencePiece derives the scores of what is unknown from the lowest, and of what a user defined from the highest.
    scored = [i for i, piece in enumerate(proto.pieces) if piece.type == _PIECE.NORMAL]
    extremes = {pick(scored, key=lambda i: proto.pieces[i].score) for pick in (min, max)} if scored else set()
    # T5's tokenizer hands every text to SentencePiece behind its own unknown token, spelled out.
    return kept | extremes | set(prompt) | set(_model(tokenizer).encode(str(tokenizer.unk_token)))


def _tokenizer_of(
    proto: sentencepiece_model_pb2.ModelProto, ids: Sequence[int], like: PreTrainedTokenizerBase
) -> T5Tokenizer:
    """Make the tokenizer of the pieces ``ids``, in their order; ``proto`` is changed."""
    pieces = [proto.pieces[i] for i in ids]
    del proto.pieces[:]
    proto.pieces.extend(pieces)
    proto.trainer_spec.vocab_size = len(pieces)
    # What the full model makes of some texts (self_test_data): another model refuses to load with it. Newer releases of
    # sentencepiece do not know the field, and keep it unread.
    if "self_test_data" in proto.DESCRIPTOR.fields_by_name:
        proto.ClearField("self_test_data")
    proto.DiscardUnknownFields()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "spiece.model")
        path.write_bytes(proto.SerializeToString())
        return T5Tokenizer(
            str(path),
            extra_ids=0,
            legacy=like.legacy,
            add_prefix_space=like.add_prefix_space,
            sp_model_kwargs=like.sp_model_kwargs,
            model_max_length=like.model_max_length,
            clean_up_tokenization_spaces=like.clean_up_tokenization_spaces,
        )


@torch.no_grad()
def agreement(
    full: Signet, trimmed: Trimmed, clips: Sequence[dict], num_beams: int, max_new_tokens: int, batch: int = 8
) -> Agreement:
    """Compare both models' tokens for clips (regions), greedily and with beams.

    Raises:
        BundleError: a greedy text of kept pieces alone came out otherwise.
    """
    small, new_id = trimmed.checkpoint.model.eval(), {old: new for new, old in enumerate(trimmed.ids)}
    counts = {1: [0, 0], num_beams: [0, 0]}  # kept, and the same
    for start in range(0, len(clips), batch):
        padded, mask = pad_regions(list(clips[start : start + batch]))
        features = full.eval().features(padded, mask)
        for beams, count in counts.items():
            wanted = _written(full.generate(features, mask, beams, max_new_tokens))
            given = _written(small.generate(features, mask, beams, max_new_tokens))
            for old, new in zip(wanted, given, strict=True):
                if all(token in new_id for token in old):
                    count[0] += 1
                    count[1] += [new_id[token] for token in old] == new
    kept, same = counts[1]
    if same < kept:
        raise BundleError(
            f"trimmed vocabulary: {kept - same} of {kept} texts of kept pieces come out otherwise; nothing was written"
        )
    return Agreement(len(clips), kept, *counts[num_beams])


def _written(tokens: Tensor) -> list[list[int]]:
    return [[token for token in row if token not in _SPECIAL[:2]] for row in tokens.tolist()]
