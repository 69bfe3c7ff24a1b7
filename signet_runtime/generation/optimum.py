"""The reference: beam search over the exported mT5 decoders, driven by Optimum and transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from signet_runtime.boundary import reading
from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import Encoded
from signet_runtime.errors import BundleError, EngineError
from signet_runtime.generation.hypothesis import CROSS_ATTENTION, Hypothesis
from signet_runtime.installation import how_to_install
from signet_runtime.remote_code import refuse_remote_code

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_MISSING = "--generation optimum cannot be loaded ({}); {}, or take --generation fast"


class OptimumDecoder:
    """The two decoders of a bundle (first step, and later steps with a cache) and its tokenizer.

    Args:
        make_model: from the language model's configuration and the search's, the model that generates.
        first: the decoder without a cache, which reads a whole text at once, if it says what a token looks at.

    Raises:
        EngineError: Optimum or transformers cannot be loaded.
        BundleError: configuration or tokenizer in the bundle cannot be read.
    """

    def __init__(
        self, bundle: Bundle, make_model: Callable[[Any, Any], Any], first: InferenceSession | None = None
    ) -> None:
        try:
            from transformers import AutoConfig, AutoTokenizer, GenerationConfig
        except ImportError as error:
            raise EngineError(_MISSING.format(error, how_to_install("optimum"))) from error

        for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
            bundle.file(name)
        refuse_remote_code(bundle.path, BundleError)
        with reading(bundle.path, BundleError, "the language model's files", "export the bundle again"):
            # Never asked of whoever sits at the terminal, as it would be by default.
            here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            config = AutoConfig.from_pretrained(bundle.path, **here)
            search = GenerationConfig.from_pretrained(bundle.path, local_files_only=True)
            # Converting a SentencePiece model to the fast kind takes seconds, for a few dozen tokens a clip.
            fast = "tokenizer.json" in bundle.manifest.files
            self._tokenizer = AutoTokenizer.from_pretrained(bundle.path, use_fast=fast, **here)
        search.update(max_new_tokens=bundle.manifest.generation.max_new_tokens, do_sample=False)
        search.max_length = None
        self._num_beams, self._first = bundle.manifest.generation.num_beams, first
        self._model = make_model(config, search)

    @classmethod
    def onnx(
        cls, bundle: Bundle, encoder: InferenceSession, decoder: InferenceSession, decoder_with_past: InferenceSession
    ) -> OptimumDecoder:
        """Make one on ONNX Runtime, through Optimum; ``encoder`` is never run."""

        def make_model(config: Any, search: Any) -> Any:
            try:
                from optimum.onnxruntime import ORTModelForSeq2SeqLM
            except ImportError as error:
                raise EngineError(_MISSING.format(error, how_to_install("optimum"))) from error
            # Optimum wants an encoder session. It runs it only on text; here the states are always given.
            return ORTModelForSeq2SeqLM(
                config=config,
                encoder_session=encoder,
                decoder_session=decoder,
                decoder_with_past_session=decoder_with_past,
                generation_config=search,
            )

        outputs = {value.name for value in decoder.get_outputs()}
        return cls(bundle, make_model, decoder if CROSS_ATTENTION in outputs else None)

    @property
    def max_new_tokens(self) -> int:
        """The bundle's limit."""
        return int(self._model.generation_config.max_new_tokens)

    def generate(
        self, encoded: Encoded, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[list[int]]:
        """Return the token ids for each clip of the batch, see `TextDecoder.generate`."""
        tokens = self._generate(encoded, num_beams, max_new_tokens=max_new_tokens or self.max_new_tokens)
        return [[token for token in row if token not in self._marks] for row in tokens.tolist()]

    @property
    def reentrant(self) -> bool:
        """False: a model holds what it is at."""
        return False

    @property
    def gives_attention(self) -> bool:
        """Whether the bundle's ONNX decoders have that output; engines of another kind do not."""
        return self._first is not None

    def search(
        self, encoded: Encoded, num_beams: int | None = None, *, n_best: int = 1, attention: bool = False
    ) -> list[list[Hypothesis]]:
        """Return for each clip its likeliest texts, see `TextDecoder.search`.

        What a token looked at comes from reading the text once more, from its beginning to its end in one run.
        """
        import torch

        found = self._generate(
            encoded, num_beams, num_return_sequences=n_best, return_dict_in_generate=True, output_logits=True
        )
        beams = getattr(found, "beam_indices", None)
        texts: list[list[Hypothesis]] = []
        for row, tokens in enumerate(found.sequences[:, 1:].tolist()):  # the first starts it
            if self._ends & set(tokens):
                tokens = tokens[: 1 + next(i for i, token in enumerate(tokens) if token in self._ends)]
            log_probs = []
            for step, token in enumerate(tokens):
                at = row if beams is None else int(beams[row, step])
                if at < 0:  # the text ended without an end token, and what follows only pads
                    tokens = tokens[:step]
                    break
                log_probs.append(float(torch.log_softmax(found.logits[step][at].float(), dim=-1)[token]))
            clip = row // n_best
            seen = self._attention(encoded, clip, tokens) if attention else None
            if row % n_best == 0:
                texts.append([])
            texts[clip].append(Hypothesis.of(tokens, np.array(log_probs, np.float32), seen, self._marks))
        return texts

    def _generate(self, encoded: Encoded, num_beams: int | None, **options: Any) -> Any:
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        device = self._model.device
        states: Any = torch.as_tensor(encoded.hidden_states).to(device)
        return self._model.generate(
            # generate() expands this object in place for the beams: never hand in the same one twice.
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=torch.as_tensor(encoded.attention_mask).to(device),
            num_beams=num_beams or self._num_beams,
            **options,
        )

    def _attention(self, encoded: Encoded, clip: int, tokens: list[int]) -> np.ndarray:
        """Return what each of a clip's tokens looked at: float32 (L, P+T)."""
        assert self._first is not None
        read = [self._model.generation_config.decoder_start_token_id, *tokens[:-1]]
        given = {
            "input_ids": np.array([read], np.int64),
            "encoder_hidden_states": np.asarray(encoded.hidden_states)[clip : clip + 1],
            "encoder_attention_mask": np.asarray(encoded.attention_mask)[clip : clip + 1],
        }
        wanted = {value.name for value in self._first.get_inputs()}
        return self._first.run([CROSS_ATTENTION], {name: given[name] for name in wanted})[0][0]

    @property
    def _ends(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        return set(ends if isinstance(ends, list) else [ends])

    @property
    def _marks(self) -> frozenset[int]:
        search = self._model.generation_config
        return frozenset({search.decoder_start_token_id, search.pad_token_id, *self._ends})

    def text(self, tokens: list[list[int]]) -> list[str]:
        """Spell the token ids of `generate`."""
        known = [[token for token in row if token < len(self._tokenizer)] for row in tokens]
        return [text.strip() for text in self._tokenizer.batch_decode(known, skip_special_tokens=True)]

    def pieces(self, tokens: list[int]) -> list[str]:
        """Name the pieces of token ids, as `fast` does."""
        special = set(self._tokenizer.all_special_ids)
        known = [token if token < len(self._tokenizer) and token not in special else None for token in tokens]
        named = self._tokenizer.convert_ids_to_tokens([token or 0 for token in known])
        return ["" if token is None else name.replace("▁", " ") for token, name in zip(known, named, strict=True)]
