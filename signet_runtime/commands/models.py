"""`signet-models`: what models can be had by name, what is here, and how it gets here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signet_runtime.commands.console import Commands, debug_option, exit_on_error, own_notes

if TYPE_CHECKING:
    from signet_runtime.models.catalogue import Catalogue, Entry
    from signet_runtime.models.home import Home

_STOPPED = "interrupted; what was fetched is kept, and the next try goes on there"

_name = click.argument("name", metavar="MODEL")
_to = click.option(
    "--to",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of models.  [default: SIGNET_MODELS, or signet/models below XDG_DATA_HOME or ~/.local/share]",
)
_offline = click.option(
    "--offline", is_flag=True, envvar="SIGNET_OFFLINE", help="Never touch the network (or SIGNET_OFFLINE=1)."
)


_signed_by = click.option(
    "--signed-by",
    metavar="KEY",
    help="Refuse a bundle whose manifest this minisign public key did not sign: RW…, or a file that has it.",
)


class _Group(Commands):
    """Every failure is one line on stderr and the right exit code."""

    def invoke(self, ctx: click.Context) -> object:
        with exit_on_error("signet-models", _STOPPED):
            return super().invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--catalogue",
    metavar="FILE|URL",
    help="A catalogue of your own beside the built-in one (or SIGNET_CATALOGUE), see docs/models.md.",
)
@debug_option
@click.version_option(package_name="signet-slt")
def main(catalogue: str | None) -> None:
    """Get models by name, and look after those that are here.

    MODEL is a name that `signet-models list` tells, hf:ORG/NAME[@REVISION] for a bundle on a hub, or
    https://….signet#sha256=… for one on a web server.

    \b
    Examples:
      signet-models list
      signet-models show openasl
      signet-models pull openasl --accept-licence
      signet-translate --model openasl video.mp4
      signet-models pull openasl --accept-licence --to /media/stick     for a machine without a network
      SIGNET_MODELS=/media/stick signet-translate --offline --model openasl video.mp4

    \b
    Exit codes: 0 done, 2 usage, 3 cannot be written, 4 a file or bundle is damaged or another than it has to be,
    5 not known, not to be had, not accepted, or something is not installed, 130 interrupted.
    """  # noqa: D301
    if catalogue is not None:
        os.environ["SIGNET_CATALOGUE"] = catalogue  # also for the commands that import and export


@main.command("list")
@_to
@_offline
def list_models(to: Path | None, offline: bool) -> None:
    """List what can be had, what is here, and what fits on the disk."""
    from signet_runtime.models.pull import free_space, room_needed

    home, catalogue = _home(to), _catalogue(offline, to)
    here = {model.name: model for model in home.all_installed()}
    free = free_space(home.path)
    rows: list[tuple[str, ...]] = []
    for name, entry in catalogue.models.items():
        size, needed = entry.download_size(), room_needed(entry)
        state = "here" if name in here else "does not fit" if needed > free else ""
        reads = f"{entry.sign_language} > {entry.language}" if entry.sign_language else ""
        licence = catalogue.licence(entry)
        stated = licence.id or licence.terms
        rows.append((name, entry.kind, reads, _size(size), stated, state))
    for name, model in here.items():
        if name not in catalogue.models:
            rows.append((name, model.kind, "", "", model.licence_id or "undeclared", "here"))
    _table(("model", "kind", "reads", "download", "licence", ""), rows)
    click.echo(f"\n{free / 1e9:.1f} GB are free in {home.path}; signet-models show MODEL tells more of one")


@main.command()
@_name
@_to
@_offline
def show(name: str, to: Path | None, offline: bool) -> None:
    """Tell of MODEL: what it reads and writes, its scores, licence, limits and files."""
    from signet_runtime.models.reference import refer

    home = _home(to)
    reference = refer(name, _catalogue(offline, to))
    for line in _card(reference.name, reference.catalogue.entry(reference.name), reference.catalogue, home):
        click.echo(line)


def _card(name: str, entry: Entry, catalogue: Catalogue, home: Home) -> list[str]:
    """Return lines about an entry."""
    from signet_runtime.models.pull import room_needed

    licence, repository = catalogue.licence(entry), catalogue.repository(entry)
    lines = [f"{name}: {entry.summary}"]

    def tell(title: str, text: str | None) -> None:
        if text:
            lines.append(f"  {title:<14} {text}")

    tell("kind", entry.kind)
    if entry.sign_language:
        tell("reads", f"{entry.sign_language}, a clip of at most {entry.max_frames} frames")
        tell("writes", entry.language if entry.becomes_bundle else None)
        clock = f"{entry.frame_rate:g} frames a second" if entry.frame_rate else "the video's own frames"
        tell("keypoints", f"{entry.pose_estimator or 'not stated'}, {clock}")
    tell("architecture", entry.architecture)
    tell("trained on", ", ".join(entry.trained_on))
    for score in entry.scores:
        tell(
            "score", f"{score.metric} {score.value:g} on {score.corpus} {score.split} ({score.status}: {score.source})"
        )
    if entry.sign_language and not entry.scores:
        tell("score", "none in the catalogue: its authors' paper has them")
    tell("licence", f"{licence.says} ({licence.status})")
    if licence.must_be_accepted:
        tell("", "must be accepted once, by --accept-licence or when asked")
    for limit in entry.limits:
        tell("limit", limit)
    for overlap in catalogue.overlap(entry.trained_on, [c for pair in catalogue.overlaps for c in pair.corpora]):
        first, second = overlap.corpora
        tell(
            "overlap",
            f"{overlap.share:.0%} of {second}'s {overlap.split} clips share videos with {first} ({overlap.status}: "
            f"{overlap.source})",
        )
    if repository is not None:
        pinned = repository.revision or "no commit pinned: that of the first pull is held to"
        tell("from", f"hf:{repository.hub} @ {pinned}")
    for file in entry.files:
        size = f"{file.size} bytes" if file.size else f"about {_size(file.about)}" if file.about else "size not known"
        known = f"SHA-256 {file.sha256} ({file.status})" if file.sha256 else "SHA-256 taken from the first download"
        tell("file", f"{file.path}, {size}, {known}{', only with --all' if file.optional else ''}")
    if entry.needs:
        tell("needs", ", ".join(entry.needs))
    if room := room_needed(entry):
        tell("disk", f"{_size(room)} while it is made")
    model = home.installed(name)
    tell("here", f"{home.product(name)}, since {model.when}" if model else f"no; signet-models pull {name}")
    return lines


@main.command()
@_name
@click.option("--accept-licence", is_flag=True, help="Accept its licence, which `show` tells; asked for once.")
@click.option(
    "--keep",
    is_flag=True,
    help="Keep the downloads, and beside the bundle the imported checkpoint: to evaluate, tune or export it otherwise.",
)
@click.option("--all", "everything", is_flag=True, help="Optional files too: the weights of a language model.")
@_to
@_offline
@_signed_by
@click.option("-q", "--quiet", is_flag=True, help="No progress; errors only.")
def pull(
    name: str,
    accept_licence: bool,
    keep: bool,
    everything: bool,
    to: Path | None,
    offline: bool,
    signed_by: str | None,
    quiet: bool,
) -> None:
    """Bring MODEL here: fetched, checked, and made into what runs.

    A checkpoint is imported and exported as a bundle, which needs signet-slt[train]; a bundle of a hub or a web server
    is taken as it is. What was fetched for it is removed afterwards unless it was here before, or --keep is given. A
    pull that was stopped goes on where it was.

    With --to the directory is one to carry to another machine, where SIGNET_MODELS names it; the weights of the pose
    estimator that the model wants go along.
    """
    from signet_runtime.models.pull import Wishes
    from signet_runtime.models.pull import pull as bring
    from signet_runtime.models.reference import refer
    from signet_runtime.signatures import read_key

    home = _home(to)
    say: Callable[[str], None] = (lambda line: None) if quiet else (lambda line: click.echo(line, err=True))
    with own_notes("signet-models", quiet):
        reference = refer(name, _catalogue(offline, to))
        wishes = Wishes(
            offline=offline,
            accept=lambda licence: accept_licence or ask(licence),
            keep=keep,
            beside=to is not None,
            everything=everything,
            again=True,
            signed_by=None if signed_by is None else read_key(signed_by),
            report=say,
            quiet=quiet,
        )
        bring(reference, home, wishes)
    product = home.product(reference.name)
    click.echo(product)
    if product.name == "bundle":
        say(f"Next: signet-translate --model '{name}' video.mp4")


def ask(licence: str) -> bool:
    """Ask on a terminal whether a licence is accepted; False where there is nobody to ask."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return click.confirm(f"{licence}\nDo you accept that?", err=True)


