"""Models by name against a hub on loopback: what goes wrong is one line, nothing half-done is used, and it goes on."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.file_download
import huggingface_hub.utils._http
import pytest
import zstandard
from click.testing import CliRunner
from hub_server import Hub, hub_server

from signet_runtime.bundle import Bundle, Engine, Expert, Manifest, Routing, write_manifest
from signet_runtime.bundle_contents import SIGNATURE
from signet_runtime.commands.models import main
from signet_runtime.errors import BundleError, CheckpointError, ModelError, OutputError, SignetError
from signet_runtime.leftovers import OWNER, temporary_name
from signet_runtime.models import downloads
from signet_runtime.models.fetch import load_catalogue
from signet_runtime.models.home import Home
from signet_runtime.models.pull import Wishes, bundle_of, pull
from signet_runtime.models.reference import refer
from signet_runtime.signatures import read_key

REPOSITORY = "team/asl"
ASKED = f"hf:{REPOSITORY}"
YES = Wishes(accept=lambda licence: True, quiet=True)
LARGE = 300_000  # bytes of a bundle's largest file


def bundle_files(seed: int) -> dict[str, bytes]:
    """A bundle of random bytes: every contract of its manifest is kept, and graphs are graphs of nothing."""
    rng = random.Random(seed)
    names = {
        "encoder.onnx": LARGE,
        "decoder_model.onnx": 60_000,
        "decoder_with_past_model.onnx": 50,
        "a/spiece.model": 9,
    }
    return {
        name: graph_of_nothing(rng, size) if name.endswith(".onnx") else rng.randbytes(size)
        for name, size in names.items()
    }


def graph_of_nothing(rng: random.Random, size: int) -> bytes:
    """An ONNX file of so many bytes, all of them its description."""
    rest = size - 1 - (1 if size < 130 else 3)
    length = bytes([rest]) if size < 130 else bytes([rest & 127 | 128, rest >> 7 & 127 | 128, rest >> 14])
    return b"\x32" + length + rng.randbytes(rest)


def write_bundle(directory: Path, seed: int) -> Path:
    for name, content in bundle_files(seed).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    engine = dict(zip(("encoder", "decoder", "decoder_with_past"), bundle_files(seed), strict=False))
    manifest = Manifest(
        name=f"random {seed}",
        language="en",
        experts=[Expert(name="one", sign_languages=["ase"], corpus="none")],
        routing=Routing(k=1),
        normalisation="unisign",
        pose_estimator="mediapipe",
        engines=[Engine(kind="onnx", precision="fp32", **engine)],
    )
    write_manifest(directory, manifest)
    return directory


def read(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return read(write_bundle(tmp_path_factory.mktemp("bundle"), 1))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: dict[str, bytes]) -> Iterator[Hub]:
    """The hub with one bundle, and a machine that has nothing yet."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "SIGNET_OFFLINE", "SIGNET_CATALOGUE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SIGNET_MODELS", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))  # of child processes; here it was read long ago
    for name, value in {"HF_HUB_CACHE": str(tmp_path / "hf/hub"), "HF_TOKEN_PATH": str(tmp_path / "hf/token")}.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 8192)
    # It waits for half a minute between its tries at a server that is not there.
    impatient = SimpleNamespace(sleep=lambda seconds: None, time=time.time)
    for module in (huggingface_hub.utils._http, huggingface_hub.file_download):
        monkeypatch.setattr(module, "time", impatient)
    with hub_server() as hub:
        hub.add(REPOSITORY, bundle, licence="mit")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def refused(asked: str = ASKED, kind: type[SignetError] = ModelError, wishes: Wishes = YES) -> str:
    """What is said in one line, after which there is no such model."""
    with pytest.raises(kind) as error:
        bundle_of(asked, wishes)
    assert "\n" not in str(error.value)
    home = Home.default()
    if home.path.is_dir():
        made = {p.name for p in home.path.iterdir() if not p.name.startswith(".") and p.is_dir()}
        assert made <= {"mediapipe"}  # which the bundles want
    return str(error.value)


