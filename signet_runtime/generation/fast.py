"""Generation with numpy and ONNX Runtime alone.

What Optimum does on the way from token to token and this does not: computing the first step once for every beam,
giving each beam its copy of the keys and values that a single clip's cross-attention reads, log-probabilities of the
whole vocabulary, and decoding clips that are done until the last one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import Encoded
from signet_runtime.errors import BundleError
from signet_runtime.generation.hypothesis import CROSS_ATTENTION, Hypothesis
from signet_runtime.generation.memory import HostMemory, Memory, memory_of
from signet_runtime.generation.search import Candidates, beam_search, greedy_search
from signet_runtime.generation.settings import FILE as SETTINGS
from signet_runtime.generation.settings import SearchSettings
from signet_runtime.generation.tokenizer import Tokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class FastDecoder:
    """The two decoders of a bundle (first step, and later steps with a cache) and its tokenizer.

    In an int8 engine what is computed together is rounded together, so there a text depends, within the error of int8,
    on which other clips are in the batch and how long they last.

    Args:
        memory: where tensors lie; None takes it from the sessions.

    Raises:
        BundleError: the sessions are not a bundle's decoders.
    """

    def __init__(
        self,
        decoder: InferenceSession,
        decoder_with_past: InferenceSession,
        settings: SearchSettings,
        tokenizer: Tokenizer,
        *,
        num_beams: int = 4,
        max_new_tokens: int = 100,
        memory: Memory | None = None,
    ) -> None:
        self._sessions = _Sessions(decoder, decoder_with_past)
        self._memory = memory or memory_of(decoder_with_past)
        self._settings, self._tokenizer = settings, tokenizer
        self._num_beams, self._max_new_tokens = num_beams, max_new_tokens

    @classmethod
    def from_bundle(cls, bundle: Bundle, decoder: InferenceSession, decoder_with_past: InferenceSession) -> FastDecoder:
        """Make one with a bundle's settings and tokenizer.

        Raises:
            BundleError: they cannot be read, or ask for what only `--generation optimum` has.
        """
        generation = bundle.manifest.generation
        return cls(
            decoder,
            decoder_with_past,
            SearchSettings.read(bundle.file(SETTINGS).parent),
            Tokenizer.of(bundle),
            num_beams=generation.num_beams,
            max_new_tokens=generation.max_new_tokens,
        )

    @property
    def max_new_tokens(self) -> int:
        """The bundle's limit."""
        return self._max_new_tokens

    def generate(
        self, encoded: Encoded, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[list[int]]:
        """Return the token ids for each clip of the batch, see `TextDecoder.generate`; ``encoded`` is of arrays.

        Raises:
            EngineError: a decoder failed.
        """
        return [best.tokens for best, *_ in self._search(encoded, num_beams, max_new_tokens)]

    @property
    def reentrant(self) -> bool:
        """Whether what is at work lies with the search alone, as on a CPU."""
        return isinstance(self._memory, HostMemory)

    @property
    def gives_attention(self) -> bool:
        """Whether the bundle's decoders have that output."""
        return self._sessions.gives_attention

    def search(
        self, encoded: Encoded, num_beams: int | None = None, *, n_best: int = 1, attention: bool = False
    ) -> list[list[Hypothesis]]:
        """Return for each clip its likeliest texts, see `TextDecoder.search`; ``encoded`` is of arrays.

        Raises:
            EngineError: a decoder failed.
        """
        return self._search(encoded, num_beams, None, n_best, attention)

    def _search(
        self,
        encoded: Encoded,
        num_beams: int | None,
        max_new_tokens: int | None,
        n_best: int = 1,
        attention: bool = False,
    ) -> list[list[Hypothesis]]:
        assert isinstance(encoded.hidden_states, np.ndarray), "tensors go through Optimum"
        step = _Decoding(self._sessions, self._memory, encoded, attention)
        clips, limit = len(encoded.hidden_states), max_new_tokens or self._max_new_tokens
        beams = num_beams or self._num_beams
        if beams == 1:
            found = [[text] for text in greedy_search(step, clips, self._settings, limit)]
        else:
            found = beam_search(step, clips, self._settings, limit, beams, n_best)
        marks = self._settings.marks
        return [
            [Hypothesis.of(text.tokens, text.log_probs, step.attention(text.rows), marks) for text in texts]
            for texts in found
        ]

    def text(self, tokens: list[list[int]]) -> list[str]:
        """Spell the token ids of `generate`."""
        return [self._tokenizer.decode(row) for row in tokens]

    def pieces(self, tokens: list[int]) -> list[str]:
        """Name the pieces of token ids."""
        return self._tokenizer.pieces(tokens)


class _Sessions:
    """Optimum's text2text layout: what goes in and comes out of both decoders, by name.

    Attributes:
        cross: keys and values of the encoder's states, the later decoder's input -> the first one's output.
        own: of the tokens, the later decoder's input -> both ones' output.
        gives_attention: whether both say what a token looked at.
    """

    def __init__(self, decoder: InferenceSession, decoder_with_past: InferenceSession) -> None:
        self.first, self.later = decoder, decoder_with_past
        self.first_inputs, self.later_inputs = ([v.name for v in s.get_inputs()] for s in (decoder, decoder_with_past))
        past = {n: n.replace("past_key_values", "present", 1) for n in self.later_inputs if n.startswith("past_key_")}
        self.cross = {name: present for name, present in past.items() if ".encoder." in name}
        self.own = {name: present for name, present in past.items() if ".decoder." in name}
        self.first_outputs, self.later_outputs = ["logits", *past.values()], ["logits", *self.own.values()]
        first, later = ({v.name for v in s.get_outputs()} for s in (decoder, decoder_with_past))
        self.gives_attention = CROSS_ATTENTION in first & later
        known = {"encoder_attention_mask", "encoder_hidden_states", "input_ids"}
        if not (
            self.own
            and {*self.first_outputs} <= first
            and {*self.later_outputs} <= later
            and {*self.first_inputs} <= known
            and {*self.later_inputs} <= {*self.cross, *self.own, "encoder_attention_mask", "input_ids"}
        ):
            raise BundleError("the decoder engines are not a decoder and a decoder with past; export the bundle again")


class _Decoding:
    """One batch being decoded: the `Step` of the search."""

    def __init__(self, sessions: _Sessions, memory: Memory, encoded: Encoded, attention: bool) -> None:
        self._sessions, self._encoded = sessions, encoded
        self._attention: list[np.ndarray] | None = [] if attention else None  # of every step, (R, P+T)
        # Which of the two memories it is, and so what a tensor is, is none of this class' business.
        self._memory: Any = memory
        self._clips = np.arange(0)  # of every row, which clip it is of
        self._cross: dict[str, Any] = {}  # keys and values of every clip
        self._own: dict[str, Any] = {}  # of every row
        self._attended: dict[str, Any] = {}  # cross and mask, as the later decoder reads them

    def __call__(self, tokens: np.ndarray, rows: np.ndarray, count: int) -> Candidates:
        """Go on by one token, see `Step`."""
        sessions, memory = self._sessions, self._memory
        read = memory.put(tokens[:, None])
        if not self._cross:
            self._clips = rows
            given = {
                "input_ids": read,
                "encoder_hidden_states": memory.put(self._encoded.hidden_states),
                "encoder_attention_mask": memory.put(self._encoded.attention_mask),
            }
            found = self._run(sessions.first, sessions.first_outputs, {n: given[n] for n in sessions.first_inputs})
            self._cross = {name: found[present] for name, present in sessions.cross.items()}
        else:
            # When every row continues itself nothing moves.
            if not np.array_equal(rows, np.arange(len(self._clips))):
                self._own = memory.take(self._own, rows)
            self._attend(self._clips[rows])
            given = {**self._attended, **self._own, "input_ids": read}
            found = self._run(sessions.later, sessions.later_outputs, given)
        self._own = {name: found[present] for name, present in sessions.own.items()}
        return memory.likeliest(found["logits"], count)

    def attention(self, rows: np.ndarray) -> np.ndarray | None:
        """Return what each step looked at in the row of it that is given, float32 (L, P+T), if that was kept."""
        if self._attention is None:
            return None
        return np.stack([step[row] for step, row in zip(self._attention, rows, strict=False)])

    def _run(self, session: InferenceSession, outputs: list[str], given: dict[str, Any]) -> dict[str, Any]:
        if self._attention is None:
            return self._memory.run(session, outputs, given)
        found = self._memory.run(session, [*outputs, CROSS_ATTENTION], given)
        self._attention.append(self._memory.fetch(found[CROSS_ATTENTION])[:, -1])
        return found

    def _attend(self, clips: np.ndarray) -> None:
        """Prepare the keys, values and mask of the clips that the rows are of."""
        if self._attended and np.array_equal(clips, self._clips):
            return
        self._clips = clips
        # The rows of one clip share its keys and values: the graph's products repeat what has one row.
        chosen = clips[:1] if (clips == clips[0]).all() else clips
        mask = self._encoded.attention_mask
        whole = np.array_equal(chosen, np.arange(len(mask)))
        self._attended = dict(self._cross if whole else self._memory.take(self._cross, chosen))
        if "encoder_attention_mask" in self._sessions.later_inputs:
            self._attended["encoder_attention_mask"] = self._memory.put(mask[chosen])
