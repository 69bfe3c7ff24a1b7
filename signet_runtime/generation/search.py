"""Greedy and beam search over whatever gives the next token's candidates.

Both are transformers' (`GenerationMixin._sample` without sampling, and `_beam_search`), to the last comparison, so that
they write the same tokens; only what cannot change them is left out: a clip leaves the batch when its text is settled.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from signet_runtime.generation.settings import SearchSettings

# What transformers adds to a score that is out of the race.
_OUT = np.float32(-1e9)
_NOTHING = -1  # in place of a token


class Candidates(NamedTuple):
    """What may come next in each of R rows, the likeliest first.

    Attributes:
        tokens: int64 (R, k).
        log_probs: float32 (R, k).
    """

    tokens: np.ndarray
    log_probs: np.ndarray


class Found(NamedTuple):
    """A text that the search found.

    Attributes:
        tokens: up to and with the one that ends it.
        log_probs: float32 (L,), of each token.
        rows: int64 (L,), the row of the L-th step in which the token was chosen.
    """

    tokens: list[int]
    log_probs: np.ndarray
    rows: np.ndarray


class Step(Protocol):
    """The decoder: reads one more token in each of R rows and says what may come next."""

    def __call__(self, tokens: np.ndarray, rows: np.ndarray, count: int) -> Candidates:
        """Go on by one token.

        Args:
            tokens: int64 (R,), what each row reads.
            rows: int64 (R,), the row of the call before that each row continues; in the first call, the clip.
            count: how many candidates to return; fewer where the vocabulary has fewer.
        """


def greedy_search(step: Step, clips: int, settings: SearchSettings, max_new_tokens: int) -> list[Found]:
    """Return for each clip the tokens that are the likeliest one by one, up to and with an end token."""
    written: list[list[tuple[int, np.float32, int]]] = [[] for _ in range(clips)]
    active = rows = np.arange(clips)
    tokens = np.full(clips, settings.decoder_start_token_id, np.int64)
    for length in range(1, max_new_tokens + 1):
        found = _allowed(step(tokens, rows, 1 + len(settings.ends)), settings, length)
        here = np.arange(len(active))
        best = found.log_probs.argmax(axis=1)
        tokens = found.tokens[here, best]
        for clip, *chosen in zip(active, tokens.tolist(), found.log_probs[here, best], here.tolist(), strict=True):
            written[clip].append((chosen[0], chosen[1], chosen[2]))
        rows = np.flatnonzero(~np.isin(tokens, settings.ends))
        active, tokens = active[rows], tokens[rows]
        if not len(active):
            break
    columns = (list(zip(*row, strict=True)) for row in written)
    return [Found(list(ids), np.array(log_probs), np.array(at)) for ids, log_probs, at in columns]


def beam_search(
    step: Step, clips: int, settings: SearchSettings, max_new_tokens: int, num_beams: int, n_best: int = 1
) -> list[list[Found]]:
    """Return for each clip the ``n_best`` texts of the highest scores that ``num_beams`` parallel hypotheses find.

    The best comes first. A score is the sum of the tokens' log-probabilities divided by the text's length to the power
    of the length penalty.
    """
    ends = settings.ends
    # So many that the beams can go on even if all of the likeliest candidates end.
    kept = max(2, 1 + len(ends)) * num_beams
    texts: list[list[Found]] = [[] for _ in range(clips)]

    active = np.arange(clips)  # the C clips that are not settled; what follows is theirs
    running = _Texts.none(clips, num_beams, max_new_tokens)
    finished = _Texts.none(clips, num_beams, max_new_tokens)
    # The beams are all the same at first, so only one is in the race.
    running_scores = np.where(np.arange(num_beams) == 0, np.float32(0), _OUT)[None].repeat(clips, axis=0)
    finished_scores = np.full((clips, num_beams), _OUT)
    is_finished = np.zeros((clips, num_beams), bool)

    tokens = np.full(clips, settings.decoder_start_token_id, np.int64)
    rows = np.arange(clips)
    for length in range(1, max_new_tokens + 1):
        found = _allowed(step(tokens, rows, kept + len(ends)), settings, length)
        rows_a_clip = len(rows) // len(active)  # one at first, which all beams continue

        # The best continuations over all beams of a clip.
        scores = found.log_probs.reshape(len(active), rows_a_clip, -1) + running_scores[:, :, None]
        ids = np.broadcast_to(found.tokens.reshape(len(active), rows_a_clip, -1), scores.shape)
        top = _largest(scores.reshape(len(active), -1), kept)
        beams, scores = top // scores.shape[2], _take(scores.reshape(len(active), -1), top)
        first_rows = np.arange(len(active))[:, None] * rows_a_clip
        hypotheses = running.take(beams)
        hypotheses.tokens[:, :, length - 1] = _take(ids.reshape(len(active), -1), top)
        hypotheses.log_probs[:, :, length - 1] = _take(found.log_probs.reshape(len(active), -1), top)
        hypotheses.rows[:, :, length - 1] = first_rows + beams
        ending = np.isin(hypotheses.tokens[:, :, length - 1], ends) | (length == max_new_tokens)

        # Those that go on.
        going = scores + _out(ending)
        chosen = _largest(going, num_beams)
        running, running_scores = hypotheses.take(chosen), _take(going, chosen)

        # Those that end now compete with those that ended before; only the best ``num_beams`` of them may.
        entering = ending & (np.arange(kept) < num_beams)
        scores = scores / np.float32(length**settings.length_penalty) + _out(~entering)
        scores = np.concatenate([finished_scores, scores], axis=1)
        best = _largest(scores, num_beams)
        finished, finished_scores = finished.beside(hypotheses).take(best), _take(scores, best)
        is_finished = _take(np.concatenate([is_finished, entering], axis=1), best)

        settled = ~_may_improve(settings, running_scores, finished_scores, is_finished, length, max_new_tokens)
        settled |= is_finished.all(axis=1) & (settings.early_stopping is True)
        settled |= length == max_new_tokens
        for row in np.flatnonzero(settled).tolist():
            texts[active[row]] = [finished.found(row, place) for place in range(n_best)]
        if settled.all():
            break
        rows = (first_rows + (_take(beams, chosen) if rows_a_clip > 1 else np.zeros_like(chosen)))[~settled].ravel()
        running, finished = running.of(~settled), finished.of(~settled)
        tokens = running.tokens[:, :, length - 1].ravel()
        active, running_scores = active[~settled], running_scores[~settled]
        finished_scores, is_finished = finished_scores[~settled], is_finished[~settled]
    return texts


class _Texts(NamedTuple):
    """Hypotheses of C clips: tokens int64, log_probs float32 and rows int64, all (C, H, L)."""

    tokens: np.ndarray
    log_probs: np.ndarray
    rows: np.ndarray

    @classmethod
    def none(cls, clips: int, hypotheses: int, length: int) -> _Texts:
        shape = clips, hypotheses, length
        return cls(np.full(shape, _NOTHING, np.int64), np.zeros(shape, np.float32), np.zeros(shape, np.int64))

    def take(self, hypotheses: np.ndarray) -> _Texts:
        return _Texts(*(_take(values, hypotheses) for values in self))

    def of(self, clips: np.ndarray) -> _Texts:
        return _Texts(*(values[clips] for values in self))

    def beside(self, others: _Texts) -> _Texts:
        return _Texts(*(np.concatenate(values, axis=1) for values in zip(self, others, strict=True)))

    def found(self, clip: int, place: int) -> Found:
        written = self.tokens[clip, place] != _NOTHING
        tokens, log_probs, rows = (values[clip, place][written] for values in self)
        return Found(tokens.tolist(), log_probs, rows)


def _may_improve(
    settings: SearchSettings,
    running_scores: np.ndarray,
    finished_scores: np.ndarray,
    is_finished: np.ndarray,
    length: int,
    max_new_tokens: int,
) -> np.ndarray:
    """Return whether a running hypothesis of each clip could beat the worst finished one; transformers' heuristic."""
    likely = max_new_tokens if settings.early_stopping == "never" and settings.length_penalty > 0 else length
    best_possible = running_scores[:, :1] / np.float32(likely**settings.length_penalty)
    worst = np.where(is_finished, finished_scores.min(axis=1, keepdims=True), _OUT)
    return np.any(best_possible > worst, axis=1)


def _allowed(found: Candidates, settings: SearchSettings, length: int) -> Candidates:
    """Return the candidates, end tokens being impossible while a text is too short."""
    if length >= settings.earliest_end:
        return found
    forbidden = np.isin(found.tokens, settings.ends)
    return Candidates(found.tokens, np.where(forbidden, np.float32(-np.inf), found.log_probs))


def _largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the largest of each row, falling; of equals the first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def _take(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return of each row the values at its indices, which may be rows themselves."""
    return values[np.arange(len(values))[:, None], indices]


def _out(where: np.ndarray) -> np.ndarray:
    return np.where(where, _OUT, np.float32(0))
