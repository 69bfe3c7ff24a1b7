"""A directory exists whole or not at all, what killed processes leave goes, and what living ones are at stays."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from signet_runtime import directories
from signet_runtime.directories import recover_directory, whole_directory
from signet_runtime.errors import OutputError
from signet_runtime.files import GrowingFile, whole_file
from signet_runtime.leftovers import OLD, OWNER, sweep, temporary_name
from signet_runtime.locks import alone_in, machine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs locks that end with their process")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(directories, "_exchange", lambda one, other: False)
    elif not sys.platform.startswith("linux"):
        pytest.skip("there is no exchange here")
    return request.param


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def start(code: str, cwd: Path, *arguments: object) -> subprocess.Popen[str]:
    head = "import os, sys, time\nfrom pathlib import Path\nkill = lambda: os.kill(os.getpid(), 9)\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def at_work(code: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that says when it is in the middle of its work, and stays there."""
    with start(code, cwd) as process:
        assert process.stdout is not None and process.stdout.readline() == "at work\n"
        yield process
        process.kill()


WRITES = """
from signet_runtime.files import whole_file
with whole_file(Path("out.npz")) as temporary:
    temporary.write_bytes(b"half")
    print("at work", flush=True)
    time.sleep(60)
"""
MAKES = """
from signet_runtime.directories import whole_directory
with whole_directory(Path("run")) as draft:
    (draft / "half").touch()
    (draft.parent / "scratch").mkdir()
    print("at work", flush=True)
    time.sleep(60)
"""


def test_a_whole_directory_appears_at_the_end(tmp_path: Path, exchange: bool) -> None:
    path = tmp_path / "deep" / "run"
    for text in ("before", "after"):
        with whole_directory(path) as draft:
            assert list(draft.iterdir()) == []
            (draft / text).write_text(text)
            (draft.parent / "scratch").mkdir()
            assert path.exists() == (text == "after")
        assert names(path) == [text]
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError(), FULL])
def test_a_whole_directory_leaves_what_was_there_when_it_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "run"
    for before in ([], ["before"]):
        if before:
            with whole_directory(path) as draft:
                (draft / "before").touch()
        with pytest.raises(type(error)) as raised, whole_directory(path) as draft:
            (draft / "half").touch()
            raise error
        assert raised.value is error
        assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()) == [
            f"run/{name}" for name in before
        ]
        assert list(tmp_path.iterdir()) == [path] * len(before)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FULL])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_directory_has_its_name_again_when_the_new_one_cannot_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException
) -> None:
    monkeypatch.setattr(directories, "_exchange", lambda one, other: False)
    path = tmp_path / "run"
    path.mkdir()
    (path / "before").touch()
    rename, calls = Path.rename, []

    def fails_once(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == number:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(type(error)), whole_directory(path) as draft:
        (draft / "after").touch()
    assert names(path) == ["before"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_came_in_the_meantime_stays_where_it_was_not_to_be_replaced(tmp_path: Path, exchange: bool) -> None:
    for late in (False, True):
        path = tmp_path / f"run{late}"
        if not late:
            path.mkdir()
            (path / "other").touch()
        with pytest.raises(FileExistsError) as raised, whole_directory(path, replace=False) as draft:
            (draft / "mine").touch()
            if late:
                path.mkdir()
                (path / "other").touch()
        assert raised.value.filename == str(path)
        assert names(path) == ["other"]
    assert names(tmp_path) == ["runFalse", "runTrue"]


@pytest.mark.parametrize("moment", ["writing", "between", "after"])
def test_a_directory_is_there_whichever_moment_its_writer_was_killed(
    tmp_path: Path, moment: str, exchange: bool
) -> None:
    script = """
from signet_runtime import directories
moment, exchange = sys.argv[1:]
put, rename, swap = directories._put, Path.rename, directories._exchange
def killed(self, target):
    if moment == "between" and target == Path("run") and not target.exists():
        kill()
    return rename(self, target)
Path.rename = killed
def put_and_die(*arguments):
    put(*arguments)
    if moment == "after":
        kill()
directories._put = put_and_die
def swap_or_not(one, other):
    done = exchange == "True" and swap(one, other)
    if done and moment == "between":
        kill()
    return done
directories._exchange = swap_or_not
with directories.whole_directory(Path("run")) as draft:
    (draft / "after").touch()
    if moment == "writing":
        kill()
"""
    (tmp_path / ".run.01234567-89abcdef.draft").mkdir()  # another machine's, which may be alive there
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "before").touch()
    with start(script, tmp_path, moment, exchange) as process:
        pass
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "run").exists() == (exchange or moment != "between")
    recover_directory(tmp_path / "run")
    new = moment == "after" or (moment == "between" and exchange)
    assert names(tmp_path / "run") == ["after" if new else "before"]
    with whole_directory(tmp_path / "other"):
        pass
    assert names(tmp_path) == [".run.01234567-89abcdef.draft", "other", "run"]


