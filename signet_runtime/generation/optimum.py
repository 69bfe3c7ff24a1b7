"""The reference: beam search over the exported mT5 decoders, driven by Optimum and transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import Encoded
from signet_runtime.errors import BundleError, EngineError, one_line
from signet_runtime.installation import how_to_install

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_MISSING = "--generation optimum cannot be loaded ({}); {}, or take --generation fast"


class OptimumDecoder:
    """The two decoders of a bundle (first step, and later steps with a cache) and its tokenizer.

    Args:
        make_model: from the language model's configuration and the search's, the model that generates.

    Raises:
        EngineError: Optimum or transformers cannot be loaded.
        BundleError: configuration or tokenizer in the bundle cannot be read.
    """

    def __init__(self, bundle: Bundle, make_model: Callable[[Any, Any], Any]) -> None:
        try:
            from transformers import AutoConfig, AutoTokenizer, GenerationConfig
        except ImportError as error:
            raise EngineError(_MISSING.format(error, how_to_install("optimum"))) from error

        try:
            config = AutoConfig.from_pretrained(bundle.path, local_files_only=True)
            search = GenerationConfig.from_pretrained(bundle.path, local_files_only=True)
            # Converting a SentencePiece model to the fast kind takes seconds, for a few dozen tokens a clip.
            fast = (bundle.path / "tokenizer.json").is_file()
            self._tokenizer = AutoTokenizer.from_pretrained(bundle.path, local_files_only=True, use_fast=fast)
        except (OSError, ValueError) as error:
            raise BundleError(
                f"{bundle.path}: the language model's files cannot be read ({one_line(error)})"
            ) from error
        search.update(max_new_tokens=bundle.manifest.generation.max_new_tokens, do_sample=False)
        search.max_length = None
        self._num_beams = bundle.manifest.generation.num_beams
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

        return cls(bundle, make_model)

    @property
    def max_new_tokens(self) -> int:
        """The bundle's limit."""
        return int(self._model.generation_config.max_new_tokens)

    def generate(
        self, encoded: Encoded, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[list[int]]:
        """Return the token ids for each clip of the batch, see `TextDecoder.generate`."""
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        device = self._model.device
        states: Any = torch.as_tensor(encoded.hidden_states).to(device)
        tokens = self._model.generate(
            # generate() expands this object in place for the beams: never hand in the same one twice.
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=torch.as_tensor(encoded.attention_mask).to(device),
            num_beams=num_beams or self._num_beams,
            max_new_tokens=max_new_tokens or self.max_new_tokens,
        )
        search = self._model.generation_config
        ends = search.eos_token_id if isinstance(search.eos_token_id, list) else [search.eos_token_id]
        marks = {search.decoder_start_token_id, search.pad_token_id, *ends}
        return [[token for token in row if token not in marks] for row in tokens.tolist()]

    def text(self, tokens: list[list[int]]) -> list[str]:
        """Spell the token ids of `generate`."""
        known = [[token for token in row if token < len(self._tokenizer)] for row in tokens]
        return [text.strip() for text in self._tokenizer.batch_decode(known, skip_special_tokens=True)]
