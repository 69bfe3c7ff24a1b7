"""The commands that are interrupted, each with something small to do."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from benchmarks.faulting.case import Case, carry_out, clear, listing
from benchmarks.goldens import GOLDEN
from benchmarks.interruptions import make_project
from benchmarks.measuring.forked import start
from signet_export.archive import write_archive
from signet_export.cli import main as signet_export
from signet_runtime.bundle import Bundle, demo_bundle_path
from signet_runtime.commands.models import main as signet_models
from signet_runtime.commands.translate import main as signet_translate
from signet_runtime.pose.files import read_keypoints, write_keypoints
from signet_train.cli import main as signet_train

SPELLED = GOLDEN / "ase_music.npz"
# What commands load when they run is loaded before they are forked: another user may not even read it.
for _module in ("signet_export.bundle", "signet_runtime.translator", "signet_train.data.extraction"):
    importlib.import_module(_module)
for _module in ("signet_train.stages.caching", "signet_train.stages.run", "signet_runtime.models.pull"):
    importlib.import_module(_module)
EXAMPLE = Path(__file__).parents[2] / "examples" / "ase_music.mp4"
_WEIGHTS = ("{}/best/**/*.safetensors", "{}/last/**/*.safetensors")


def _train(*arguments: object) -> Callable[[], object]:
    return lambda: signet_train([*map(str, arguments)])


def _resumed(*arguments: object) -> Callable[[], object]:
    """Return a stage of a few epochs into the directory ``run``, which goes on where it was."""

    def run() -> object:
        begun = (Path("run") / "last" / "config.json").is_file()
        stage = [*map(str, arguments), "--out", "run", "--device", "cpu", "--set", "optimisation.epochs=4"]
        return signet_train([*stage, *(["--resume"] if begun else [])])

    return run


def write_clips(directory: Path, count: int, seed: int, frames: int | None = None) -> None:
    """Write files of keypoints: a word that the demo reads, each with a noise of its own that it reads over."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    word = read_keypoints(SPELLED)
    for number in range(count):
        points = word.keypoints[:frames] + rng.normal(0, 1e-4, word.keypoints[:frames].shape).astype(np.float32)
        write_keypoints(directory / f"{number:03}.npz", replace(word, keypoints=points, scores=word.scores[:frames]))


