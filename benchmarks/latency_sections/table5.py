"""The paper's Table 5 on this machine: the latency of a training batch of 8.

What is timed is Stage III (experts frozen, dropout and Gumbel routing on): forward to the loss with the graph that
backward needs, and forward with backward; no optimiser. Clips are of full length and regions random, which cost what
real ones do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.latency_sections.parameters import EXPERTS, TABLE_5, paper_size
from benchmarks.latency_sections.steps import Step, step_table, training_steps
from benchmarks.measuring.report import Ratio, Report, Table, Timing, instructions
from benchmarks.measuring.timing import Way, in_turns
from benchmarks.peers.models import Peer, build_peers
from benchmarks.peers.signet import NAME, AuthorsPeer
from benchmarks.training import TOKENS, random_batch
from signet_export.fuse import FusedEncoder
from signet_runtime.skeleton import REGIONS
from signet_train.config import ModelConfig
from signet_train.data.batches.collate import Batch
from signet_train.model.losses import token_loss
from signet_train.model.signet import Signet
from signet_train.stages.objectives import Translation, set_trainable

BATCH = 8  # Table 5's
LABEL_SMOOTHING = 0.2  # Table 14, and both peers'

_UNISIGN_MS = 416

Tell = Callable[[str], None]

COMPARABLE = (
    "The paper's column is of an RTX 3090 and of clips and targets whose length and precision it does not state: its "
    "milliseconds cannot be compared with those of this machine. What can be compared is each column's ratio to its "
    "own Uni-Sign, and rows of one run with each other: same batch, frames, target length and precision."
)


class FusedTranslation(nn.Module):
    """`Translation`'s loss with the encoder as it is exported: folded, and routed as in inference. Forward only."""

    def __init__(self, model: Signet, stacked: bool) -> None:
        super().__init__()
        training = model.training
        self.encoder = FusedEncoder(model.eval(), "dense", stacked=stacked)
        model.train(training)
        self.encoder.hands.requires_grad_(False)
        self.encoder.remainders.requires_grad_(False)
        self.language_model = model.language_model

    def forward(self, batch: Batch) -> Tensor:
        regions = (batch.regions[name] for name in REGIONS)
        states, mask, _ = self.encoder(*regions, batch.mask.long())
        logits = self.language_model(
            encoder_outputs=BaseModelOutput(states),
            attention_mask=mask,
            decoder_input_ids=self.language_model.prepare_decoder_input_ids_from_labels(batch.labels),
        ).logits
        return token_loss(logits, batch.labels, LABEL_SMOOTHING)


@dataclass
class Row:
    """A row of the latency table, at one precision.

    Attributes:
        paper: the row of Table 5 that it stands beside.
        loss: of a batch, its forward pass.
        trains: whether backward is a training step of it.
        modules: whose weights it reads.
    """

    name: str
    paper: str | None
    loss: Callable[[Batch], Callable[[], Tensor]]
    trains: bool
    modules: tuple[nn.Module, ...]

    def owned(self) -> int:
        """Bytes of weights."""
        weights = {p.data_ptr(): p.numel() * p.element_size() for m in self.modules for p in m.parameters()}
        return sum(weights.values())


def rows(model: Signet, peers: Sequence[Peer | AuthorsPeer], fused: Sequence[FusedTranslation]) -> list[Row]:
    """SIGNET's and the peers', all around one language model."""
    objective = Translation(model, LABEL_SMOOTHING)
    language_model, fusion = model.language_model, model.fusion
    assert fusion is not None

    def cached(batch: Batch) -> Callable[[], Tensor]:
        with torch.no_grad():
            given = batch._replace(features=model.features(batch.regions, batch.mask))
        return lambda: objective(given)

    def of_peer(peer: Peer | AuthorsPeer) -> Callable[[Batch], Callable[[], Tensor]]:
        def prepare(batch: Batch) -> Callable[[], Tensor]:
            inputs = peer.inputs(batch, TOKENS, batch.regions["body"].dtype)
            return lambda: peer.run(inputs)

        return prepare

    found = [Row("SIGNET, eager", "SIGNET", partial(partial, objective), True, (model,))]
    for each in fused:
        stacked = len(each.encoder.hands) < each.encoder.num_experts
        name = "SIGNET, fused and stacked" if stacked else "SIGNET, fused"
        found.append(Row(name, None, partial(partial, each), False, (each,)))
    found.append(Row("SIGNET, cached features", None, cached, True, (fusion, language_model)))
    found += [Row(peer.name, peer.paper, of_peer(peer), True, (peer.model,)) for peer in peers]
    return found


@dataclass
class _Measured:
    row: Row
    forward: Way
    both: Way | None


