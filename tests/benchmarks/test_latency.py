"""The latency benchmark measures what it says, labels what it did not measure, and keeps what it has when stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from benchmarks.latency import main
from benchmarks.latency_sections import table5
from benchmarks.latency_sections.engines import Subject
from benchmarks.latency_sections.inference import Further
from benchmarks.latency_sections.parameters import EXPERTS, paper_size, parameters
from benchmarks.latency_sections.whole_path import _at_real_speed, _process, _stages
from benchmarks.measuring.report import Ratio, Report, Size, Timing
from benchmarks.measuring.timing import Way, in_turns, peak_memory
from benchmarks.peers.efficientnet import efficientnet_b0_features
from benchmarks.peers.models import build_peers
from benchmarks.training import random_batch
from signet_export.bundle import available_memory
from signet_runtime.bundle import Bundle
from signet_runtime.errors import EngineError
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import extract_regions, sample_frames
from signet_runtime.translator import Translator
from signet_train.checkpoint import Checkpoint
from signet_train.model.signet import Signet
from signet_train.parameters import parameter_table
from signet_train.stages.objectives import Translation, set_trainable

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "latency.py"
CPU = torch.device("cpu")
SMALL = ["--small", "--quick", "--only", "training", "--frames", "8", "--rounds", "1"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measuring.timing._SETTLE", 0.0)


# --- Clocks ------------------------------------------------------------------------------------------------


def test_ways_take_turns_and_the_warm_up_is_not_counted() -> None:
    ran: list[str] = []
    ways = [Way(name, lambda name=name: ran.append(name), after=lambda: ran.append("after")) for name in "ab"]
    in_turns(ways, 2, CPU)
    assert ran == ["a", "after", "b", "after"] * 3
    assert [len(way.timing.seconds) for way in ways] == [2, 2]


def test_a_way_that_cannot_run_says_why_and_the_others_go_on() -> None:
    def fails() -> None:
        raise RuntimeError("not enough memory: 7 GB\nand a backtrace")

    bad, good = Way("bad", fails), Way("good", lambda: None)
    in_turns([bad, good], 1, CPU)
    assert str(bad.timing) == "not measured: not enough memory: 7 GB"
    assert len(good.timing.seconds) == 1


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux tells what is free")
def test_a_way_that_takes_too_much_memory_is_refused_it() -> None:
    free = available_memory()
    assert free is not None
    greedy = Way("greedy", lambda: torch.empty(free, dtype=torch.uint8))  # would be given, and fail when it is used
    in_turns([greedy], 1, CPU)
    assert str(greedy.timing) == "not measured: takes more memory than is free"


def test_seconds_are_those_of_the_run() -> None:
    way = Way("sleep", lambda: time.sleep(0.05))
    in_turns([way], 2, CPU)
    assert all(0.05 <= seconds < 1 for seconds in way.timing.seconds)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process' peak")
def test_memory_is_what_a_run_adds_and_what_it_owns() -> None:
    np.ones(2**26).sum()  # a higher peak before does not count
    size = Size()
    with peak_memory(size, 1000, CPU):
        np.ones(2**24).sum()  # 128 MiB
    assert size.bytes is not None
    assert 120 * 2**20 < size.bytes < 180 * 2**20


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ((), "no source/models/signet.py there; give the root of a checkout of the authors' SIGNET"),
        (
            ("source/models/signet.py",),
            "no source/models/stgcn.py there, which was not published; give a checkout of Uni-",
        ),
    ],
)
def test_the_authors_code_needs_what_it_lacks(tmp_path: Path, made: tuple[str, ...], message: str) -> None:
    for name in made:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    result = run(*SMALL, "--peer", f"signet={tmp_path}")
    assert result.exit_code == 3
    assert message in result.stderr


# --- Cells -------------------------------------------------------------------------------------------------


def test_ratios_compare_round_with_round() -> None:
    drifting, other = Timing([1.0, 2.0, 4.0]), Timing([0.5, 1.0, 2.0])
    assert Ratio(drifting, other).value == 2.0
    assert Ratio(Timing([1.0, 9.0, 1.0]), Timing([1.0, 1.0, 2.0])).value == 1.0
    assert Ratio(Timing(), other).value is None
    assert str(Ratio(Timing(), other)) == ""


def test_a_further_token_is_an_even_share_of_the_rest() -> None:
    first, whole = Timing([0.1]), Timing([0.4])
    assert Further(first, whole, 4).value == pytest.approx(0.1)
    assert Further(first, whole, 1).value is None
    assert Further(Timing(), whole, 4).value is None


def test_a_report_is_text_and_json_of_the_same_cells() -> None:
    report = Report("a command")
    table = report.table("t", "A title", "name", "ms", "ratio", "memory", "none")
    timing = Timing()
    table.rows.append(["row", timing, Ratio(timing, Timing([1.0])), Size(3 * 2**30), None])
    table.notes.append("A note.")
    assert "| row    | not measured |" in report.markdown()
    timing.seconds += [1.5, 0.5]  # cells fill up after the table was made
    text = report.markdown()
    assert "1,000 (500–1,500)" in text and "1.50" in text and "3.0 GiB" in text and "- A note." in text
    content = json.loads(report.json())
    assert content["tables"]["t"]["rows"][0]["ms"] == {"median_s": 1.0, "rounds_s": [1.5, 0.5], "problem": None}
    assert content["machine"]["commit"].startswith("commit ")


# --- Table 5 -----------------------------------------------------------------------------------------------


def test_parameters_are_those_of_signet_train() -> None:
    report = Report("")
    parameters(report, {})
    (table,) = report.tables
    (ours,) = (row for row in table.rows if row[:2] == ["SIGNET", "counted here"])
    lines = parameter_table().splitlines()[1:4]
    for line, cell in zip(lines, ours[2:], strict=True):
        total, trainable = (part for part in line.split() if part.replace(",", "").isdigit())
        assert cell == f"{total} / {trainable}"


def test_the_table_is_whole_without_peers(tmp_path: Path) -> None:
    result = run(*SMALL, "--json", str(tmp_path / "t.json"), "--markdown", str(tmp_path / "t.md"))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (tmp_path / "t.md").read_text()
    rows = {row["method"]: row for row in json.loads((tmp_path / "t.json").read_text())["tables"]["latency"]["rows"]}
    assert list(rows) == [
        "SIGNET, eager",
        "SIGNET, fused",
        "SIGNET, cached features",
        "Uni-Sign",
        "Geo-Sign",
        "Sign2GPT",
        "C²RL",
    ]
    for name in ("SIGNET, eager", "SIGNET, fused", "SIGNET, cached features"):
        assert len(rows[name]["forward, ms"]["rounds_s"]) == 1
        assert rows[name]["of Uni-Sign's"] == ""  # nobody measured it here
    assert rows["SIGNET, eager"]["of SIGNET eager"] == 1.0
    assert rows["SIGNET, fused"]["forward + backward, ms"] == "–"
    for name, key, milliseconds in (("Uni-Sign", "unisign", "416"), ("Geo-Sign", "geosign", "2550")):
        assert rows[name]["forward, ms"] == f"not measured: give --peer {key}=PATH"
        assert rows[name]["paper, RTX 3090: ms"] == milliseconds
    assert rows["SIGNET, eager"]["paper: of Uni-Sign's"] == "0.77"
    assert "cannot be compared" in result.stdout and "Left out by --quick" in result.stdout
    assert "bf16 was not asked for" in result.stdout  # on a CPU, it would double what --quick takes


@pytest.fixture(scope="module")
def model() -> Signet:
    torch.manual_seed(0)
    model = Signet(paper_size(small=True), EXPERTS).eval()
    set_trainable(model, "finetune", train_experts=False)
    return model


def test_every_signet_row_computes_the_same_loss(model: Signet) -> None:
    """In inference: in training, dropout and routing are drawn."""
    batch = random_batch(2, 12, 512, CPU)
    forms = [table5.FusedTranslation(model, stacked).eval() for stacked in (False, True)]
    expected = Translation(model, table5.LABEL_SMOOTHING)(batch).item()
    rows = table5.rows(model, [], forms)
    assert [row.name for row in rows] == [
        "SIGNET, eager",
        "SIGNET, fused",
        "SIGNET, fused and stacked",
        "SIGNET, cached features",
    ]
    for row in rows:
        assert row.loss(batch)().item() == pytest.approx(expected, rel=1e-5), row.name


def test_bf16_runs_where_it_is_asked_for(model: Signet) -> None:
    model = Signet(model.config, EXPERTS).train()
    set_trainable(model, "finetune", train_experts=False)
    model.to(torch.bfloat16)
    batch = table5._batch(model.config, 8, CPU, torch.bfloat16)
    for row in table5.rows(model, [], []):
        loss = row.loss(batch)()
        loss.backward()
        assert torch.isfinite(loss), row.name


@pytest.mark.parametrize(
    ("wanted", "native", "expected", "note"),
    [
        (("fp32", "bf16"), ["avx512_bf16"], ["fp32", "bf16"], None),
        (("fp32", "bf16"), ["avx2"], ["fp32"], "this CPU has neither"),
        (("bf16",), ["amx_bf16"], ["bf16"], None),
        (("bf16",), [], [], "this CPU has neither"),
        (("fp32",), ["avx512_bf16"], ["fp32"], "bf16 was not asked for"),
    ],
)
def test_precisions_are_those_that_are_asked_for_and_native(
    monkeypatch: pytest.MonkeyPatch, wanted: tuple[str, ...], native: list[str], expected: list[str], note: str | None
) -> None:
    monkeypatch.setattr(table5, "instructions", lambda: native)
    notes: list[str] = []
    assert list(table5._precisions(CPU, wanted, notes)) == expected
    assert [bool(note) and note in line for line in notes] == [True] * (note is not None)


# --- Peers -------------------------------------------------------------------------------------------------

PEER = """
import torch
from torch import nn
from transformers import MT5ForConditionalGeneration, T5Tokenizer
from config import mt5_path

