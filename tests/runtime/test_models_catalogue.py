"""The catalogue is whole, says whose word it is, and refuses what would fetch or write elsewhere."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from signet_runtime.errors import ConfigError, ModelError
from signet_runtime.models.catalogue import Catalogue, built_in, parse_catalogue
from signet_runtime.models.fetch import load_catalogue
from signet_runtime.models.home import Home
from signet_runtime.models.reference import refer
from signet_runtime.pose.estimators import ESTIMATORS


def own(**fields: object) -> str:
    """A catalogue of one entry, with these fields in place of right ones."""
    entry = {"kind": "translator", "format": "bundle", "summary": "x", "licence": "geo-sign", "repository": "geo-sign"}
    lines = [f"{key} = {value!r}" for key, value in {**entry, **fields}.items() if value is not None]
    return "[models.mine]\n" + "\n".join(lines).replace("True", "true") + "\n"


def test_every_entry_names_what_is_there() -> None:
    catalogue = built_in()
    for name, entry in catalogue.models.items():
        assert catalogue.licence(entry).says, name
        assert entry.pose_estimator is None or entry.pose_estimator in ESTIMATORS, name
        assert entry.files or entry.format == "wheel", name
        paths = [file.path for file in entry.files]
        assert len(set(paths)) == len(paths)
    named = {corpus for overlap in catalogue.overlaps for corpus in overlap.corpora}
    assert named <= {corpus for entry in catalogue.models.values() for corpus in entry.trained_on}


def test_the_models_that_are_promised_are_there() -> None:
    models = built_in().models
    wanted = {"openasl", "how2sign", "csl-daily", "csl-news", "geo-sign", "youtube-asl", "wlasl", "mt5-base"}
    assert wanted | {"mediapipe", "rtmpose-lightweight", "rtmpose-balanced", "rtmpose-performance"} <= set(models)
    assert all(built_in().repository(models[n]).revision for n in ("openasl", "mt5-base"))  # type: ignore[union-attr]
    assert {n for n in models if built_in().licence(models[n]).must_be_accepted} >= {"openasl", "youtube-asl"}


@pytest.mark.parametrize("name", ["openasl", "how2sign", "csl-daily", "rtmpose-balanced"])
def test_a_slip_of_the_pen_is_offered_the_right_name(name: str) -> None:
    rng = random.Random(name)
    for _ in range(20):
        at = rng.randrange(len(name))
        slip = name[:at] + rng.choice(string.ascii_lowercase) + name[at + rng.randrange(2) :]
        if slip in built_in().models:
            continue
        with pytest.raises(ModelError, match="did you mean") as error:
            refer(slip, built_in())
        assert name in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ModelError, match="there are openasl"):
        refer("zzzzzzzz", built_in())


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "C:x", "a\\..\\x", "", "a/..", "a/", "\u0000x", "./../x"]
)
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"models\.mine\.files\.0: .*leaves the model's folder") as error:
        parse_catalogue(
            own(files=[{"path": "@"}]).replace("{'path': '@'}", f'{{path = "{escaped(path)}"}}'), "x", built_in()
        )
    assert "\n" not in str(error.value)


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\u0000", "\\u0000")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models = ", "not TOML"),
        ("schema_version = 2", "schema_version"),
        (own(licence="none"), r"licence: there is no licences\.none"),
        (own(repository="none"), r"repository: there is no repositories\.none"),
        (own(needs=["none"]), r"needs: there is no models\.none"),
        (own(colour="red"), r"models\.mine\.colour"),
        (own(kind="poem"), r"models\.mine\.kind"),
        (own(format="unisign"), "says sign_language"),
        (own(repository=None, files=[]) + "[[models.mine.files]]\npath = 'x'\n", "has no url"),
        ("[models.'../up']\nkind = 'expert'\n", "models"),
        (own() + "[[models.mine.files]]\npath = 'x'\nsha256 = 'abc'\n", "sha256"),
        (own() + "[[models.mine.files]]\npath = 'x'\nurl = 'file:///etc/passwd'\n", "url"),
        ("[repositories.x]\nhub = '../..'\n[repositories.y]\nhub = 'a/b/c'\n", "repositories"),
    ],
)
def test_what_is_wrong_with_a_catalogue_is_said_in_a_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        parse_catalogue(text.replace("files = []\n", ""), "mine.toml", built_in())
    assert str(error.value).startswith("mine.toml") and "\n" not in str(error.value)


def test_ones_own_catalogue_stands_beside_the_other_and_goes_first(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(own(summary="my own") + own(summary="my OpenASL").replace("models.mine", "models.openasl"))
    monkeypatch.setenv("SIGNET_CATALOGUE", str(path))
    catalogue = load_catalogue(home=Home(tmp_path / "home"))
    assert catalogue.entry("mine").summary == "my own"
    assert catalogue.entry("openasl").summary == "my OpenASL" and "how2sign" in catalogue.models
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read .*give a TOML file or a URL"):
        load_catalogue(str(tmp_path / "nothing.toml"))


def test_an_overlap_is_found_in_either_direction() -> None:
    catalogue = built_in()
    for seen, corpora in ((("youtube-asl", "wlasl"), ("openasl",)), (("openasl",), ("youtube-asl",))):
        (overlap,) = catalogue.overlap(seen, corpora)
        assert overlap.share == 0.61
    assert not catalogue.overlap(("csl-news",), ("openasl",)) and not catalogue.overlap(("youtube-asl",), ())


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("hf:", "hf:ORG/NAME"),
        ("hf:one", "hf:ORG/NAME"),
        ("hf:a/b/c", "hf:ORG/NAME"),
        ("hf:../b@x y", "hf:ORG/NAME"),
        ("https://example.org/x.signet", "#sha256="),
        ("https://example.org/x.signet#sha256=12", "64 digits"),
        ("http://example.org/x.signet#md5=" + 64 * "0", "#sha256="),
    ],
)
def test_a_reference_that_is_none_says_how_one_is_written(asked: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as error:
        refer(asked, Catalogue())
    assert "\n" not in str(error.value)


def test_references_never_share_a_directory() -> None:
    asked = ["hf:a/b", "hf:A/b", "hf:a/b@v1", "hf:a/b@" + 40 * "1", "hf:a--b/c", "hf:a/b--c"]
    asked += [f"https://x.org/m.signet#sha256={c * 64}" for c in "ab"] + ["https://y.org/m.signet#sha256=" + "a" * 64]
    names = [refer(a, built_in()).name for a in asked]
    assert len(set(names)) == len(names)
    assert all("/" not in name and not name.startswith(".") for name in names)
