"""How well reliability tells what a bundle reads right from what it cannot read.

    python -m benchmarks.confidence                              the demo, on spelled words and on what is none
    python -m benchmarks.confidence --recording lis.mp4 --recording wlasl.mp4    continuous signing, other signs
    python -m benchmarks.confidence --markdown benchmarks/results/confidence.md

Words of the demo's alphabets that were in no training, against: other alphabets; stretches of recordings of signing
that is no spelling; hands at rest; random motion, which is not what the calibration is fitted on. AUROC is how often a
word gets the higher reliability. Risk and coverage: of the surest share of the words, the characters that are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from benchmarks.measuring.report import Table, header
from signet_export.confidence import auroc
from signet_runtime import Bundle, PoseSequence, Translation, Translator
from signet_runtime.errors import SignetError
from signet_runtime.files import whole_file
from signet_train.data.spelled.clips import SIGN_LANGUAGES, WORD_LISTS, Pace, spell, words
from signet_train.evaluation.metrics import character_error_rate

LIMIT = 0.95  # of AUROC
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_TOGETHER = 20
_SHOULDERS = [5, 6]
_ARMS = ((9, 7, 5, slice(91, 112)), (10, 8, 6, slice(112, 133)))


def spelled(sign_languages: Sequence[str], each: int, rng: np.random.Generator) -> Iterator[tuple[PoseSequence, str]]:
    """Yield words that were in no training, as poses and text."""
    for sign_language in sign_languages:
        listed = words(sign_language, split="test", max_letters=6)
        for word in rng.choice(listed, size=min(each, len(listed)), replace=False).tolist():
            yield spell(word, sign_language, Pace()), word


def stretches(recording: PoseSequence, count: int, rng: np.random.Generator) -> Iterator[PoseSequence]:
    """Yield stretches of 0.8 to 2.6 s from anywhere in a recording, at up to 1.4 times its speed."""
    for _ in range(count):
        length = min(len(recording), round(rng.uniform(0.8, 2.6) * recording.fps))
        start = rng.integers(len(recording) - length + 1)
        part = recording.take(np.arange(start, start + length))
        yield replace(part, fps=part.fps * rng.uniform(0.7, 1.4))


def at_rest(people: Sequence[PoseSequence], count: int, rng: np.random.Generator) -> Iterator[PoseSequence]:
    """Yield somebody whose arms hang down, for 1 to 4 s, swaying a little; half of the time the hands are not found."""
    for _ in range(count):
        person = people[int(rng.integers(len(people)))]
        frames = round(rng.uniform(1, 4) * 25)
        keypoints = np.repeat(person.keypoints[:1], frames, axis=0)
        keypoints = keypoints + np.cumsum(rng.normal(0, 0.0006, keypoints.shape), axis=0)
        scores = np.repeat(person.scores[:1], frames, axis=0)
        width = float(np.abs(np.diff(keypoints[0, _SHOULDERS, 0]))[0])
        for wrist, elbow, shoulder, hand in _ARMS:
            down = keypoints[:, shoulder] + np.array([0, 1.5 * width])
            keypoints[:, hand] += (down - keypoints[:, wrist])[:, None]
            keypoints[:, wrist] = down
            keypoints[:, elbow] = keypoints[:, shoulder] + np.array([0, 0.75 * width])
            scores[:, hand] = 0.0 if rng.random() < 0.5 else scores.max()
        yield PoseSequence(keypoints, scores, 25.0, person.size, "rest")


def random_motion(people: Sequence[PoseSequence], count: int, rng: np.random.Generator) -> Iterator[PoseSequence]:
    """Yield somebody whose hands wander, and whose fingers do: sums of slow waves from a pose of theirs."""
    for _ in range(count):
        person = people[int(rng.integers(len(people)))]
        frames = round(rng.uniform(1, 3) * 25)
        middle = len(person) // 2
        keypoints = np.repeat(person.keypoints[middle : middle + 1], frames, axis=0)
        scores = np.repeat(person.scores[middle : middle + 1], frames, axis=0)
        width = float(np.abs(np.diff(keypoints[0, _SHOULDERS, 0]))[0])
        seconds = np.arange(frames)[:, None] / 25
        for wrist, elbow, _, hand in _ARMS:
            path = np.zeros((frames, 2))
            fingers = np.zeros((frames, 21, 2))
            for _ in range(3):
                wave = np.sin(2 * np.pi * rng.uniform(0.3, 2) * seconds + rng.uniform(0, 2 * np.pi))
                path += rng.normal(0, 0.35 * width, 2) * wave
                wave = np.sin(2 * np.pi * rng.uniform(0.5, 3) * seconds + rng.uniform(0, 2 * np.pi))
                fingers += rng.normal(0, 0.05 * width, (21, 2)) * wave[..., None]
            keypoints[:, wrist] += path
            keypoints[:, elbow] += path / 2
            keypoints[:, hand] += path[:, None] + fingers
            scores[:, hand] = 1.0
        yield PoseSequence(keypoints, scores, 25.0, person.size, "random")


def read(translator: Translator, clips: Sequence[PoseSequence]) -> list[Translation]:
    """Translate clips in batches."""
    batches = (clips[i : i + _TOGETHER] for i in range(0, len(clips), _TOGETHER))
    return [translation for batch in batches for translation in translator.translate_poses(batch)]


def _sure(translations: Sequence[Translation]) -> np.ndarray:
    return np.array([t.reliability for t in translations], float)


@click.command()
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="[default: the demo]")
@click.option("--words", "each", default=40, show_default=True, help="Words an alphabet.")
@click.option("--clips", default=60, show_default=True, help="Clips of each other kind.")
@click.option("--recording", "recordings", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--seed", default=2, show_default=True)
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write the report there.")
def main(
    bundle: Path | None, each: int, clips: int, recordings: tuple[Path, ...], seed: int, markdown: Path | None
) -> None:
    """Print the tables; exit with 1 when a limit is missed."""
    try:
        translator = Translator(Bundle.load(bundle))
        rng = np.random.default_rng(seed)
        known = list(spelled(SIGN_LANGUAGES, each, rng))
        people = [clip for clip, _ in known]
        others = [s for s in WORD_LISTS if s not in SIGN_LANGUAGES]
        kinds: dict[str, list[PoseSequence]] = {
            f"other alphabets ({', '.join(others)})": [clip for clip, _ in spelled(others, clips // len(others), rng)]
        }
        for path in recordings:
            recorded = translator.read_poses(path)
            people.append(recorded)
            kinds[path.name] = [recorded, *stretches(recorded, clips - 1, rng)]
        kinds["hands at rest"] = list(at_rest(people, clips, rng))
        kinds["random motion"] = list(random_motion(people, clips, rng))
        found = read(translator, [clip for clip, _ in known])
        against = {kind: read(translator, those) for kind, those in kinds.items()}
    except SignetError as error:
        raise click.ClickException(str(error)) from error
    if found[0].reliability is None:
        raise click.ClickException("this bundle has no calibration: signet-export --calibrate-confidence")
    wrong = np.array([character_error_rate([w], [t.text]) for (_, w), t in zip(known, found, strict=True)])
    sure = _sure(found)
    sorts, met = _sorting(sure, against)
    risk = _risk(sure, wrong)
    met = met and _wrong_in(sure, wrong, 0.8) <= 0.5 * float(wrong.mean())
    text = f"{sorts.markdown()}\n\n{risk.markdown()}\n"
    click.echo(text)
    if markdown is not None:
        with whole_file(markdown) as temporary:
            temporary.write_text(f"# Reliability\n\n`python -m benchmarks.confidence`; {header()}\n\n{text}")
    raise SystemExit(0 if met else 1)


def _sorting(sure: np.ndarray, against: dict[str, list[Translation]]) -> tuple[Table, bool]:
    columns = ["against", "clips", "AUROC", "reliability there, median (95%)", "at least 0.5", "read, for example"]
    table = Table("sorting", f"{len(sure)} words, reliability {np.median(sure):.2f} in the median, against", columns)
    met = True
    for kind, found in against.items():
        theirs = _sure(found)
        area = auroc(sure, theirs)
        met = met and (area >= LIMIT or kind.startswith("other alphabets"))  # which are read, by letters they share
        shown = f"{np.median(theirs):.2f} ({np.quantile(theirs, 0.95):.2f})"
        table.rows.append((kind, len(found), f"{area:.3f}", shown, f"{(theirs >= 0.5).mean():.0%}", found[0].text))
    table.notes.append(f"of the words, {(sure >= 0.5).mean():.1%} have a reliability of 0.5 and more")
    return table, met


def _risk(sure: np.ndarray, wrong: np.ndarray) -> Table:
    table = Table("risk", "Risk and coverage, the words alone", ["coverage", "characters wrong", "words wrong"])
    order = np.argsort(-sure, kind="stable")
    for coverage in COVERAGES:
        kept = wrong[order[: round(coverage * len(wrong))]]
        table.rows.append((f"{coverage:.0%}", f"{kept.mean():.2%}", f"{(kept > 0).mean():.1%}"))
    return table


def _wrong_in(sure: np.ndarray, wrong: np.ndarray, coverage: float) -> float:
    kept = np.argsort(-sure, kind="stable")[: round(coverage * len(wrong))]
    return float(wrong[kept].mean())


if __name__ == "__main__":
    main()
