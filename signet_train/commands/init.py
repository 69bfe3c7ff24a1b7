"""signet-train init: recordings -> a project, ready for `fit`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from signet_runtime.errors import InputError
from signet_runtime.pose.estimators import DEFAULT, ESTIMATORS
from signet_train.commands.manifest import column_names

if TYPE_CHECKING:
    from signet_train.data.manifest import Row

_BASE = "google/mt5-base"


@click.command()
@click.argument("source", metavar="FOLDER|TABLE|MANIFEST", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory of the project, new."
)
@click.option("--sign-language", metavar="CODE", help="ISO 639-3 (ase, gsg), where the data do not say.")
@click.option("--language", metavar="CODE", help="Of the text, BCP 47 (en, de), where the data do not say.")
@click.option(
    "--column",
    "columns",
    metavar="MEANING=NAME",
    multiple=True,
    callback=column_names,
    help="What a table calls a column, as text=Satz; may be repeated. [default: by usual names]",
)
@click.option("--encoding", metavar="NAME", help="Of a table. [default: UTF-8, or what it seems to be]")
@click.option(
    "--task",
    type=click.Choice(["translate", "recognise"]),
    help="[default: recognise where there are glosses and no text, else translate]",
)
@click.option(
    "--expert",
    "experts",
    metavar="DIR",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A frozen expert to build on: what `pretrain`, `import-expert` or `import-model` wrote; may be repeated. "
    "[default: one is pretrained for each sign language of the data]",
)
@click.option(
    "--mt5",
    metavar="auto|none|SOURCE",
    default="auto",
    show_default=True,
    help=f"The language model to start from: a directory or a name on the Hugging Face hub; none: from nothing. auto "
    f"takes {_BASE} where it has been fetched and there is a GPU.",
)
@click.option("--pose", type=click.Choice(tuple(ESTIMATORS)), help=f"[default: the experts', else {DEFAULT}]")
def init(
    source: Path,
    out: Path,
    sign_language: str | None,
    language: str | None,
    columns: dict[str, str],
    encoding: str | None,
    task: Literal["translate", "recognise"] | None,
    experts: tuple[Path, ...],
    mt5: str,
    pose: str | None,
) -> None:
    """Make a project of your recordings: their manifest with splits, and a configuration for every stage.

    The source is a folder of videos (with a metadata.csv, or a .txt beside each), a table of them, or a manifest. It is
    looked at: languages, missing files, who signs, how long clips are, frame rates; and the machine. Numbers that
    follow stand in the configurations, each with its reason.

    \b
    Example: signet-train init videos --out my-project --sign-language ase --language en
    Example: signet-train init sentences.csv --out my-project --column text=Satz
    Example: signet-train init data/phoenix14t.parquet --out my-project --mt5 google/mt5-base
    """  # noqa: D301
    logging.basicConfig(level=logging.WARNING, format="signet-train: %(message)s")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise click.UsageError(f"--out {out}: exists already; choose another name")
    from signet_train.data.manifest import write_manifest
    from signet_train.project.found import look
    from signet_train.project.splits import with_splits

    project = out.absolute()
    found = look(source, project, language=language, sign_language=sign_language, columns=columns, encoding=encoding)
    rows, divided = with_splits(found.rows, found.splits_given)
    if task is None:
        task = "translate" if any(row.text for row in rows) else "recognise"
    _refuse_untold(rows, task)
    from signet_train.project.plan import make_plan

    planned = make_plan(rows, project, task=task, experts=experts, mt5=mt5, pose=pose)
    project.mkdir(parents=True, exist_ok=True)
    write_manifest(project / "manifest.parquet", rows)
    planned.write(project)
    _tell(rows, divided, out)
    for note in planned.notes:
        click.echo(f"  {note}", err=True)
    click.echo(f"Next: signet-train fit {out}   (or change {out}/*.toml before)", err=True)


def _refuse_untold(rows: list[Row], task: str) -> None:
    for row in rows:
        if not (row.gloss if task == "recognise" else row.text):
            what = "gloss" if task == "recognise" else "text"
            raise InputError(f"{row.id}: no {what}, which --task {task} needs of every row; leave the row out")


def _tell(rows: list[Row], divided: str, out: Path) -> None:
    def listed(values: set[str | None]) -> str:
        return ", ".join(sorted(value or "?" for value in values))

    counts = ", ".join(
        f"{name} {sum(row.split == name for row in rows)}" for name in dict.fromkeys(r.split for r in rows)
    )
    signers = {row.signer for row in rows if row.signer}
    click.echo(
        f"{out}: {len(rows)} samples ({counts}), divided {divided}\n"
        f"  sign languages {listed({row.sign_language for row in rows})}; "
        f"text {listed({row.language for row in rows})}; "
        f"{f'{len(signers)} signers' if signers else 'signers are not known'}",
        err=True,
    )
