"""Every target survives its saved findings and some inputs; the harness sees exceptions, hangs, memory and ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from signet_runtime.errors import InputError
from tests.fuzz import engine
from tests.fuzz.engine import CORPUS, Report, limit_memory, made_input, run, try_input
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

FEW = 40  # inputs of each target; `make fuzz` gives them more


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """All targets in one child, which costs a second to start; one that ends it shows which was at work."""
    mark = tmp_path_factory.mktemp("fuzz") / "mark"
    mark.touch()
    told, ended = engine._one_child(list(TARGETS), 1, 0, FEW, mark, corpus=True)
    assert ended is None, mark.read_text()
    found = {line["report"]["target"]: Report(**line["report"]) for line in told if "report" in line}
    for line in told:
        if "finding" in line:
            found[line["finding"]["target"]].findings.append(engine.Finding(**line["finding"]))
    return found


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_survives(name: str, reports: dict[str, Report]) -> None:
    report = reports[name]
    assert report.findings == []
    assert report.tries == FEW + len(list((CORPUS / name).glob("*")))
    assert report.accepted >= 1 and report.refused >= 1  # valid inputs are valid, and changes are noticed


@pytest.mark.parametrize("name", TARGETS)
def test_the_first_seed_of_a_target_is_valid(name: str) -> None:
    target = TARGETS[name]
    target.parse(target.seeds()[0])


def test_an_input_is_known_by_its_seed_and_number() -> None:
    target = next(iter(TARGETS.values()))
    seeds = target.seeds()
    made = [made_input(target, seeds, 3, number) for number in range(len(seeds), len(seeds) + 30)]
    assert made == [made_input(target, seeds, 3, number) for number in range(len(seeds), len(seeds) + 30)]
    assert made != [made_input(target, seeds, 4, number) for number in range(len(seeds), len(seeds) + 30)]
    assert len(set(made)) > 20


def _fails(data: bytes) -> None:
    if data == b"hang":
        time.sleep(30)
    if data == b"memory":
        raise MemoryError
    if data == b"ours":
        raise InputError("no")
    if data == b"other":
        raise KeyError(data)


def test_what_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SECONDS", 0.2)
    target = Target("t", _fails, list)
    kinds = {data: try_input(target, data)[0] for data in (b"", b"ours", b"hang", b"memory", b"other")}
    assert list(kinds.values()) == ["accepted", "refused", "hang", "memory", "exception"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no limit of memory to set")
def test_memory_has_a_limit() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            limit_memory(200)
            bytearray(400 << 20)
            os._exit(1)
        except MemoryError:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_ends_the_process_is_found_and_the_rest_goes_on(tmp_path: Path) -> None:
    package = tmp_path / "tests" / "fuzz"
    package.mkdir(parents=True)
    source = Path(engine.__file__).parent
    for name in ("__main__.py", "engine.py", "mutations.py", "target.py"):
        (package / name).write_text((source / name).read_text())
    (package / "targets").mkdir()
    (package / "targets" / "__init__.py").write_text(
        "import os, signal\nfrom tests.fuzz.target import Target\nSEEDS = [b'a', b'b', b'c']\n"
        "def parse(data):\n    if data == b'b':\n        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "TARGETS = {'t': Target('t', parse, lambda: SEEDS)}\n"
    )
    before = engine.ROOT
    try:
        engine.ROOT = tmp_path
        os.environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
        report = run(Target("t", lambda data: None, lambda: [b"a", b"b", b"c"]), 3, 1, corpus=False)
    finally:
        engine.ROOT = before
        del os.environ["PYTHONPATH"]
    assert [(finding.kind, finding.number) for finding in report.findings] == [("ended", "1")]
    assert report.tries == 3


def test_the_saved_findings_are_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 100_000
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= TARGETS.keys()
