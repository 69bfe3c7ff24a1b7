"""Every number of every TOML has a range: whatever stands there is taken, or is one line with file, key and reason."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from benchmarks.ablations.world import WORLDS, World, load_world
from signet_runtime.errors import ConfigError
from signet_train.checkpoint import demo_checkpoint_path
from signet_train.cli import main
from signet_train.config import ModelConfig, OptimisationConfig, TrainConfig, load_config
from signet_train.data.batches.collate import Batch
from signet_train.model.signet import Signet
from signet_train.project.layout import FILE, Project, read_project, toml
from signet_train.ranges import Real, Whole
from signet_train.settings import read_settings, settings_of
from signet_train.stages.loop import learning_rate
from signet_train.stages.objectives import Translation

CONFIGS = sorted((demo_checkpoint_path().parent / "configs").glob("*/*.toml"))

# What people and programs write where a number stands: of all sizes and signs, and what is none. As TOML.
NUMBERS = (
    st.integers(-(10**20), 10**20).map(str)
    | st.integers(-100, 5000).map(str)
    | st.floats().map(lambda x: repr(x) if math.isfinite(x) else str(x))
    | st.floats(-2, 2).map(lambda x: f"{x:f}")
    | st.sampled_from(["0", "-1", "1.0", "0.5", "1e400", "-inf", "nan", "true", '"8"', '"eight"', "[]", "[1, 2]", "{}"])
    | st.sampled_from(["1979-05-27", "0x" + "f" * 6000, "9" * 5000, "[" * 3000, '"\\u001b[2J"', "08:30:00", "[nan]"])
)


def ranged(kind: type[BaseModel]) -> dict[str, Whole | Real]:
    """Every setting with a number in it, alone or in a list, by its dotted key; None where it has no range."""
    found: dict[str, Any] = {}
    for key, field in settings_of(kind):
        annotations = [(field.annotation, field.metadata)]
        while annotations:
            annotation, metadata = annotations.pop()
            if get_origin(annotation) is Annotated:
                inner, *more = get_args(annotation)
                annotations.append((inner, more))
            elif annotation in (int, float):
                found[key] = next((m for m in metadata if isinstance(m, (Whole, Real))), None)
            else:
                annotations += [(part, ()) for part in get_args(annotation)]
    return found


@pytest.mark.parametrize("kind", [TrainConfig, World, Project])
def test_every_number_has_a_range_that_its_default_is_in(kind: type[BaseModel]) -> None:
    numbers = ranged(kind)
    assert len(numbers) >= {TrainConfig: 42, World: 20, Project: 1}[kind]
    fields = dict(settings_of(kind))
    for key, allowed in numbers.items():
        assert allowed is not None, f"{key} has no range"
        assert allowed.why and allowed.low < allowed.high, key
        default = fields[key].get_default(call_default_factory=True)
        for value in default if isinstance(default, tuple) else (default,):
            if isinstance(value, (int, float)):
                assert allowed.check(value) == value, key


def one_line(error: Exception, path: Path, key: str = "") -> None:
    said = str(error)
    assert isinstance(error, ConfigError) and said.startswith(f"{path}: ") and key in said, said
    assert said.isprintable() and len(said) < 1200, said


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_for_a_number_is_taken_or_is_one_line(tmp_path: Path, data: st.DataObject) -> None:
    source = data.draw(st.sampled_from([*CONFIGS, *WORLDS.glob("*.toml"), FILE]))
    kind: Any = Project if source == FILE else TrainConfig if source in CONFIGS else World
    key = data.draw(st.sampled_from(sorted(ranged(kind))))
    value = data.draw(NUMBERS)
    written = read_settings(Path(source)) if source != FILE else {}
    *sections, name = key.split(".")
    inner = written
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[name] = "THE VALUE"
    path = tmp_path / FILE
    path.write_text(written_toml(written).replace('"THE VALUE"', value), encoding="utf-8")
    try:
        if kind is Project:
            read_project(tmp_path)
        else:
            (load_config if kind is TrainConfig else load_world)(path)
    except ConfigError as error:
        one_line(error, path)
    else:
        taken = read_settings(path)
        for section in sections:
            taken = taken[section]
        allowed = ranged(kind)[key]
        for number in taken[name] if isinstance(taken[name], list) else [taken[name]]:
            assert type(number) in (int, float) and allowed.low <= number <= allowed.high, (key, value)


def written_toml(settings: dict[str, Any], prefix: str = "") -> str:
    plain = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    lines = [f"{toml(key) if not key.isidentifier() else key} = {toml(value)}" for key, value in plain.items()]
    for key, value in settings.items():
        if isinstance(value, dict):
            lines += [f"[{prefix}{key}]", written_toml(value, f"{prefix}{key}.")]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"seed = \xff\xfe", "not UTF-8 text, or a damaged one"),
        (b"\xff\xfes\0e\0e\0d\0", "not UTF-8 text"),
        (b"a = " + b"[" * 100_000, "nested too deep"),
        (b"a" + b".a" * 100_000 + b" = 1", "a key of more than 64 parts"),
        (b"seed = " + b"9" * 5000, "a number of more than 300 digits"),
        (b"seed = 0x" + b"f" * 50_000, "seed is a number of some 60,206 digits"),
        (b'stage = "pretrain"\n[data]\nmanifests = ["a\\u0000b"]', r'data.manifests.0 is "a\x00b": has to be a path'),
        (b'stage = "pretrain"\n[data]\nmanifests = ["' + b"a" * 300 + b'"]', "of names of up to 255 bytes"),
        (b'stage = "pretrain"\n[data]\nmanifest = []', "did you mean data.manifests?"),
        (b"", "stage: is missing; data: is missing"),
        (b"\0", "not TOML"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    one_line(error.value, path)
    assert says in str(error.value)
    done = CliRunner().invoke(main, ["pretrain", str(path), "--out", str(tmp_path / "run")])
    assert done.exit_code == 4 and done.stderr.count("\n") == 1 and not (tmp_path / "run").exists()


def test_worlds_and_projects_say_the_same(tmp_path: Path) -> None:
    world = (WORLDS / "fingerspelling.toml").read_text(encoding="utf-8")
    (tmp_path / "w.toml").write_text(world.replace("num_layers = 2", "num_layers = 0"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"w\.toml: model: language_model\.num_layers is 0: has to be a whole number"):
        load_world(tmp_path / "w.toml")
    (tmp_path / "w.toml").write_text(world.replace("[card]", "[cart]"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cart: there is no such setting; did you mean card\?"):
        load_world(tmp_path / "w.toml")
    (tmp_path / FILE).write_text("cache_view = 3", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cache_view: there is no such setting; did you mean cache_views\?"):
        read_project(tmp_path)
    (tmp_path / FILE).write_text('pretrain = ["../elsewhere"]', encoding="utf-8")
    with pytest.raises(ConfigError, match=r'pretrain: "\.\./elsewhere" has to be the name of a PROJECT/NAME.toml'):
        read_project(tmp_path)


SMALL = st.integers(1, 9)
PART = st.sampled_from([0, 0.5, 0.99])
SIZES = st.fixed_dictionaries(
    {
        "backbone": st.fixed_dictionaries(
            {"input_channels": SMALL, "embedding": SMALL, "temporal_kernel": SMALL, "dropout": PART}
            | {
                "spatial_channels": st.lists(SMALL, min_size=1, max_size=3),
                "temporal_channels": st.lists(SMALL, min_size=1, max_size=2),
            }
            | {"body_injection": st.booleans()}
        ),
        "language_model": st.fixed_dictionaries(
            {"vocab_size": st.integers(5, 9), "d_kv": SMALL, "d_ff": SMALL, "num_layers": st.integers(1, 2)}
            | {"num_heads": SMALL, "dropout": PART, "absolute_positions": st.booleans()}
        ),
        "fusion": st.none()
        | st.fixed_dictionaries(
            {"adapter_rank": st.integers(0, 9), "adapter_dropout": PART, "query_hidden": SMALL, "router_hidden": SMALL}
            | {"attention_dropout": PART, "gumbel_temperature": st.sampled_from([1e-3, 1, 1e3]), "top_k": st.just(2)}
            | {"gating": st.sampled_from(["router", "average", "concatenate"])}
        ),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=SIZES)
def test_what_is_taken_can_be_trained(sizes: dict[str, Any]) -> None:
    """No value that a configuration takes reaches PyTorch as a traceback: what is valid learns, and writes."""
    width = sizes["backbone"]["embedding"]
    try:
        model = ModelConfig.model_validate({**sizes, "language_model": {**sizes["language_model"], "d_model": width}})
    except ValueError:  # an even kernel, an odd width with positions
        assume(False)
    torch.manual_seed(0)
    signet = Signet(model, 1 if model.fusion is None else 2).train()
    mask = torch.arange(5) < torch.tensor([5, 2])[:, None]
    regions = {n: torch.rand(2, 5, j, 3) for n, j in (("body", 9), ("left_hand", 21), ("right_hand", 21), ("face", 18))}
    labels = torch.tensor([[3, 1], [1, -100]])
    features = signet.features(regions, mask)
    loss = Translation(signet, 0.2)
    value = loss(Batch(["a", "b"], ["a", "b"], mask, labels, regions))
    value.backward()
    assert torch.isfinite(value)
    written = signet.eval().generate(features, mask, num_beams=2, max_new_tokens=2)
    assert len(written) == 2


@given(epochs=st.integers(1, 50), warmup=st.floats(0, 60), lr=st.floats(0, 10), at=st.floats(0, 1))
def test_every_schedule_has_a_rate(epochs: int, warmup: float, lr: float, at: float) -> None:
    given_ = OptimisationConfig(epochs=epochs, warmup_epochs=warmup, lr=lr, min_lr=0)
    assert 0 <= learning_rate(given_, lr, at * epochs * 0.999) <= lr
