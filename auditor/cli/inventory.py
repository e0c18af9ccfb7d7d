"""`auditor inventory`: which address is which VM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditor.cli import _options as options
from auditor.cli import complain
from auditor.cli._progress import meter

if TYPE_CHECKING:
    from auditor.policy.inventory import Inventory

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Inventories: which address is which VM.",
)

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...", help="Inventories: YAML, bosh vms --json (or DEPLOYMENT=FILE), BOSH DNS records.json, CSV."
    ),
]
Policies = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="NAME|FILE", help="Policy with the roles and aliases. Default: tas-diego."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of standard output.")
]


def _load(files: list[str], policy: list[str] | None) -> Inventory:
    from auditor.policy.inventory import load_inventory
    from auditor.policy.loader import load_policy

    return load_inventory(files, load_policy(policy or ()))


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    from auditor.policy.render import write_whole

    write_whole(output, text)


@app.command()
def show(files: Files, policy: Policies = None) -> None:
    """List each address with its name, its roles and when it had them."""
    from auditor.policy import render

    typer.echo(render.inventory_table(_load(files, policy)), nl=False)


@app.command()
def check(files: Files, policy: Policies = None) -> None:
    """Check that inventories are valid and agree. Exit status 1 for conflicts, unknown roles and groups without a role, 2 for files that cannot be read."""
    from auditor.policy import render

    inventory = _load(files, policy)
    for line in (*inventory.conflicts, *inventory.warnings):
        complain(line)
    typer.echo(render.inventory_counts(inventory))
    if inventory.conflicts or inventory.warnings:
        raise typer.Exit(1)


@app.command("import")
def import_(files: Files, policy: Policies = None, output: Output = None) -> None:
    """Convert inventories of any format to one YAML file, to be edited."""
    _write(_load(files, policy).to_yaml(), output)


@app.command()
def infer(
    captures: options.Captures,
    policy: Policies = None,
    linktype: options.Linktype = None,
    limit: options.LimitValues = None,
    output: Output = None,
    quiet: options.Quiet = False,
    progress: options.Progress = "auto",
) -> None:
    """Draft an inventory from captures: what each address serves and calls, with the reasons as comments."""
    link = options.number("--linktype", linktype, 65_535)
    from auditor.policy.infer import draft
    from auditor.policy.loader import load_policy

    rules = load_policy(policy or ())
    with meter(progress, quiet=quiet) as tell:
        from auditor import api

        found = api.services(captures, linktype=link, limits=options.limits(limit), progress=tell)
        tell.done()
    _write(draft(found, rules), output)
