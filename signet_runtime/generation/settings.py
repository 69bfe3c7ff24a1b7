"""What `generation_config.json` asks of the search, for a search without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from signet_runtime.boundary import read_json, reading
from signet_runtime.errors import BundleError

FILE = "generation_config.json"
_ADVICE = "export the bundle again"

# Settings that would change the text, and the values with which they do not. transformers reads None as not set.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "assistant_early_exit": (),
    "bad_words_ids": (),
    "begin_suppress_tokens": (),
    "constraints": (),
    "diversity_penalty": (0.0,),
    "do_sample": (False,),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1.0,),
    "low_memory": (False,),
    "max_time": (),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (),
    "prefill_chunk_size": (),
    "prompt_lookup_num_tokens": (),
    "remove_invalid_values": (False,),
    "renormalize_logits": (False,),
    "repetition_penalty": (1.0,),
    "sequence_bias": (),
    "stop_strings": (),
    "suppress_tokens": (),
    "token_healing": (False,),
    "use_cache": (True,),
    "watermarking_config": (),
}
# Settings without an effect on what is written: of sampling alone, of assisted generation alone, of what is returned
# besides the tokens, of how transformers computes; and the limits and beams, which every call gives.
_WITHOUT_EFFECT = frozenset(
    (
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "cache_config",
        "cache_implementation",
        "compile_config",
        "disable_compile",
        "epsilon_cutoff",
        "eta_cutoff",
        "generation_kwargs",
        "is_assistant",
        "max_length",
        "max_matching_ngram_size",
        "max_new_tokens",
        "min_p",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "num_beams",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "return_dict_in_generate",
        "return_legacy_cache",
        "target_lookbehind",
        "temperature",
        "top_k",
        "top_p",
        "transformers_version",
        "typical_p",
    )
)


_Token = Annotated[int, Field(ge=0, lt=1 << 31)]
_Count = Annotated[int, Field(ge=0, le=1 << 20)]


class SearchSettings(BaseModel):
    """What greedy and beam search obey; names and defaults are those of transformers' `GenerationConfig`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    decoder_start_token_id: _Token
    eos_token_id: _Token | Annotated[tuple[_Token, ...], Field(max_length=100)] | None = None
    pad_token_id: _Token | None = None
    length_penalty: Annotated[float, Field(ge=-100, le=100)] = 1.0
    early_stopping: bool | Literal["never"] = False
    min_length: _Count = Field(default=0, description="with the start token")
    min_new_tokens: _Count | None = None

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end a text; there may be none."""
        ids = self.eos_token_id
        return () if ids is None else (ids,) if isinstance(ids, int) else ids

    @property
    def marks(self) -> frozenset[int]:
        """Tokens that are no part of a text."""
        return frozenset((self.decoder_start_token_id, *self.ends)) | (
            set() if self.pad_token_id is None else {self.pad_token_id}
        )

    @property
    def earliest_end(self) -> int:
        """An end token is the n-th that is written at the earliest."""
        return max(1, self.min_length if self.min_new_tokens is None else self.min_new_tokens + 1)

    @classmethod
    def read(cls, directory: Path) -> SearchSettings:
        """Read the settings of a bundle.

        Raises:
            BundleError: the file is missing or damaged, or asks for what this search does not have.
        """
        path = directory / FILE
        contents: Any = read_json(path, "settings_bytes", BundleError, advice=_ADVICE)
        with reading(path, BundleError, "settings of a search", _ADVICE):
            if not isinstance(contents, dict):
                raise ValueError("not a JSON object")
            contents = {name: value for name, value in contents.items() if value is not None}
            _refuse_unsupported(path, contents)
            if "decoder_start_token_id" not in contents and "bos_token_id" in contents:
                contents["decoder_start_token_id"] = contents["bos_token_id"]
            return cls.model_validate(contents)


def _refuse_unsupported(path: Path, contents: dict[str, Any]) -> None:
    known = _NEUTRAL.keys() | _WITHOUT_EFFECT | SearchSettings.model_fields.keys() | {"bos_token_id"}
    for name, value in contents.items():
        if name.startswith("_") or (name in known and name not in _NEUTRAL) or value in _NEUTRAL.get(name, ()):
            continue
        shown = f"{name[:60]} {json.dumps(value)[:100]}"
        raise BundleError(f"{path}: fast generation does not know {shown}; use --generation optimum")