@pytest.mark.parametrize(("code", "suffix"), [(WRITES, ".npz"), (MAKES, ".draft")])
def test_what_a_process_is_at_goes_when_it_was_killed_and_not_before(tmp_path: Path, code: str, suffix: str) -> None:
    with at_work(code, tmp_path) as process:
        sweep(tmp_path)
        (left,) = names(tmp_path)
        assert left.endswith(suffix)
        process.kill()
        process.wait()
        sweep(tmp_path)
        assert names(tmp_path) == []


def test_only_files_of_this_machine_that_are_called_so_are_removed(tmp_path: Path) -> None:
    rng = random.Random()
    digits = f"{rng.getrandbits(64):016x}"
    other = f"{int(machine(), 16) ^ 1:08x}-0123abcd"
    kept = [f".a.{other}.npz", f".b.{other}.draft", f".c.{digits[:8]}.npz", f"d.{machine()}-{digits[:8]}.npz", ".npz"]
    for name in kept:
        (tmp_path / name).touch()
    link = tmp_path / temporary_name("link", ".npz")
    link.symlink_to(tmp_path / kept[0])
    os.mkfifo(tmp_path / temporary_name("fifo", ".npz"))
    full = tmp_path / temporary_name("full", ".draft")  # in which nobody says whose it is
    full.mkdir()
    (full / "something").touch()
    before = names(tmp_path)
    for name in ("a.npz", "a.b.jsonl.gz", ".hidden", "plain"):
        path = Path(name)
        (tmp_path / temporary_name(path.stem, path.suffix)).touch()
    (tmp_path / temporary_name("empty", ".draft")).mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == before


def test_a_directory_of_another_machine_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / f".run.{int(machine(), 16) ^ 1:08x}-0123abcd.draft"
    other.mkdir()
    (other / OWNER).write_text("77 elsewhere\x1b[2J\n")
    for _ in range(2):
        sweep(tmp_path)
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"{other}: process 77 on elsewhere" in said and "remove it" in said and "\x1b" not in said


def test_the_older_directory_comes_back_even_beside_another_that_is_at_work(tmp_path: Path) -> None:
    left = tmp_path / temporary_name("run", ".draft")
    (left / OLD).mkdir(parents=True)
    (left / OLD / "before").touch()
    (left / OWNER).touch()
    with at_work(MAKES, tmp_path):
        recover_directory(tmp_path / "run")
        assert names(tmp_path / "run") == ["before"]


