"""Inputs side by side are what they are one after another: the same results, in the same order, one bad one alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from tiny_bundle import NOTICE, TinyBundle
from translate_command import Translate

from signet_runtime.commands.side_by_side import _result


def test_the_same_in_the_same_order(translate: Translate, clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    inputs = [clips[2], tmp_path / "damaged.npz", clips[0], tmp_path / "none.mp4", clips[1]]
    alone, together = (translate(*inputs, "--format", "json", "--jobs", jobs, "--n-best", 2) for jobs in (1, 2))

    def said(output: str) -> list[dict[str, object]]:
        return [{**json.loads(line), "timings": None} for line in output.splitlines()]

    assert said(together.stdout) == said(alone.stdout)
    assert together.exit_code == alone.exit_code == 3
    assert sorted(together.stderr.splitlines()) == sorted(alone.stderr.splitlines())
    assert together.stderr.count(NOTICE) == 1  # and not once a process


@pytest.mark.slow
def test_a_file_each(translate: Translate, clips: list[Path], texts: list[str], tmp_path: Path) -> None:
    result = translate(*clips, "--jobs", 3, "--output-dir", tmp_path / "out", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert [(tmp_path / "out" / f"{i}.txt").read_text() for i in range(3)] == [f"{text}\n" for text in texts]


def test_what_is_no_inputs_fault_is_said_for_each(translate: Translate, clips: list[Path], tmp_path: Path) -> None:
    assert translate(*clips, "--jobs", 2, bundle=tmp_path / "nothing").exit_code == 4
    result = translate(*clips, "--jobs", 2, "--min-confidence", 0.5)
    assert result.exit_code == 4
    assert "has no calibration" in result.stderr


def test_more_texts_than_beams(translate: Translate, clips: list[Path]) -> None:
    for jobs in (1, 2):
        result = translate(*clips, "--jobs", jobs, "--n-best", 5)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "a search with 4 beams finds no more than 4" in result.stderr


def test_a_process_that_dies() -> None:
    future: Future[object] = Future()
    future.set_exception(BrokenProcessPool())
    found = _result(Path("a.mp4"), future)  # type: ignore[arg-type]
    assert "a.mp4: a process ended while it was at work" in str(found.error)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(tiny: TinyBundle, clips: list[Path], tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "signet_runtime.commands.translate", "--bundle", str(tiny.path), "--jobs", "2"]
    many = [str(clips[i % 3]) for i in range(3)] * 200
    with subprocess.Popen(
        [*arguments, *many], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "signet-translate: interrupted"
    assert "Traceback" not in stderr
    for _ in range(50):
        left = subprocess.run(["ps", "-o", "pid=", "-g", str(process.pid)], capture_output=True, text=True, check=False)
        if not left.stdout.strip():
            return
        time.sleep(0.1)
    pytest.fail("processes are left")
