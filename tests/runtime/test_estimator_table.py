"""A pose estimator is one row and its own folder: nothing else in the source knows its name."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from signet_runtime.errors import EngineError
from signet_runtime.pose import estimators
from signet_runtime.pose.estimators import (
    DEFAULT,
    ESTIMATORS,
    FAMILIES,
    EstimatorRow,
    estimator_choices,
    load_estimator,
    takes_option,
)

ROOT = Path(estimators.__file__).parents[2]

# As a stranger would write one: it has variants, and one of them cannot run here.
NEWCOMER = """
from signet_runtime.errors import EngineError


class Newcomer:
    def __init__(self, name, weights):
        self.name, self.weights = name, weights

    def estimate(self, frames, *, live=False):
        yield from ()

    def close(self):
        pass


def load(name, *, weights=None):
    if name == "newcomer-broken":
        raise EngineError("it lacks a screw")
    return Newcomer(name, weights)


def describe_weights(name):
    return f"weights of {name} in its pocket"
"""
ROW = EstimatorRow(
    module="newcomer_estimator",
    package="newcomer-dist",
    extra="edge",
    fallbacks=("newcomer-broken", "newcomer-small"),
    options=frozenset({"weights"}),
    cpus=3,
    weights_variable="SIGNET_NEWCOMER",
)
NAMES = ("newcomer-small", "newcomer-broken")


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of its module, whose rows are in the table."""
    (tmp_path / "newcomer_estimator.py").write_text(NEWCOMER)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in NAMES:
        monkeypatch.setitem(ESTIMATORS, name, ROW)
    yield tmp_path
    sys.modules.pop("newcomer_estimator", None)


@pytest.mark.usefixtures("newcomer")
def test_a_row_is_loaded_by_its_name_with_the_options_that_it_takes() -> None:
    estimator = load_estimator(
        "newcomer-small", DEFAULT, offline=True, device="cuda", weights=Path("there"), detect_every=4
    )
    assert (type(estimator).__name__, estimator.name) == ("Newcomer", "newcomer-small")
    assert vars(estimator)["weights"] == Path("there")
    with pytest.raises(EngineError, match=r"^it lacks a screw$"):
        load_estimator("newcomer-broken", DEFAULT, offline=True)
    assert takes_option("newcomer-small", "weights") and not takes_option("newcomer-small", "detect_every")


@pytest.mark.usefixtures("newcomer")
def test_auto_takes_the_first_fallback_of_the_row_that_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_estimator("auto", "newcomer-broken", offline=True).name == "newcomer-small"
    assert "newcomer-broken cannot run here (it lacks a screw); using newcomer-small instead" in caplog.text
    row = EstimatorRow("newcomer_estimator", "newcomer-dist", "edge", fallbacks=("newcomer-broken",))
    monkeypatch.setitem(ESTIMATORS, "newcomer-broken", row)
    with pytest.raises(EngineError) as error:
        load_estimator("auto", "newcomer-broken", offline=True)
    lacks = "newcomer-broken: it lacks a screw"
    assert str(error.value) == f"no pose estimator can run: {lacks}; {lacks}"


@pytest.mark.usefixtures("newcomer")
def test_what_this_version_does_not_know_falls_back_on_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, DEFAULT, ROW)
    assert load_estimator("auto", "from-next-year", offline=True).name == DEFAULT


