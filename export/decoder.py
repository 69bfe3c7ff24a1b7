"""The mT5 decoders through Optimum: one for the first token, one for every later token with its cache."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

from transformers import MT5ForConditionalGeneration, PreTrainedTokenizerBase

DECODER, DECODER_WITH_PAST = "decoder_model.onnx", "decoder_with_past_model.onnx"


def export_decoders(
    language_model: MT5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, directory: Path
) -> None:
    """Write both decoders, the model's and generation's configuration and the tokenizer into ``directory``.

    Apart, not merged: the merged graph hides the two behind an ``If``, which TensorRT's compiler refuses.
    """
    from optimum.exporters.onnx import main_export

    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "source"), Path(scratch, "target")
        language_model.save_pretrained(source)
        tokenizer.save_pretrained(source)
        # The exporters report to stdout and warn about every traced comparison; results own stdout.
        for noisy in ("optimum", "transformers"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main_export(
                str(source),
                output=str(target),
                task="text2text-generation-with-past",
                monolith=False,
                no_post_process=True,
                do_validation=False,
            )
        # Optimum's own text encoder stays behind: encoder.onnx takes its place.
        for file in (DECODER, DECODER_WITH_PAST, "config.json", "generation_config.json"):
            shutil.copy(target / file, directory / file)
        for data in target.glob("decoder*.onnx_data"):
            shutil.copy(data, directory / data.name)
        tokenizer.save_pretrained(directory)
