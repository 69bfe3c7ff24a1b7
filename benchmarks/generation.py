"""What writing a text costs, mT5-base's decoder alone: `--generation fast` and `optimum` beside what else there is.

    python -m benchmarks.generation                                     the table, 5 rounds
    python -m benchmarks.generation --vocabulary 10000 --repeats 3      one vocabulary, smaller and sooner
    python -m benchmarks.generation --models /var/tmp/models            keep the models for the next time
    python -m benchmarks.generation --markdown benchmarks/results/generation-cpu.md

Random weights of the real size, random encoder states, and as many tokens as asked for, whatever the model would like:
that costs what a real text of that length does. CTranslate2 (pip install 'signet-slt[bench]') has no door for encoder
states. It is given the same decoder behind one thin layer of an encoder (2.4 of 15 million multiplications a token that
a real encoder has in two layers), for as many tokens as there are frames; that costs it some milliseconds of what is
timed. Keys and values of cross-attention are computed in all rows, and no row has a real encoder's work.
"""

from __future__ import annotations

import contextlib
import copy
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch

from benchmarks.measuring.report import Ratio, Report
from benchmarks.measuring.timing import Way, in_turns
from signet_export.decoder import DECODER, DECODER_WITH_PAST, export_decoders, share_weights
from signet_export.quantize import quantize
from signet_runtime.bundle import MANIFEST_NAME, Bundle, Manifest, write_manifest
from signet_runtime.directories import whole_directory
from signet_runtime.engines.encoder import Encoded, HostEncoded
from signet_runtime.engines.session import create_session
from signet_runtime.generation import DECODER_BACKENDS, DecoderBackend, load_text_decoder
from signet_runtime.generation.settings import FILE as GENERATION
from signet_train.config import LanguageModelConfig
from signet_train.data.workers import available_cpus
from signet_train.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import MT5ForConditionalGeneration

FULL, TRIMMED = LanguageModelConfig().vocab_size, 10_000
PRECISIONS = ("fp32", "int8")
_NO_CTRANSLATE2 = "CTranslate2 is not installed: pip install 'signet-slt[bench]'"


@dataclass(frozen=True)
class Work:
    """One clip to write a text for.

    Attributes:
        frames: positions that cross-attention reads.
        tokens: that are written, neither fewer nor more.
        beams: 1 is greedy search.
    """

    frames: int = 128
    tokens: int = 32
    beams: int = 4

    def encoded(self, width: int) -> Encoded:
        """Random encoder states."""
        states = np.random.default_rng(0).standard_normal((1, self.frames, width), np.float32)
        return HostEncoded(states, np.ones((1, self.frames), np.int64), np.ones((1, 1), np.float32))


def random_language_model(vocabulary: int) -> MT5ForConditionalGeneration:
    """mT5-base with next to no encoder: one layer, whose feed-forward part is 8 wide."""
    from transformers import MT5Config, MT5ForConditionalGeneration

    def build(**sizes: int) -> MT5ForConditionalGeneration:
        common = {"d_model": base.d_model, "d_kv": base.d_kv, "num_heads": base.num_heads}
        return MT5ForConditionalGeneration(MT5Config(**common, **sizes, decoder_start_token_id=0)).eval()

    base = LanguageModelConfig()
    torch.manual_seed(0)
    model = build(vocab_size=vocabulary, d_ff=base.d_ff, num_layers=1, num_decoder_layers=base.num_layers)
    model.encoder.block = build(vocab_size=8, d_ff=8, num_layers=1).encoder.block
    model.config.num_layers = base.num_layers  # transformers makes the decoder's cache by it
    return model


def write_bundles(model: MT5ForConditionalGeneration, directory: Path, tokens: int, precisions: Sequence[str]) -> None:
    """Write the decoders as `signet-export` does, a folder a precision; what is there already stays."""
    for precision in ("fp32", *precisions):  # int8 is made from fp32
        target = directory / precision
        if target.exists():
            continue
        with whole_directory(target) as draft:
            converted = draft.with_name("converted")
            converted.mkdir()
            if precision == "fp32":
                export_decoders(model, train_tokenizer(["abc"], 64), draft)
                search = copy.deepcopy(model.generation_config)
                assert search is not None
                search.update(min_new_tokens=tokens)
                search.to_json_file(draft / GENERATION)
            else:
                for name in (DECODER, DECODER_WITH_PAST):
                    quantize(directory / "fp32" / name, converted / name)
                share_weights([converted / name for name in (DECODER, DECODER_WITH_PAST)], draft)
                for file in (directory / "fp32").glob("*"):
                    if file.suffix in (".json", ".model") and file.name != MANIFEST_NAME:
                        shutil.copy(file, draft)
            write_manifest(draft, _manifest(precision, tokens))