def whole(path: Path, bundle: dict[str, bytes]) -> bool:
    Bundle.load(path, verify=True)
    return read(path) == bundle


def test_a_bundle_comes_from_a_hub_once_and_then_needs_no_network(hub: Hub, bundle: dict[str, bytes]) -> None:
    path = bundle_of(ASKED, YES)
    assert whole(path, bundle)
    hub.requests.clear()
    assert bundle_of(ASKED, Wishes()) == bundle_of(ASKED, Wishes(offline=True)) == path
    assert hub.requests == []
    assert not any(p.is_symlink() for p in path.rglob("*"))


def test_what_other_programs_have_in_the_hubs_cache_is_used_and_stays(hub: Hub, bundle: dict[str, bytes]) -> None:
    commit = hub.repositories[REPOSITORY].commit
    theirs = Path(huggingface_hub.hf_hub_download(REPOSITORY, "encoder.onnx", revision=commit, endpoint=hub.url))
    hub.requests.clear()
    assert whole(bundle_of(ASKED, YES), bundle)
    assert not [r for r in hub.requests if "encoder.onnx" in r]
    assert theirs.read_bytes() == bundle["encoder.onnx"]
    blobs = list((Path(os.environ["HF_HOME"]) / "hub").glob("models--*/blobs/*"))
    assert blobs == [theirs.resolve()]  # what this pull brought is not kept twice


def test_a_branch_is_held_to_its_commit_until_it_is_pulled_again(hub: Hub, tmp_path: Path) -> None:
    first = bundle_of(ASKED, YES)
    before = read(first)
    hub.add(REPOSITORY, read(write_bundle(tmp_path / "newer", 2)), licence="mit")
    assert read(bundle_of(ASKED, YES)) == before
    told = CliRunner().invoke(main, ["pull", ASKED])
    assert told.exit_code == 0, told.output
    assert read(first) == read(tmp_path / "newer")
    (tmp_path / "pinned").mkdir()
    pinned = f"{ASKED}@{hub.repositories[REPOSITORY].commit}"
    assert read(bundle_of(pinned, YES, Home(tmp_path / "pinned"))) == read(tmp_path / "newer")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("always cut", "cut off|try goes on"),
        ("stall", "nothing came for too long"),
        ("html", "no hub: a proxy, or a login page"),
        ("circle", "redirects in a circle"),
        ("refuse", "500"),
    ],
)
def test_a_hub_that_fails_is_one_line_and_the_next_pull_succeeds(
    hub: Hub, bundle: dict[str, bytes], monkeypatch, fault: str, says: str
) -> None:
    hub.fault, hub.fault_at = fault, "encoder.onnx"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3 if fault == "stall" else 10)
    assert re.search(says, refused())
    hub.fault = None
    assert whole(bundle_of(ASKED, YES), bundle)


def test_a_pull_that_was_cut_off_goes_on_where_it_was(hub: Hub, bundle: dict[str, bytes]) -> None:
    hub.fault, hub.fault_at, hub.cut_at = "always cut", "encoder.onnx", 20_000
    refused()
    hub.fault, hub.ranges = None, []
    assert whole(bundle_of(ASKED, YES), bundle)
    (asked,) = [r for r in hub.ranges if "encoder" in r]
    assert int(asked.partition("bytes=")[2].rstrip("-")) >= 16_384


def test_wrong_bytes_of_the_right_size_are_refused_and_gone(hub: Hub, bundle: dict[str, bytes]) -> None:
    hub.fault, hub.fault_at = "wrong bytes", "encoder.onnx"
    assert "encoder.onnx is another file than it has to be" in refused(kind=CheckpointError)
    hub.fault = None
    assert whole(bundle_of(ASKED, YES), bundle)