def write_video(path: Path, first: int, frames: int) -> None:
    """Write a stretch of an example video."""
    with av.open(str(EXAMPLE)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.thread_count = 1
        for number, frame in enumerate(source.decode(video=0)):
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            if first <= number < first + frames:
                target.mux(stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"))))
        target.mux(stream.encode())


def serve_files(directory: Path, log: Path) -> tuple[int, int]:
    """Serve a directory to this machine from a process of its own; give its port and its id."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    child = start(server.serve_forever, log)
    server.socket.close()
    return server.server_address[1], child


def make_cases(root: Path, log: Path, chosen: Sequence[str], tell: Callable[[str], None]) -> tuple[list[Case], int]:
    """Prepare every command's directory; all of them work in ``root/work``.

    Args:
        chosen: their names; all, where there are none.

    Returns:
        the cases, and the id of the process that serves what is pulled.
    """
    work = root / "work"
    work.mkdir()
    project = make_project(work)
    kept: dict[str, Path] = {}

    def keep(name: str, change: Callable[[], object] = lambda: None) -> Path:
        change()
        kept[name] = root / "fresh" / name
        shutil.copytree(work, kept[name])
        return kept[name]

    def do(*arguments: object) -> None:
        case = Case("", _train(*arguments))
        if carry_out(case, work, log):
            raise RuntimeError(log.read_text(encoding="utf-8")[-2000:])

    do("fit", project, "--device", "cpu", "--until", "check")
    keep("ready")
    do("fit", project, "--device", "cpu", "--until", "finetune")
    text = (project / "finetune.toml").read_text(encoding="utf-8")
    align = re.sub(r'^stage = "finetune"', 'stage = "align"', text, flags=re.MULTILINE)
    (project / "align.toml").write_text(align, encoding="utf-8")
    keep("trained")
    keep("uncached", lambda: shutil.rmtree(project / "features"))
    shutil.copytree(kept["trained"], work, dirs_exist_ok=True)
    keep("exported", lambda: shutil.copytree(demo_bundle_path(), work / "bundle"))

    def convert() -> None:
        clear(work)
        write_clips(work / "old", 5, 0)
        write_clips(work / "clips", 400, 1)

    keep("clips", convert)
    convert_poses = ("convert-poses", "clips", "--out", "store.arrow", "--workers", "1")
    if carry_out(Case("", _train("convert-poses", "old", "--out", "store.arrow", "--workers", "1")), work, log):
        raise RuntimeError(log.read_text(encoding="utf-8")[-2000:])
    shutil.copytree(work, kept["clips"], dirs_exist_ok=True)

    def videos() -> None:
        clear(work)
        rows = []
        for number in range(5):
            write_video(work / f"{number}.mp4", 4 * number, 6)
            rows.append(
                f'{{"id": "{number}", "video": "{number}.mp4", "poses": "poses/{number}.npz", "text": "a", '
                f'"language": "en", "sign_language": "ase", "split": "train"}}\n'
            )
        (work / "m.jsonl").write_text("".join(rows), encoding="utf-8")

    keep("videos", videos)

    def texts() -> None:
        clear(work)
        write_clips(work / "clips", 12, 2)
        (work / "out.txt").write_text("before\n", encoding="utf-8")

    keep("texts", texts)

    def one_video() -> None:
        clear(work)
        write_video(work / "v.mp4", 0, 20)
        for name in ("out.txt", "seen.mp4"):
            (work / name).write_text("before\n", encoding="utf-8")
        write_clips(work, 1, 3)
        (work / "000.npz").rename(work / "kept.npz")

    keep("one", one_video)
    keep("nothing", lambda: clear(work))
    served = root / "served"
    served.mkdir()
    write_archive(Bundle.load(demo_bundle_path()), served / "demo.signet")
    sha256 = hashlib.sha256((served / "demo.signet").read_bytes()).hexdigest()
    port, server = serve_files(served, root / "server.log")
    url = f"http://127.0.0.1:{port}/demo.signet#sha256={sha256}"

    def pull() -> object:
        os.environ["SIGNET_MODELS"] = str(Path.cwd() / "models")
        return signet_models(["pull", url, "--quiet", "--accept-licence"])

    inputs = [f"clips/{number:03}.npz" for number in range(12)]
    runs = [pattern.format("run") for pattern in _WEIGHTS]
    all_runs = [pattern.format("whole/runs/*") for pattern in _WEIGHTS]
    # One expert, which knows the language: a stage that nobody needs, as long as it is the same each time.
    align_from = ("align", "whole/align.toml", "--start-from", "whole/runs/pretrain-ase/best")
    cases = [
        Case(
            "extract-poses", _train("extract-poses", "m.jsonl", "--workers", "1"), ["poses/*.npz"], fresh=kept["videos"]
        ),
        Case("convert-poses", _train(*convert_poses), ["store.arrow"], fresh=kept["clips"]),
        Case(
            "cache",
            _train("cache", "whole/finetune.toml", "--views", "12", "--device", "cpu"),
            ["whole/features/**/*.safetensors", "whole/features/cache.json"],
            fresh=kept["uncached"],
        ),
        Case("pretrain", _resumed("pretrain", "whole/pretrain-ase.toml"), runs, between=True, fresh=kept["ready"]),
        Case("align", _resumed(*align_from), runs, between=True, fresh=kept["trained"]),
        Case("finetune", _resumed("finetune", "whole/finetune.toml"), runs, between=True, fresh=kept["trained"]),
        Case(
            "fit",
            _train("fit", "whole", "--device", "cpu", "--until", "finetune"),
            all_runs,
            between=True,
            fresh=kept["ready"],
        ),
        Case(
            "export",
            lambda: signet_export(["whole/runs/finetune/best", "--out", "bundle", "--force"]),
            whole=["bundle"],
            fresh=kept["exported"],
        ),
        Case("models pull", pull, ["models/*/bundle/**/*"], fresh=kept["nothing"]),
        Case(
            "translate -o",
            lambda: signet_translate([*inputs, "-q", "-o", "out.txt"]),
            ["out.txt"],
            fresh=kept["texts"],
        ),
        Case(
            "translate, overlay, keypoints",
            lambda: signet_translate(
                ["v.mp4", "-q", "-o", "out.txt", "--overlay", "seen.mp4", "--keypoints-out", "kept.npz"]
            ),
            ["out.txt", "seen.mp4", "kept.npz"],
            fresh=kept["one"],
        ),
    ]
    cases = [case for case in cases if not chosen or case.name in chosen]
    for case in cases:
        _learn(case, work, log, tell)
    return cases, server


def _learn(case: Case, work: Path, log: Path, tell: Callable[[str], None]) -> None:
    """Carry a command out undisturbed, and note what it makes and how long it takes."""
    case.begin(work)
    case.old = case.state(work)
    log.unlink(missing_ok=True)
    began = time.monotonic()
    code = carry_out(case, work, log)
    case.seconds = time.monotonic() - began
    if code:
        raise RuntimeError(f"{case.name}: {log.read_text(encoding='utf-8')[-2000:]}")
    case.new, case.names = case.state(work), frozenset(listing(work))
    tell(f"{case.name}: {case.seconds:.1f} s, {len(case.new)} outputs")