def named_bundle(command: str, model: str, offline: bool, quiet: bool) -> Path:
    """Return the bundle of a model by name, fetched if it is not here; end the command where it cannot be."""
    from signet_runtime.models.pull import Wishes, bundle_of

    def report(line: str) -> None:
        if not quiet:
            click.echo(f"{command}: {line}", err=True)

    with exit_on_error(command, _STOPPED), own_notes(command, quiet):
        return bundle_of(model, Wishes(offline=offline, accept=ask, report=report, quiet=quiet))


@main.command()
@click.argument("names", metavar="[MODEL...]", nargs=-1)
@_to
@_offline
@_signed_by
def verify(names: tuple[str, ...], to: Path | None, offline: bool, signed_by: str | None) -> None:
    """Compare every file of MODEL, or of all models that are here, with what it was when it was made."""
    from signet_runtime.bundle import Bundle
    from signet_runtime.signatures import check_signature, read_key

    home = _home(to)
    for directory in [_directory_name(name, offline, to) for name in names] or _directories(home):
        count = home.check(directory)
        product = home.product(directory)
        if product.name == "bundle":
            count += len(Bundle.load(product, verify=True).manifest.files)
        if signed_by is not None:
            click.echo(f"{directory}: signed, {check_signature(product, read_key(signed_by))}")
        click.echo(f"{directory}: {count} files are as they were made")