def _manifest(precision: str, tokens: int) -> Manifest:
    files = {"encoder": DECODER, "decoder": DECODER, "decoder_with_past": DECODER_WITH_PAST}  # there is no encoder
    return Manifest.model_validate(
        {
            "name": "random",
            "language": "mul",
            "routing": {"k": 1},
            "normalisation": "unisign",
            "pose_estimator": "none",
            "experts": [{"name": "none", "sign_languages": [], "corpus": "none"}],
            "generation": {"max_new_tokens": tokens},
            "engines": [{"kind": "onnx", "precision": precision, **files}],
        }
    )


def onnx_ways(directory: Path, work: Work, width: int) -> dict[str, Way]:
    """`fast` and `optimum` over the decoders of one precision."""
    bundle = Bundle.load(directory)
    engine = bundle.engine()
    encoded = work.encoded(width)
    # Optimum wants an encoder's session and never runs it.
    never_run = create_session(bundle.file(engine.decoder), "cpu", prepack=False)

    def way(name: DecoderBackend) -> Way:
        decoder = load_text_decoder(bundle, engine, "cpu", never_run, name)
        return Way(name, lambda: decoder.generate(encoded, work.beams, work.tokens))

    return {name: way(name) for name in DECODER_BACKENDS}


def eager_way(model: MT5ForConditionalGeneration, work: Work) -> Way:
    """Return the generation that transformers comes with, in PyTorch."""
    from transformers.modeling_outputs import BaseModelOutput

    encoded = work.encoded(model.config.d_model)
    states, mask = torch.from_numpy(encoded.hidden_states), torch.from_numpy(encoded.attention_mask)

    @torch.no_grad()
    def run() -> object:
        return model.generate(
            # A new one each time: generate() expands it in place for the beams.
            encoder_outputs=BaseModelOutput(last_hidden_state=states),  # type: ignore[arg-type]
            attention_mask=mask,
            num_beams=work.beams,
            min_new_tokens=work.tokens,
            max_new_tokens=work.tokens,
        )

    return Way("transformers, eager", run)


def has_ctranslate2() -> bool:
    """Whether the row can be measured here."""
    with contextlib.suppress(ImportError):
        import ctranslate2.converters  # noqa: F401

        return True
    return False


def convert_to_ctranslate2(model: MT5ForConditionalGeneration, directory: Path) -> None:
    """Write a model with CTranslate2's own converter for T5, a word a row of the vocabulary; skip what is there."""
    from ctranslate2.converters.transformers import T5Loader

    if (directory / "model.bin").is_file():
        return
    loader, layers = T5Loader(), model.config.num_layers
    model.config.num_layers = len(model.encoder.block)
    try:
        spec = loader.get_model_spec(model)
    finally:
        model.config.num_layers = layers
    words = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(3, model.config.vocab_size))]
    loader.set_vocabulary(spec, words)
    spec.config.bos_token, spec.config.decoder_start_token = words[0], words[0]
    spec.config.eos_token, spec.config.unk_token = words[1], words[2]
    spec.validate()
    directory.mkdir(parents=True, exist_ok=True)
    spec.save(str(directory))


def ctranslate2_way(directory: Path, precision: str, work: Work) -> Way:
    """CTranslate2 over a converted model. Its int8 is of the weights; it is made from fp32 when the model is loaded."""
    import ctranslate2

    translator = ctranslate2.Translator(
        str(directory),
        device="cpu",
        compute_type={"fp32": "float32", "int8": "int8"}[precision],
        inter_threads=1,
        intra_threads=available_cpus(),
    )
    source = [f"w{i}" for i in range(3, 3 + work.frames)]

    def run() -> object:
        found = translator.translate_batch(
            [source], beam_size=work.beams, min_decoding_length=work.tokens, max_decoding_length=work.tokens
        )[0].hypotheses[0]
        assert len(found) == work.tokens, f"CTranslate2 wrote {len(found)} tokens, not {work.tokens}"
        return found

    return Way(f"CTranslate2, {precision}", run)


@contextlib.contextmanager
def _directory(models: Path | None) -> Iterator[Path]:
    if models is not None:
        yield models
        return
    with tempfile.TemporaryDirectory(prefix="signet-generation-") as scratch:
        yield Path(scratch)