def test_a_family_is_a_choice_before_its_variants(newcomer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert estimator_choices()[-2:] == NAMES
    monkeypatch.setitem(FAMILIES, "newcomer", "newcomer-small")
    assert estimator_choices()[-3:] == ("newcomer", *NAMES)
    assert load_estimator("newcomer", DEFAULT, offline=True).name == "newcomer-small"
    with pytest.raises(EngineError, match="it lacks a screw"):
        load_estimator("newcomer", "newcomer-broken", offline=True)
    assert takes_option("newcomer", "weights") and not takes_option("newcomer", "detect_every")


def test_the_commands_and_the_doctor_know_a_row(newcomer: Path) -> None:
    code = f"""
import json, sys
sys.path.insert(0, {str(newcomer)!r})
from click.testing import CliRunner
from signet_runtime.pose.estimators import ESTIMATORS, EstimatorRow
ESTIMATORS.update(dict.fromkeys({NAMES}, {ROW}))

from signet_runtime.commands import doctor, translate
from signet_train.commands import extract_poses

real = doctor._version
doctor._version = lambda name: "7.8.9" if name == "newcomer-dist" else real(name)
doctor._demonstration = lambda: []
doctor._providers = lambda: (True, [])
small = ["--pose", "newcomer-small"]
runs = [
    (translate.main, ["--help"]),
    (translate.main, ["no.npz", *small, "--detect-every", "2"]),
    (translate.main, ["no.npz", *small]),
    (extract_poses.extract_poses, ["--help"]),
    (extract_poses.extract_poses, ["no.parquet", *small]),
    (doctor.main, []),
]
done = [CliRunner().invoke(command, arguments) for command, arguments in runs]
print(json.dumps([[one.exit_code, " ".join(one.output.split()), str(one.exception)] for one in done]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    translate_help, no_boxes, translated, extract_help, extracted, report = json.loads(done.stdout.splitlines()[-1])
    for shown in (translate_help, extract_help):
        assert shown[0] == 0 and "|newcomer-small|newcomer-broken]" in shown[1].replace(" ", "")
    assert no_boxes[0] == 2 and "--detect-every is" in no_boxes[1]
    assert translated[0] == 3 and "no such file" in translated[1]  # the choice itself was right
    assert "no.parquet: no such manifest" in extracted[2]
    for said in (
        "newcomer-dist 7.8.9",
        "SIGNET_NEWCOMER not set",
        "newcomer-small ok weights of newcomer-small in its pocket",
        "newcomer-broken NO it lacks a screw",
    ):
        assert said in report[1]


@pytest.mark.parametrize(
    ("name", "device", "cpus", "workers"),
    [
        ("mediapipe", "cpu", 1, 1),
        ("mediapipe", "cpu", 6, 3),
        ("mediapipe", "cuda", 6, 3),
        ("rtmpose-balanced", "cpu", 2, 1),
        ("rtmpose-balanced", "cpu", 9, 2),
        ("rtmpose-balanced", "cuda", 9, 1),
    ],
)
def test_how_many_processes_fit(name: str, device: str, cpus: int, workers: int) -> None:
    assert ESTIMATORS[name].default_workers(cpus, device) == workers


def test_what_stands_in_the_table_is_there() -> None:
    for row in ESTIMATORS.values():
        module = import_module(row.module)
        assert callable(module.load) and callable(module.describe_weights)
        assert set(row.fallbacks) <= ESTIMATORS.keys()
    assert DEFAULT in ESTIMATORS
    assert all(name in ESTIMATORS and name.startswith(f"{family}-") for family, name in FAMILIES.items())
    assert estimator_choices() == (
        "auto",
        "mediapipe",
        "rtmpose",
        "rtmpose-lightweight",
        "rtmpose-balanced",
        "rtmpose-performance",
        "rtmpose-x",
    )


def test_the_table_loads_no_estimator() -> None:
    code = (
        "import sys, signet_runtime.pose.estimators, signet_runtime.commands.translate;"
        "print([m for m in sys.modules if m.startswith('signet_runtime.pose.')"
        " and m.split('.')[2] in ('holistic', 'rtmpose')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Where a name is data: whose keypoints a published archive or a configuration is made of, whose landmarks the avatar
# draws.
DATA = {
    ("signet_train/interop/origins.py", "rtmpose-lightweight"),
    ("signet_train/commands/fingerspelling.py", "mediapipe"),
    ("signet_train/data/datasets/signverse_poses.py", "rtmpose"),
    ("signet_train/data/provenance.py", "mediapipe"),
    ("signet_train/data/provenance.py", "rtmpose"),
    ("signet_train/data/provenance.py", "rtmpose-lightweight"),
    ("signet_train/interop/unisign.py", "rtmpose"),
}


def names_in(file: Path) -> Iterator[str]:
    """The estimators' names among a file's strings (not in prose), and the imports of their modules."""
    names = {*estimator_choices(), *(f"{family}-" for family in FAMILIES)} - {"auto"}
    homes = tuple(f"{row.module.rpartition('.')[0]}." for row in ESTIMATORS.values())
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and node.value in names:
            yield str(node.value)
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(homes):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if f"{alias.name}.".startswith(homes))


def test_no_other_file_knows_an_estimators_name() -> None:
    found = set()
    for package in ("signet_runtime", "signet_train", "export"):
        for file in (ROOT / package).rglob("*.py"):
            place = file.relative_to(ROOT).as_posix()
            if not place.startswith("signet_runtime/pose/"):
                found |= {(place, name) for name in names_in(file)}
    assert found == DATA


def test_no_estimator_imports_another() -> None:
    homes = {row.module.rpartition(".")[0] for row in ESTIMATORS.values()}
    for home in homes:
        folder = ROOT / home.replace(".", "/")
        for file in folder.rglob("*.py"):
            text = file.read_text()
            assert not [other for other in homes - {home} if other in text], file


def test_benchmarks_compare_nothing_with_an_estimators_name() -> None:
    names = {*ESTIMATORS, *FAMILIES}
    for file in (ROOT / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare):
                sides = [side.value for side in (node.left, *node.comparators) if isinstance(side, ast.Constant)]
                assert not names & {value for value in sides if isinstance(value, str)}, f"{file}:{node.lineno}"