def test_a_file_that_changed_under_its_name_is_refused(hub: Hub, tmp_path: Path, bundle: dict[str, bytes]) -> None:
    bundle_of(ASKED, YES)
    Home.default().remove(refer(ASKED, load_catalogue()).name)
    subprocess.run(["rm", "-r", os.environ["HF_HOME"]], check=True)
    hub.repositories[REPOSITORY].files = read(write_bundle(tmp_path / "other", 3))  # at the same commit
    said = refused(kind=CheckpointError)
    assert "signet.json is another file" in said and "its first download" in said


def test_a_catalogues_hash_is_held_to_and_the_hubs_own_word_is_told_apart(
    hub: Hub, tmp_path: Path, monkeypatch
) -> None:
    catalogue = tmp_path / "mine.toml"
    text = f"""
[repositories.team]
hub = "{REPOSITORY}"
revision = "{hub.repositories[REPOSITORY].commit}"
[models.mine]
kind = "translator"
format = "bundle"
summary = "ours"
repository = "team"
licence = "geo-sign"
files = [{{ path = "signet.json", sha256 = "FIRST" }}, {{ path = "encoder.onnx", sha256 = "SECOND" }}]
"""
    files = hub.repositories[REPOSITORY].files
    right = [hashlib.sha256(files[name]).hexdigest() for name in ("signet.json", "encoder.onnx")]
    monkeypatch.setenv("SIGNET_CATALOGUE", str(catalogue))
    catalogue.write_text(text.replace("FIRST", right[0]).replace("SECOND", "0" * 64))
    said = refused("mine", CheckpointError)
    assert "by the catalogue with 000000000000" in said and "the hub itself has that other file" in said
    catalogue.write_text(text.replace("FIRST", right[0]).replace("SECOND", right[1]))
    hub.requests.clear()
    bundle_of("mine", YES)
    assert not [
        r for r in hub.requests if r.startswith("GET") and "encoder" in r
    ]  # it was kept: the hub vouches for it


