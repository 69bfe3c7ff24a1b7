"""Inputs of `signet-translate` side by side: each in a process with a model of its own, results in the inputs' order.

Processes and not threads, which would wait for each other wherever Python is at work. Each loads the bundle and the
estimator once: so many times the memory of one (`docs/results.md` has figures). Where one of them dies, what was done
is written, and what was not is said to have failed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from signet_runtime.bundle import Bundle
from signet_runtime.commands.console import complain
from signet_runtime.commands.inputs import SentenceOptions, as_one_sentence, name_problem
from signet_runtime.commands.output_options import check_beams
from signet_runtime.errors import EngineError, InputError, SignetError
from signet_runtime.options import TranslatorOptions
from signet_runtime.progress import Bar

if TYPE_CHECKING:
    from signet_runtime.outputs.results import OneOutput, OutputDirectory
    from signet_runtime.translation import Translation
    from signet_runtime.translator import Translator


class _Done(NamedTuple):
    """What a worker made of an input: its sentences, what ended them if not its end, and what was logged."""

    sentences: list[Translation]
    error: SignetError | None
    said: list[tuple[int, str]]


def translate_side_by_side(
    inputs: tuple[Path, ...],
    bundle: Path | None,
    verify: bool,
    options: TranslatorOptions,
    to: OneOutput | OutputDirectory,
    sentence_options: SentenceOptions,
    cut: str,
    quiet: bool,
    jobs: int,
) -> int:
    """Translate every input in one of ``jobs`` processes, and write them in their order; return the exit code.

    Raises:
        SignetError: the bundle, an engine or the estimator is no good, which is no input's fault.
    """
    logger = logging.getLogger("signet_runtime")
    checked = Bundle.load(bundle, verify=verify)  # once, and not by every process
    check_beams(checked, options)
    if checked.manifest.notice:
        logger.warning("%s", checked.manifest.notice)
    problems = {path: name_problem(path) for path in inputs}
    whole = as_one_sentence(checked.manifest.max_frames, cut)
    wanted = [path for path in inputs if problems[path] is None]
    jobs = min(jobs, len(wanted))
    code, done = 0, 0
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(_pool(jobs, checked.path, options)) if wanted else None
        bar = stack.enter_context(Bar(f"{len(inputs)} inputs", quiet))
        waiting: deque[tuple[Path, Future[_Done] | None]] = deque(
            (path, None if pool is None or problems[path] else pool.submit(_translate, path, whole, sentence_options))
            for path in inputs
        )
        while waiting:
            path, future = waiting.popleft()
            found = _Done([], InputError(f"{path}: {problems[path]}"), []) if future is None else _result(path, future)
            done += 1
            bar.update(done, len(inputs))
            with bar.hidden():
                for level, message in found.said:
                    logger.log(level, "%s", message)
                try:
                    with to.of(path) as results:
                        for translation in found.sentences:
                            results.add(str(path), translation)
                        if found.error is not None:
                            code = code or found.error.exit_code
                            complain("signet-translate", found.error)
                            results.fail(str(path), found.error, alone=False)
                except SignetError as error:
                    if to.broken:
                        raise
                    code = code or error.exit_code
                    complain("signet-translate", error)
    return code


def _result(path: Path, future: Future[_Done]) -> _Done:
    try:
        return future.result()
    except BrokenProcessPool:
        problem = EngineError(f"{path}: a process ended while it was at work; is there memory for so many --jobs?")
        return _Done([], problem, [])


@contextlib.contextmanager
def _pool(jobs: int, bundle: Path, options: TranslatorOptions) -> Iterator[ProcessPoolExecutor]:
    """Open the processes; whatever ends the block ends them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = before or str(max(1, usable // jobs))  # or each would take every core
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start, (bundle, options))
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        pool.shutdown(cancel_futures=True)


# --- In a worker ---

_translator: Translator | SignetError | None = None
_said: list[tuple[int, str]] = []


class _Kept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _said.append((record.levelno, record.getMessage()))


def _start(bundle: Path, options: TranslatorOptions) -> None:
    global _translator
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this
    logger = logging.getLogger("signet_runtime")
    logger.addHandler(_Kept())
    logger.propagate = False
    from signet_runtime.translator import Translator

    try:
        _translator = Translator(Bundle.load(bundle), **options)
    except SignetError as error:  # an exception here would break the pool, and say nothing
        _translator = error
    _said.clear()  # the bundle's notice: the parent has said it


def _translate(path: Path, whole: int | None, sentence_options: SentenceOptions) -> _Done:
    _said.clear()
    assert _translator is not None
    if isinstance(_translator, SignetError):
        return _Done([], _translator, [])
    sentences: list[Translation] = []
    problem: SignetError | None = None
    try:
        sentences.extend(_translator.sentences(path, whole=whole, **sentence_options))
    except SignetError as error:
        problem = error
    return _Done(sentences, problem, list(_said))