@main.command()
@_name
@_to
@_offline
def remove(name: str, to: Path | None, offline: bool) -> None:
    """Remove MODEL. What its files were is remembered; a kept download in the hub's cache stays."""
    freed = _home(to).remove(_directory_name(name, offline, to))
    click.echo(f"{name}: removed, {_size(freed)}", err=True)


@main.command()
@_name
@_to
@_offline
def path(name: str, to: Path | None, offline: bool) -> None:
    """Print where MODEL is: a bundle, an expert, or a directory of weights."""
    click.echo(_home(to).product(_directory_name(name, offline, to)))


def _home(to: Path | None) -> Home:
    from signet_runtime.models.home import Home

    return Home.default() if to is None else Home(to.absolute())


def _catalogue(offline: bool, to: Path | None) -> Catalogue:
    from signet_runtime.models.fetch import load_catalogue

    return load_catalogue(offline=offline, home=_home(to))


def _directory_name(name: str, offline: bool, to: Path | None) -> str:
    """Return what the directory of a model is called, which may be of a catalogue that is no more."""
    from signet_runtime.models.reference import refer

    if name in _directories(_home(to)):
        return name
    return refer(name, _catalogue(offline, to)).name


def _directories(home: Home) -> list[str]:
    from signet_runtime.models.home import DESCRIPTION

    return sorted(path.parent.name for path in home.path.glob(f"[!.]*/{DESCRIPTION}"))


def _size(size: int | None) -> str:
    if not size:
        return ""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