@pytest.mark.parametrize(
    ("endpoint", "says"), [("http://127.0.0.1:9", "no connection"), ("http://nowhere.invalid", "DNS|no connection")]
)
def test_no_network_is_one_line(hub: Hub, monkeypatch, endpoint: str, says: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert re.search(says, refused())


def test_offline_is_never_asked(hub: Hub, monkeypatch) -> None:
    for wishes, name in ((Wishes(offline=True), None), (YES, "SIGNET_OFFLINE"), (YES, "HF_HUB_OFFLINE")):
        if name:
            monkeypatch.setenv(name, "1")
        assert "nothing is fetched while offline" in refused(wishes=wishes)
    assert hub.requests == []


def test_gated_private_and_missing_are_told_apart(hub: Hub, bundle: dict[str, bytes], monkeypatch) -> None:
    hub.repositories[REPOSITORY].gated = True
    assert "gated: ask for access" in refused() and "hf auth login" in refused()
    assert "no such repository, or a private one" in refused("hf:team/nothing")
    assert "no such revision" in refused(f"{ASKED}@{'7' * 40}") or "gated" in refused(f"{ASKED}@{'7' * 40}")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert "no such revision" in refused(f"{ASKED}@{'7' * 40}")
    hub.add("team/empty", {"README.md": b"nothing"}, licence="mit")
    assert "no file signet.json" in refused("hf:team/empty")
    assert whole(bundle_of(ASKED, YES), bundle)


def test_a_licence_is_shown_and_accepted_once(hub: Hub, bundle: dict[str, bytes]) -> None:
    for licence, says in ((None, "no licence is stated"), ("cc-by-nc-4.0", "not for commercial use")):
        hub.add(REPOSITORY, bundle, licence=licence)
        said = refused(wishes=Wishes(quiet=True))
        assert says in said and "--accept-licence" in said
        assert not [r for r in hub.requests if r.startswith("GET") and "/resolve/" in r]
    asked: list[str] = []
    bundle_of(ASKED, Wishes(accept=lambda text: asked.append(text) is None, quiet=True))
    assert len(asked) == 1 and "not for commercial use" in asked[0]
    Home.default().remove(refer(ASKED, load_catalogue()).name)
    bundle_of(ASKED, Wishes(quiet=True))  # nobody is asked again


@pytest.mark.parametrize("place", ["a file", "/proc/nowhere"])
@pytest.mark.parametrize("what", ["models", "hub"])
def test_a_place_that_cannot_be_written_is_one_line(
    hub: Hub, tmp_path: Path, monkeypatch, place: str, what: str
) -> None:
    if place == "a file":
        (tmp_path / "file").touch()
        place = str(tmp_path / "file")
    if what == "models":
        monkeypatch.setenv("SIGNET_MODELS", f"{place}/models")
    else:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", f"{place}/hub")
    with pytest.raises(SignetError) as error:
        bundle_of(ASKED, YES)
    assert "\n" not in str(error.value) and place in str(error.value)


def test_a_disk_that_is_too_small_is_known_before_anything_is_fetched(hub: Hub, monkeypatch) -> None:
    from signet_runtime.models import pull as pulling

    monkeypatch.setattr(pulling, "free_space", lambda path: 1_000_000)
    monkeypatch.setattr(pulling, "check_can_import", lambda name: None)
    with pytest.raises(OutputError, match=r"takes \d+\.\d GB of disk") as error:
        pull(refer("openasl", load_catalogue()), Home.default(), YES)
    assert "\n" not in str(error.value) and hub.requests == []


def test_without_pytorch_it_is_said_before_the_download(hub: Hub, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else found(name, *a))
    with pytest.raises(SignetError, match=r"torch is not installed here: pip install .*\[train\]'") as error:
        bundle_of("openasl", YES)
    assert error.value.exit_code == 5 and hub.requests == []
    bundle_of(ASKED, YES)  # a bundle needs none


# ------------------------------------------------------------------------------------------- archives on a web server


def archive(directory: Path, extra: dict[str, bytes] | None = None, twice: str | None = None) -> bytes:
    packed = io.BytesIO()
    members = {**{f"asl/{name}": content for name, content in read(directory).items()}, **(extra or {})}
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in [*members.items(), *((twice, members[twice]) for _ in range(bool(twice)) if twice)]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return zstandard.compress(packed.getvalue())


def served(hub: Hub, content: bytes, sha256: str | None = None) -> str:
    hub.pages["/files/asl.signet"] = content
    return f"{hub.url}/files/asl.signet#sha256={sha256 or hashlib.sha256(content).hexdigest()}"


def test_an_archive_comes_from_a_web_server(hub: Hub, tmp_path: Path) -> None:
    directory = write_bundle(tmp_path / "asl", 5)
    asked = served(hub, archive(directory))
    path = bundle_of(asked, YES)
    assert whole(path, read(directory))
    hub.pages.clear()
    assert bundle_of(asked, Wishes(offline=True)) == path


def test_an_archive_of_pyarrows_compressor_is_read(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from signet_export.archive import write_archive

    directory = write_bundle(tmp_path / "asl", 6)
    write_archive(Bundle.load(directory), tmp_path / "asl.signet")
    assert whole(bundle_of(served(hub, (tmp_path / "asl.signet").read_bytes()), YES), read(directory))


@pytest.mark.parametrize("fault", ["always cut", "stall", "html", "circle", "wrong bytes", "refuse"])
def test_a_web_server_that_fails_is_one_line_and_the_next_pull_goes_on(
    hub: Hub, tmp_path: Path, monkeypatch, fault: str
) -> None:
    directory = write_bundle(tmp_path / "asl", 7)
    asked = served(hub, archive(directory))
    hub.fault, hub.cut_at = fault, 30_000
    monkeypatch.setattr(downloads, "STALLED", 0.3 if fault == "stall" else 30)
    refused(asked, CheckpointError if fault == "wrong bytes" else ModelError)
    hub.fault, hub.ranges = None, []
    assert whole(bundle_of(asked, YES), read(directory))
    went_on = [int(r.partition("bytes=")[2].rstrip("-")) for r in hub.ranges]
    assert bool(went_on and went_on[0] >= 30_000) == (fault in ("always cut", "stall"))


def test_an_archive_that_leaves_its_folder_or_is_none_is_refused(hub: Hub, tmp_path: Path) -> None:
    directory = write_bundle(tmp_path / "asl", 8)
    good = archive(directory)
    for content, says in (
        (archive(directory, {"asl/../../escaped": b"x"}), "no place in an archive"),
        (archive(directory, {"/tmp/escaped": b"x"}), "no place in an archive"),
        (archive(directory, {"asl/encoder.onnx": b"x"}), "the bundle in it is damaged: encoder.onnx"),
        (archive(directory, twice="asl/encoder.onnx"), "twice in it"),
        (good[: len(good) // 2], "damaged"),
        (b"PK" + good[2:], "not an archive of a bundle"),
        (zstandard.compress(b"nothing"), "not an archive of a bundle"),
        (zstandard.compress(b""), "archive of a bundle"),
    ):
        assert says in refused(served(hub, content), BundleError)
    assert not list(tmp_path.rglob("escaped"))
    unreachable = "http://127.0.0.1:9/x.signet#sha256=" + "0" * 64
    assert "cannot be reached" in refused(unreachable)


# ------------------------------------------------------------------------------------------- processes

_PULL = "from signet_runtime.commands.models import main; main()"


def start(*arguments: str, before: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "HF_HUB_DOWNLOAD_TIMEOUT": "5"}
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{_PULL}", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_pulls_at_once_are_one_download(hub: Hub, bundle: dict[str, bytes]) -> None:
    hub.slow = 0.1
    both = [start("pull", ASKED, "--quiet") for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert whole(Path(out.strip()), bundle)
    assert len([r for r in hub.requests if r.startswith("GET") and r.endswith("encoder.onnx")]) == 1


def test_ctrl_c_is_one_line_and_the_next_pull_goes_on(hub: Hub, bundle: dict[str, bytes]) -> None:
    hub.slow = 0.3
    process = start("pull", ASKED)
    while not any(r.startswith("GET") and r.endswith("encoder.onnx") for r in hub.requests):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted; what was fetched is kept" in err and "Traceback" not in err
    hub.slow = 0
    assert whole(bundle_of(ASKED, YES), bundle)


def test_a_disk_that_fills_half_way_is_one_line(hub: Hub, bundle: dict[str, bytes]) -> None:
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LARGE // 2},) * 2)"
    process = start("pull", ASKED, before=limit)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3 and "cannot be written (File too large)" in err, err
    assert "Traceback" not in err
    assert whole(bundle_of(ASKED, YES), bundle)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY  # of that process alone


def test_a_pull_that_was_killed_between_a_model_and_its_estimator_goes_on(hub: Hub) -> None:
    bundle_of(ASKED, YES)
    home = Home.default()
    if home.installed("mediapipe") is None:
        pytest.skip("MediaPipe's models are not on this machine")
    home.remove("mediapipe")
    left = home.path / temporary_name("mediapipe", ".draft")  # as when it was killed while it made that
    (left / "new").mkdir(parents=True)
    (left / OWNER).touch()
    process = start("pull", ASKED)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert home.check("mediapipe") > 0 and not left.exists()


@pytest.mark.slow
def test_a_hundred_kills_at_any_moment_leave_nothing_corrupt(hub: Hub, bundle: dict[str, bytes]) -> None:
    rng = random.Random(0)
    hub.slow = 0.1
    home, cache = Home.default(), Path(os.environ["HF_HOME"])

    def accepted() -> bool:
        """Whether there is a model, which then is a whole one; it is removed."""
        here = {path.parent.name for path in home.path.glob("[!.]*/model.json")}
        if "mediapipe" in here:  # which the bundle wants
            assert home.check("mediapipe") > 0
        here -= {"mediapipe"}
        for name in here:
            assert whole(home.product(name), bundle)
            home.remove(name)
            shutil.rmtree(cache, ignore_errors=True)
        return bool(here)

    needed, killed, pulls, finished = 3.0, 0, 0, 0  # seconds of a pull that is left alone
    while killed < 100:
        pulls += 1
        assert pulls < 500
        started = time.monotonic()
        process = start("pull", ASKED, "--quiet")
        try:
            process.wait(timeout=rng.uniform(0.1, 1.0) * needed)
            needed = 0.5 * needed + 0.5 * (time.monotonic() - started)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
            needed *= 1.02
        process.communicate()
        finished += accepted()
    assert finished > 0
    hub.slow = 0
    assert whole(bundle_of(ASKED, YES), bundle)
    assert not list(home.path.glob(".*.draft")) and not list(home.path.glob(".*.gone"))


# ------------------------------------------------------------------------------------------- the command


def test_what_is_here_can_be_listed_checked_and_removed(hub: Hub, tmp_path: Path) -> None:
    path = bundle_of(ASKED, YES)

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, list(arguments))
        assert done.exit_code == code, done.output
        return done.output

    assert ASKED in run("list") and "here" in run("list")
    assert run("path", ASKED).strip() == str(path)
    assert "4 files are as they were made" in run("verify") and "4 files" in run("verify", ASKED)
    damaged = bytearray((path / "encoder.onnx").read_bytes())
    damaged[7] ^= 1
    (path / "encoder.onnx").write_bytes(damaged)
    assert "damaged" in run("verify", code=4)
    run("remove", ASKED)
    assert "not here" in run("path", ASKED, code=5) and not path.exists()
    assert "nothing to remove" in run("remove", ASKED, code=5)


def test_a_catalogue_at_a_url_is_kept_for_when_there_is_no_network(hub: Hub, monkeypatch) -> None:
    own = f"""[models.mine]
kind = "translator"
format = "bundle"
summary = "ours"
repository = "team"
licence = "geo-sign"
files = [{{ path = "signet.json" }}]
[repositories.team]
hub = "{REPOSITORY}"
"""
    hub.pages["/models.toml"] = own.encode()
    monkeypatch.setenv("SIGNET_CATALOGUE", f"{hub.url}/models.toml")
    with pytest.raises(ModelError, match="this catalogue is not here"):
        load_catalogue(offline=True)
    path = bundle_of("mine", YES)
    hub.pages.clear()
    assert "mine" in load_catalogue(offline=True).models
    hub.requests.clear()
    assert bundle_of("mine", YES) == path and hub.requests == []
    monkeypatch.setenv("SIGNET_CATALOGUE", f"{hub.url}/models.toml#sha256={'0' * 64}")
    hub.pages["/models.toml"] = own.encode()
    with pytest.raises(SignetError, match="another catalogue"):
        load_catalogue()


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_a_bundle_of_a_hub_that_must_be_signed(hub: Hub, bundle: dict[str, bytes], tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="what checks signatures is an extra of its own")
    keys = [tmp_path / "a.pub", tmp_path / "b.pub"]
    for key in keys:
        subprocess.run(["minisign", "-GWp", key, "-s", key.with_suffix(".sec")], check=True, capture_output=True)
    (tmp_path / "signet.json").write_bytes(bundle["signet.json"])
    sign = ["minisign", "-Ss", keys[0].with_suffix(".sec"), "-m", tmp_path / "signet.json"]
    subprocess.run(sign, check=True, capture_output=True)
    hub.add("team/signed", {**bundle, SIGNATURE: (tmp_path / SIGNATURE).read_bytes()}, licence="mit")
    mine, others = (replace(YES, signed_by=read_key(str(key))) for key in keys)
    assert "another key" in refused("hf:team/signed", BundleError, others)
    assert SIGNATURE in refused(ASKED, ModelError, mine)  # there is none
    path = bundle_of("hf:team/signed", mine)
    assert (path / SIGNATURE).is_file()
    Bundle.load(path, verify=True)