def test_many_at_one_name_all_end_well(tmp_path: Path, exchange: bool) -> None:
    """Readers find a directory of one writer, whole, at any moment; without an exchange it may be away for one."""
    path, stop, wrong = tmp_path / "run", threading.Event(), []

    def write(writer: int) -> None:
        try:
            for turn in range(15):
                with whole_directory(path) as draft:
                    for part in range(3):
                        (draft / f"{part}").write_text(f"{writer} {turn}")
                with whole_file(tmp_path / "file.txt") as temporary:
                    temporary.write_text(f"{writer} {turn}" * 100)
        except BaseException as error:
            wrong.append(error)

    def look() -> None:
        while not stop.is_set():
            try:
                if exchange:
                    descriptor = os.open(path, os.O_RDONLY)  # what is opened is not swapped any more
                    os.close(descriptor)
                text = (tmp_path / "file.txt").read_text()
            except FileNotFoundError as error:
                wrong.append(error)
                return
            if text != text[: len(text) // 100] * 100:
                wrong.append(text)

    with whole_directory(path), whole_file(tmp_path / "file.txt"):
        pass
    writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    reader = threading.Thread(target=look)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert wrong == []
    assert names(tmp_path) == ["file.txt", "run"]
    assert len({(path / part).read_text() for part in names(path)}) == 1 and len(names(path)) == 3


def test_two_at_one_growing_file(tmp_path: Path) -> None:
    first = GrowingFile(tmp_path / "out.txt")
    first.write("one\n")
    with pytest.raises(OutputError, match="another process is writing it"):
        GrowingFile(tmp_path / "out.txt")
    first.write("two\n")
    assert first.finish()
    second = GrowingFile(tmp_path / "out.txt")
    second.write("three\n")
    assert (tmp_path / "out.txt").read_text() == "one\ntwo\n"
    second.finish()
    (tmp_path / "out.txt.part").write_text("of one that was killed, and longer")
    third = GrowingFile(tmp_path / "out.txt")
    third.write("four\n")
    third.finish()
    assert (tmp_path / "out.txt").read_text() == "four\n" and names(tmp_path) == ["out.txt"]


def test_two_in_one_directory(tmp_path: Path) -> None:
    code = "from signet_runtime.locks import alone_in\nwith alone_in(Path('run'), 'x'):\n"
    code += " print('at work', flush=True)\n time.sleep(60)"
    with at_work(code, tmp_path) as process:
        refused = pytest.raises(OutputError, match=rf"another process is writing there \(process {process.pid}\); wait")
        with refused, alone_in(tmp_path / "run", "wait"):
            raise AssertionError("two are in it")
        process.kill()
        process.wait()
        with alone_in(tmp_path / "run", "wait"):
            (tmp_path / "run" / "mine").touch()
        assert names(tmp_path / "run") == ["mine"]
    with contextlib.suppress(ValueError), alone_in(tmp_path / "new", "wait"):
        raise ValueError
    assert names(tmp_path) == ["run"]


def test_a_child_that_outlives_a_killed_process_has_none_of_its_locks(tmp_path: Path) -> None:
    code = """
from signet_runtime.directories import whole_directory
from signet_runtime.locks import alone_in
with alone_in(Path("run"), "x"), whole_directory(Path("new")):
    if os.fork() == 0:
        os.close(1)
        time.sleep(5)
        os._exit(0)
    print("at work", flush=True)
    time.sleep(30)
"""
    with start(code, tmp_path) as process:
        assert process.stdout is not None and process.stdout.readline() == "at work\n"
        with pytest.raises(OutputError), alone_in(tmp_path / "run", "wait"):
            raise AssertionError
        process.kill()
    with alone_in(tmp_path / "run", "wait"):
        sweep(tmp_path)
    assert names(tmp_path) == ["run"]


def test_a_link_to_itself_and_a_name_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in ((tmp_path / "loop", "symbolic links"), (tmp_path / ("n" * 300), "too long")):
        with pytest.raises(OutputError, match=reason), whole_file(path):
            raise AssertionError
        with pytest.raises(OutputError, match=reason):
            GrowingFile(path)
    assert names(tmp_path) == ["loop"]


KILLED = """
import random
from signet_runtime.directories import whole_directory
from signet_runtime.files import whole_file
print("at work", flush=True)
turn = 0
while True:
    turn += 1
    with whole_directory(Path("run")) as draft:
        for part in range(4):
            (draft / str(part)).write_text(f"{turn} " * 5000)
    with whole_file(Path("file.txt")) as temporary:
        temporary.write_text(f"{turn} " * 5000)
"""


def test_killed_at_random_moments_nothing_is_lost_and_nothing_is_left(tmp_path: Path) -> None:
    def contents() -> set[str]:
        return {hashlib.sha256((tmp_path / "run" / part).read_bytes()).hexdigest() for part in names(tmp_path / "run")}

    with whole_directory(tmp_path / "run") as draft, whole_file(tmp_path / "file.txt"):
        for part in range(4):
            (draft / str(part)).touch()
    for _ in range(8):
        with at_work(KILLED, tmp_path) as process:
            time.sleep(random.uniform(0, 0.1))
            process.kill()
        recover_directory(tmp_path / "run")
        assert len(contents()) == 1 and len(names(tmp_path / "run")) == 4
        assert len(set((tmp_path / "file.txt").read_text().split())) <= 1
        with whole_directory(tmp_path / "other"):
            pass
        assert names(tmp_path) == ["file.txt", "other", "run"]