class Uni_Sign(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.args = args
        self.pose_proj = nn.Linear(27, 768)
        self.mt5_model = MT5ForConditionalGeneration.from_pretrained(mt5_path)
        self.mt5_tokenizer = T5Tokenizer.from_pretrained(mt5_path, legacy=False)

    def forward(self, src, tgt):
        assert not self.args.rgb_support
        labels = self.mt5_tokenizer(tgt["gt_sentence"], return_tensors="pt", padding=True).input_ids
        assert labels.shape == (len(src["body"]), 32)
        embeds = self.pose_proj(src["body"].flatten(2))
        return {"loss": self.mt5_model(inputs_embeds=embeds, labels=labels).loss}
"""
DATASETS = """
import torch

class Base_Dataset:
    def collate_fn(self, batch):
        keys = batch[0][1]
        source = {key: torch.stack([sample[1][key] for sample in batch]) for key in keys}
        return source, {"gt_sentence": [sample[2] for sample in batch]}
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A peer's interface, with next to nothing behind it; its RGB branch cannot be had."""
    monkeypatch.setattr("benchmarks.peers.models.find_spec", lambda name: None)
    root = tmp_path / "Uni-Sign"
    root.mkdir()
    (root / "config.py").write_text('mt5_path = "nowhere"\n')
    (root / "models.py").write_text(PEER)
    (root / "datasets.py").write_text(DATASETS)
    return root


def test_a_peer_is_measured_from_its_code(checkout: Path, tmp_path: Path) -> None:
    before = set(sys.modules)
    result = run(*SMALL, "--peer", f"unisign={checkout}", "--json", str(tmp_path / "t.json"))
    assert result.exit_code == 0, result.stderr
    rows = {row["method"]: row for row in json.loads((tmp_path / "t.json").read_text())["tables"]["latency"]["rows"]}
    assert len(rows["Uni-Sign, pose only"]["forward + backward, ms"]["rounds_s"]) == 1
    assert rows["Uni-Sign, pose only"]["paper, RTX 3090: ms"] == ""  # the paper's is with RGB
    assert rows["Geo-Sign"]["forward, ms"] == "not measured: give --peer geosign=PATH"
    assert "needs einops" in result.stdout
    assert not {"models", "datasets", "config"} & (set(sys.modules) - before)
    assert not list(checkout.rglob("*.pyc"))


def test_a_peers_count_leaves_out_the_language_model(checkout: Path, model: Signet) -> None:
    with build_peers({"unisign": checkout}, model.language_model, []) as (peer,):
        assert peer.encoder_parameters() == 27 * 768 + 768


@pytest.mark.parametrize("given", ["elsewhere=/tmp", "unisign", "unisign="])
def test_unknown_peers_are_usage_errors(given: str) -> None:
    result = run("--peer", given)
    assert result.exit_code == 2
    assert "unisign, geosign" in result.stderr


def test_efficientnet_is_b0s_features() -> None:
    features = efficientnet_b0_features()
    assert sum(p.numel() for p in features.parameters()) == 4_007_548
    assert features(torch.rand(2, 3, 112, 112)).shape == (2, 1280, 4, 4)


# --- The command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--peer", "unisign=nowhere"], 3, "nowhere: no models.py there; give the root of a checkout of Uni-Sign"),
        (["--video", "nowhere.mp4"], 3, "nowhere.mp4: no such file"),
        (["--markdown", "nowhere/t.md"], 3, "there is no directory nowhere"),
        (["--plot", "t.txt"], 2, "name a .png, .svg or .pdf"),
        (["--only", "nothing"], 2, "is not one of"),
        (["--rounds", "0"], 2, "0 is not in the range"),
        (["--pose-weights", "nowhere"], 5, "nowhere: not a directory of RTMPose weights"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(arguments: list[str], code: int, said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert code == 2 or len(result.stderr.strip().splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_no_cpu() -> None:
    result = run("--device", "cuda", "--small")
    assert result.exit_code == 5
    assert "PyTorch sees no GPU" in result.stderr


def test_what_was_measured_outlives_an_interruption(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def once(ways: list[Way], *arguments: Any) -> None:
        ways[0].timing.seconds.append(1.25)
        raise KeyboardInterrupt

    monkeypatch.setattr(table5, "in_turns", once)
    result = run(*SMALL, "--markdown", str(tmp_path / "t.md"))
    assert result.exit_code == 130
    assert "1,250" in result.stdout and "| not measured" in result.stdout
    assert "interrupted" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_picture_is_drawn_of_what_was_measured(tmp_path: Path) -> None:
    from benchmarks.measuring.plot import draw

    report = Report("")
    table = report.table("latency", "Latency", "method", "precision", "forward, ms")
    table.rows += [["SIGNET, eager", "fp32", Timing([1.0, 2.0])], ["Uni-Sign", "", "not measured"]]
    draw(report, tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    draw(Report(""), tmp_path / "empty.png")  # as after an early Ctrl-C


def test_it_runs_as_a_file_from_anywhere(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "--only", "parameters"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "17,534,587 / 1,496,323" in found.stdout


# --- Videos ------------------------------------------------------------------------------------------------


def test_a_processs_memory_is_its_own() -> None:
    seconds, peak = _process([sys.executable, "-c", "import time; time.sleep(0.1)"])
    assert 0.1 < seconds < 10
    assert peak < 60 * 2**20  # and this one has torch loaded
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        _process([sys.executable, "-c", "1 / 0"])


def test_the_stages_of_a_video_are_timed_with_the_estimator_that_there_is() -> None:
    with Translator.from_bundle(None) as translator:
        found = _stages(SCRIPT.parents[1] / "examples" / "ase_music.mp4", translator)
        detector = translator.estimator._detect  # type: ignore[attr-defined]
    assert 0 < found["detect"] < found["pose"] < found["sum"]
    assert found["first token"] <= found["text"] and min(found.values()) > 0
    assert type(detector).__call__.__name__ == "__call__"  # its clock is gone


def test_keypoints_come_at_real_speed() -> None:
    poses = PoseSequence(np.zeros((4, 133, 2)), np.ones((4, 133)), 20.0, (1, 1), "mediapipe")
    stream = _at_real_speed(poses)
    began = time.perf_counter()
    frames = list(stream.frames)
    assert time.perf_counter() - began >= 0.15  # the fourth is at three ticks
    assert [frame.seconds for frame in frames] == [0.0, 0.05, 0.1, 0.15]


@pytest.mark.slow
def test_all_of_it(tmp_path: Path) -> None:
    result = run("--small", "--quick", "--rounds", "1", "--json", str(tmp_path / "t.json"))
    assert result.exit_code == 0, result.stderr
    tables = json.loads((tmp_path / "t.json").read_text())["tables"]
    assert set(tables) == {
        "parameters",
        "latency",
        "encoder",
        "decoder",
        "stages",
        "video",
        "last_frame",
        "decoder_alone",
        "start",
    }
    assert {row["text"] for row in tables["video"]["rows"]} == {"music", "falar"}
    assert not any("different tokens" in note for note in tables["decoder"]["notes"])


@pytest.mark.parametrize("normalisation", ["unisign", "causal"])
def test_a_subject_is_timed_on_what_its_model_reads(normalisation: str) -> None:
    bundle = Bundle.load()
    manifest = bundle.manifest.model_copy(update={"normalisation": normalisation, "max_frames": 7})
    rng = np.random.default_rng(0)
    clip = PoseSequence(rng.uniform(0, 1, (90, 133, 2)), np.full((90, 133), 0.9), 25.0, (640, 480), "test")
    subject = Subject("any", Checkpoint.__new__(Checkpoint), Bundle(bundle.path, manifest), clip)
    at_rate = clip.resample(6.25)
    expected = extract_regions(at_rate.take(sample_frames(len(at_rate), 7)), normalisation)
    for name, region in subject.regions().items():
        np.testing.assert_array_equal(region, expected[name])