def latency(
    report: Report,
    checkouts: dict[str, Path],
    device: torch.device,
    *,
    frames: int,
    sweep: Sequence[int],
    rounds: int,
    backward_rounds: int,
    precisions: Sequence[str],
    small: bool,
    tell: Tell,
) -> None:
    """Fill the latency table at ``frames`` a clip, and forward alone at the counts of ``sweep``.

    Args:
        rounds: of forward; ``backward_rounds`` of forward with backward, of whole steps, and of the sweep.
        precisions: "fp32", "bf16"; one that the device would emulate is left out, and said.
    """
    torch.manual_seed(0)
    tell("building the models")
    config = paper_size(small)
    model = Signet(config, EXPERTS)
    set_trainable(model, "finetune", train_experts=False)
    model.to(device).train()
    # One launch for all experts pays on a GPU; on a CPU it costs, and is shown where there is time.
    forms = (False,) if device.type == "cpu" and not sweep else (False, True)
    fused = [FusedTranslation(model, stacked).to(device).train() for stacked in forms]
    table = report.table(
        "latency",
        f"Latency of a training batch of {BATCH}, not cached",
        "method",
        "precision",
        "forward, ms",
        "of Uni-Sign's",
        "of SIGNET eager",
        "forward + backward, ms",
        "memory, forward",
        "and backward",
        "paper, RTX 3090: ms",
        "paper: of Uni-Sign's",
    )
    swept = report.table(
        "sweep", "Forward, ms, by frames a clip", "method", "precision", *(f"{n} frames" for n in sweep)
    )
    swept.notes.append(f"Median of {backward_rounds} rounds in turns; all else as above.")
    table.notes += [
        f"{frames} frames a clip, {TOKENS} target tokens, {'a small model' if small else 'mT5-base'}, random weights; "
        f"median of {rounds} rounds in turns ({backward_rounds} with backward), least and most in brackets.",
        COMPARABLE,
    ]
    steps = step_table(report) if "signet" in checkouts else None
    with build_peers(checkouts, model.language_model, table.notes, EXPERTS) as peers:
        for peer in peers:
            peer.model.to(device).train()
        for number, (precision, dtype) in enumerate(_precisions(device, precisions, table.notes).items()):
            for module in (model, *fused, *(peer.model for peer in peers)):
                module.to(dtype)
            found = rows(model, peers, fused)
            batch = _batch(config, frames, device, dtype)
            measured = [_prepare(row, batch) for row in found]
            _add(table, measured, precision)
            if not number:
                _add_unmeasured(table, {"unisign", "geosign"} - set(checkouts))
            in_turns([m.forward for m in measured], rounds, device, _said(tell, precision, frames, "forward"))
            both = [m.both for m in measured if m.both is not None]
            in_turns(both, backward_rounds, device, _said(tell, precision, frames, "forward and backward"))
            if steps is not None:
                said = _said(tell, precision, frames, "training step")
                own = [row for row in found if row.trains and row.name.startswith("SIGNET")]
                made = [Step(row.name, row.loss(batch), row.modules) for row in own]
                training_steps(steps, made, model.language_model, precision, backward_rounds, device, said)
            _sweep(swept, found, sweep, config, device, dtype, precision, backward_rounds, tell)
        table.notes.append(_apart(model, fused[0], config, device))
    if not sweep:
        report.tables.remove(swept)
        table.notes.append("Left out by --quick: experts stacked, and 64, 128 and 256 frames side by side.")
    _notes(table, device, peers)


def _batch(config: ModelConfig, frames: int, device: torch.device, dtype: torch.dtype) -> Batch:
    batch = random_batch(BATCH, frames, config.language_model.vocab_size, device)
    return batch._replace(regions={name: region.to(dtype) for name, region in batch.regions.items()})


def _prepare(row: Row, batch: Batch) -> _Measured:
    run = row.loss(batch)

    def step() -> None:
        run().backward()

    def forget() -> None:
        for module in row.modules:
            module.zero_grad(set_to_none=True)

    both = Way(row.name, step, row.owned(), forget) if row.trains else None
    return _Measured(row, Way(row.name, run, row.owned()), both)


def _of_paper(method: str | None) -> list[object]:
    """Return Table 5's milliseconds of a method, and how many times Uni-Sign's they are."""
    latency = next((row.latency for row in TABLE_5 if row.method == method), None)
    return [f"{latency}", f"{latency / _UNISIGN_MS:.2f}"] if latency is not None else ["", ""]


def _add(table: Table, measured: Sequence[_Measured], precision: str) -> None:
    """Add the rows of one precision."""
    eager = measured[0].forward.timing
    unisign = next((m.forward.timing for m in measured if m.row.paper == "Uni-Sign"), None)

    def ratio(timing: Timing, other: Timing | None) -> object:
        return Ratio(timing, other) if other is not None else ""

    for m in measured:
        timing = m.forward.timing
        backward: list[object] = (
            [m.both.timing, m.forward.memory, m.both.memory] if m.both is not None else ["–", m.forward.memory, "–"]
        )
        table.rows.append(
            [
                m.row.name,
                precision,
                timing,
                ratio(timing, unisign),
                Ratio(timing, eager),
                *backward,
                *_of_paper(m.row.paper),
            ]
        )