def prepare(directory: Path, vocabulary: int, tokens: int, precisions: Sequence[str]) -> MT5ForConditionalGeneration:
    """Write a random model of a vocabulary's size in every form that is measured; return it as it is in PyTorch."""
    model = random_language_model(vocabulary)
    write_bundles(model, directory / "onnx", tokens, precisions)
    if has_ctranslate2():
        convert_to_ctranslate2(model, directory / "ctranslate2")
    return model


def _ways(
    directory: Path, model: MT5ForConditionalGeneration, precisions: Sequence[str], work: Work
) -> dict[str, tuple[Way, str]]:
    """Return what is timed at one vocabulary: name -> it, and whether its tokens are Optimum's."""
    rows = {"transformers, eager, fp32": (eager_way(model, work), "")}
    for precision in precisions:
        if has_ctranslate2():
            rows[f"CTranslate2, {precision}"] = (ctranslate2_way(directory / "ctranslate2", precision, work), "")
        ways = onnx_ways(directory / "onnx" / precision, work, model.config.d_model)
        same = "yes" if ways["fast"].run() == ways["optimum"].run() else "NO"
        rows[f"Optimum + ONNX Runtime, {precision}"] = (ways["optimum"], "")
        rows[f"fast, {precision}"] = (ways["fast"], same)
    return rows


@click.command()
@click.option("--vocabulary", "vocabularies", multiple=True, type=int, default=(FULL, TRIMMED), show_default=True)
@click.option(
    "--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS), default=PRECISIONS, show_default=True
)
@click.option("--beams", multiple=True, type=int, default=(4, 1), show_default=True)
@click.option("--tokens", default=32, show_default=True, help="Written, neither fewer nor more.")
@click.option("--frames", default=128, show_default=True)
@click.option("--repeats", default=5, show_default=True, help="Rounds; each runs every row once.")
@click.option("--models", type=click.Path(file_okay=False, path_type=Path), help="Keep the models there (7 GB).")
@click.option("--json", "as_json", is_flag=True, help="Print all rounds as JSON instead of tables.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Also write the tables here.")
def main(
    vocabularies: tuple[int, ...],
    precisions: tuple[str, ...],
    beams: tuple[int, ...],
    tokens: int,
    frames: int,
    repeats: int,
    models: Path | None,
    as_json: bool,
    markdown: Path | None,
) -> None:
    """Time mT5-base's decoder on this CPU, one clip: PyTorch, CTranslate2, Optimum, and `--generation fast`."""

    def tell(line: str) -> None:
        click.echo(line, err=True)

    chosen = {"vocabulary": vocabularies, "precision": precisions, "beams": beams}
    options = [f"--{name} {value}" for name, values in chosen.items() for value in values]
    options += [f"--tokens {tokens}", f"--frames {frames}", f"--repeats {repeats}"]
    report = Report("python -m benchmarks.generation " + " ".join(options))
    if not has_ctranslate2():
        report.notes.append(_NO_CTRANSLATE2)
    with _directory(models) as directory:
        prepared: dict[int, Any] = {}
        for size in vocabularies:
            tell(f"preparing the models of {size:,} pieces")
            prepared[size] = prepare(directory / f"{size}-{tokens}", size, tokens, precisions)
        for count in beams:
            work = Work(frames, tokens, count)
            rows = {
                (size, name): way
                for size in vocabularies
                for name, way in _ways(directory / f"{size}-{tokens}", prepared[size], precisions, work).items()
            }
            in_turns([way for way, _ in rows.values()], repeats, torch.device("cpu"), tell)
            table = report.table(
                f"beams-{count}",
                f"{tokens} tokens, beams {count}, {frames} frames",
                "vocabulary",
                "decoder",
                "ms",
                "CTranslate2 full fp32 = 1",
                "same vocabulary = 1",
                "tokens are Optimum's",
            )
            for (size, name), (way, same) in rows.items():
                first, own = (rows.get((s, "CTranslate2, fp32")) for s in (FULL, size))
                ratios = [Ratio(way.timing, peer[0].timing) if peer else None for peer in (first, own)]
                table.rows.append([size, name, way.timing, *ratios, same])
            table.notes.append("Ratios are medians over the rounds, each row against CTranslate2 in its own round.")
            del rows
            if not as_json:
                click.echo(table.markdown() + "\n")
    if as_json:
        click.echo(report.json(), nl=False)
    if markdown is not None:
        markdown.write_text(report.markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
