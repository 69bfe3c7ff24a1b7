"""Token ids -> text, as transformers' `T5Tokenizer` spells them, with sentencepiece alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from signet_runtime.boundary import read_bounded, read_json, reading
from signet_runtime.bundle import Bundle
from signet_runtime.errors import BundleError, EngineError

PIECES, CONFIG = "spiece.model", "tokenizer_config.json"
_ADVICE = "copy or export the bundle again"
_MOST_EXTRA = 100_000  # mT5 has 100, or none

_SPACE = "▁"
_NAMED = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
_OTHERS = ("bos_token", "sep_token", "cls_token", "mask_token")
# transformers' `clean_up_tokenization`, in its order.
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


class Tokenizer:
    """A SentencePiece model and what a tokenizer's configuration adds to it.

    Args:
        model: bytes of the SentencePiece model.
        config: contents of `tokenizer_config.json`.
    """

    def __init__(self, model: bytes, config: dict[str, Any]) -> None:
        from sentencepiece import SentencePieceProcessor

        self._pieces = SentencePieceProcessor(model_proto=model)
        size = self._pieces.get_piece_size()
        count = config.get("extra_ids", 100)
        if type(count) is not int or not 0 <= count <= _MOST_EXTRA:
            raise ValueError(f"extra_ids {ascii(count)[:40]}")
        extra = [f"<extra_id_{i}>" for i in range(count)]
        additional = config.get("additional_special_tokens")
        additional = extra if additional is None else [_content(token) for token in additional]
        self._added = {size + len(extra) - 1 - i: token for i, token in enumerate(extra)} if additional == extra else {}
        self._added |= {int(i): _content(token) for i, token in config.get("added_tokens_decoder", {}).items()}
        named = [_content(config.get(name) or default) for name, default in _NAMED.items()]
        named += [_content(config[name]) for name in _OTHERS if config.get(name)]
        self._special = {*named, *additional}
        self._apart = set(self._added.values()) - self._special
        if not all(isinstance(token, str) for token in (*self._special, *self._added.values())):
            raise ValueError("a token that is no text")
        self._strips_prefix = bool(config.get("add_prefix_space", True))
        self._cleans_up = bool(config.get("clean_up_tokenization_spaces", False))

    @classmethod
    def of(cls, bundle: Bundle) -> Tokenizer:
        """Read the tokenizer of a bundle, whose manifest lists it.

        Raises:
            BundleError: its files are not listed, or damaged.
            EngineError: sentencepiece is not installed.
        """
        for name in (PIECES, CONFIG):
            bundle.file(name)
        return cls.read(bundle.path)

    @classmethod
    def read(cls, directory: Path) -> Tokenizer:
        """Read the tokenizer in a directory.

        Raises:
            BundleError: its files are missing or damaged.
            EngineError: sentencepiece is not installed.
        """
        model = read_bounded(directory / PIECES, "tokenizer_bytes", BundleError, advice=_ADVICE)
        config = read_json(directory / CONFIG, "settings_bytes", BundleError, advice=_ADVICE)
        try:
            with reading(directory, BundleError, f"the tokenizer of an mT5 ({PIECES}, {CONFIG})", _ADVICE):
                return cls(model, config)
        except ImportError as error:
            raise EngineError(f"the text decoder cannot be loaded ({error}); install signet-slt again") from error

    def decode(self, tokens: Iterable[int]) -> str:
        """Spell the ids. Special tokens, and ids that only pad the vocabulary, spell nothing."""
        size = self._pieces.get_piece_size()
        known = [self._added.get(i) or self._pieces.id_to_piece(i) for i in tokens if i in self._added or i < size]
        parts: list[str] = []
        pieces: list[str] = []
        for piece in known:
            if piece in self._special:
                continue
            if piece in self._apart:
                parts += filter(None, [self._spell(pieces)])
                parts.append(piece)
                pieces = []
            else:
                pieces.append(piece)
        text = " ".join([*parts, self._spell(pieces)] if pieces else parts)
        if self._cleans_up:
            for before, after in _CLEANED:
                text = text.replace(before, after)
        return text.strip()

    def pieces(self, tokens: Iterable[int]) -> list[str]:
        """Name the piece of each id, a space where SentencePiece has its mark; what only pads has an empty one."""
        size = self._pieces.get_piece_size()
        named = (self._added.get(i) or (self._pieces.id_to_piece(i) if i < size else "") for i in tokens)
        return ["" if piece in self._special else piece.replace(_SPACE, " ") for piece in named]

    def _spell(self, pieces: list[str]) -> str:
        if pieces and pieces[0].startswith(_SPACE) and self._strips_prefix:
            pieces = [pieces[0][1:], *pieces[1:]]
        return self._pieces.decode(pieces).strip()


def _content(token: str | dict[str, Any]) -> str:
    return token if isinstance(token, str) else token["content"]