def _add_unmeasured(table: Table, absent: set[str]) -> None:
    """Add rows of which the paper's figures are all there is; those of peers that were not given say what to give."""
    named = {"unisign": "Uni-Sign", "geosign": "Geo-Sign"}
    for name in sorted(absent, reverse=True):
        blank = [f"not measured: give --peer {name}=PATH", "", "", "", "", ""]
        table.rows.append([named[name], "", *blank, *_of_paper(named[name])])
    for method in ("Sign2GPT", "C²RL"):
        table.rows.append([method, "", "not measured", "", "", "", "", "", "–", ""])


def _sweep(
    table: Table,
    found: Sequence[Row],
    sweep: Sequence[int],
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    precision: str,
    rounds: int,
    tell: Tell,
) -> None:
    timings = [[Timing() for _ in sweep] for _ in found]
    table.rows += [[row.name, precision, *cells] for row, cells in zip(found, timings, strict=True)]
    for position, frames in enumerate(sweep):
        batch = _batch(config, frames, device, dtype)
        ways = [
            Way(row.name, row.loss(batch), timing=cells[position]) for row, cells in zip(found, timings, strict=True)
        ]
        in_turns(ways, rounds, device, _said(tell, precision, frames, "forward"))


def _said(tell: Tell, precision: str, frames: int, what: str) -> Tell:
    return lambda line: tell(f"{what}, {frames} frames, {precision}: {line}")


def _precisions(device: torch.device, wanted: Sequence[str], notes: list[str]) -> dict[str, torch.dtype]:
    """Return those that are wanted, if the device computes them natively; why bf16 is not among them is noted."""
    found = {"fp32": torch.float32} if "fp32" in wanted else {}
    if "bf16" not in wanted:
        notes.append("bf16 was not asked for; --precision bf16 measures it.")
    elif device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            notes.append("bf16: weights and activations of every row, as the peers train.")
            return found | {"bf16": torch.bfloat16}
        notes.append("bf16 was not measured: this GPU does not compute it.")
    elif not {"avx512_bf16", "amx_bf16"} & set(instructions()):
        notes.append("bf16 was not measured: this CPU has neither avx512_bf16 nor amx_bf16 and would emulate it.")
    else:
        return found | {"bf16": torch.bfloat16}
    return found


@torch.no_grad()
def _apart(model: Signet, fused: FusedTranslation, config: ModelConfig, device: torch.device) -> str:
    """How far the fused encoder's states are from the eager ones, both in inference."""
    dtype = next(model.parameters()).dtype
    batch = _batch(config, 16, device, dtype)
    eager = model.eval()(batch.regions, batch.mask).hidden_states
    states, _, _ = fused.eval().encoder(*(batch.regions[name] for name in REGIONS), batch.mask.long())
    model.train()
    fused.train()
    largest = ((states - eager).abs().max() / eager.abs().max()).item()
    return (
        "Fused is an inference form, so it has no backward: graph convolutions, BatchNorm and adapters folded, experts "
        f"routed by their top k. Its encoder states are the eager ones within {largest:.0e} of the largest."
    )


def _notes(table: Table, device: torch.device, peers: Sequence[Peer | AuthorsPeer]) -> None:
    table.notes.append(
        "Cached: the three experts' features were computed before, as signet-train cache does. Stage III cannot tell."
    )
    where = "GPU memory" if device.type == "cuda" else "resident memory"
    table.notes.append(f"Memory: the row's own weights, and the most {where} that a run adds; no optimiser's state.")
    if device.type == "cuda":
        tf32 = torch.backends.cudnn.allow_tf32
        table.notes.append(f"fp32 here: products in fp32, cuDNN's convolutions in {'TF32' if tf32 else 'fp32'}.")
    if peers:
        table.notes.append(
            "The peers read a prompt of 7 tokens before the frames and tokenise the targets in their forward pass; "
            "SIGNET, as in the paper, reads no prompt."
        )
    if any(peer.name == NAME for peer in peers):
        table.notes.append(
            "The authors' code in bf16: all of it, as the other rows; as published, experts compute in fp32, from "
            "keypoints that were rounded to bf16."
        )
    if any(peer.rgb for peer in peers):
        table.notes.append("RGB + pose: of a tenth of the frames both hands, 112 x 112 pixels, as its loader samples.")
    if any(peer.paper == "Geo-Sign" for peer in peers):
        table.notes.append("Geo-Sign with `--hyp_text_cmp pooled`: its comparison by `token` fails as published.")
