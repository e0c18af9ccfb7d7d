"""`auditor policy`: policies as data."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Policies as data: list, show, check, diff, export.", no_args_is_help=True)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME|FILE]...", help="Shipped names or files; without: tas-diego.")
]
Release = Annotated[str | None, typer.Option("--release", help="Only paths documented for this release: TAS 4.0.")]


@app.command("list")
def list_() -> None:
    """Name the policies that come with the auditor."""
    from auditor.policy import present

    typer.echo(present.shipped_list(), nl=False)


@app.command()
def show(
    names: Names = None,
    release: Release = None,
    path: Annotated[str | None, typer.Option("--path", help="One path, with its conditions and source.")] = None,
) -> None:
    """Show the paths of a policy as a table, or one path with all that is declared of it."""
    from auditor.errors import ConfigError
    from auditor.policy import present
    from auditor.policy.loader import load_policy

    policy = load_policy(names or (), release=release)
    if path is None:
        typer.echo(present.path_table(policy.all_paths), nl=False)
        return
    if path not in policy.by_id:
        raise ConfigError(path, "no path has this id", mend="auditor policy show lists all")
    typer.echo(present.path_text(policy.path(path)), nl=False)


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="NAME|FILE...", help="Policies to check, each by itself.")],
) -> None:
    """Say whether policy files are valid: every mistake with file, line and mend. Exit status 2 where one is not."""
    from auditor.policy.loader import check_policy

    wrong = 0
    for file in files:
        mistakes = check_policy(file)
        wrong += len(mistakes)
        for mistake in mistakes:
            typer.echo(f"{mistake}", err=True)
        if not mistakes:
            typer.echo(f"{file}: valid")
    if wrong:
        raise typer.Exit(2)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Shipped name or file.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Shipped name or file.")],
) -> None:
    """Say which paths the second policy adds (+), removes (-) and changes (~). Exit status 1 where they differ."""
    from auditor.policy import present
    from auditor.policy.loader import load_policy

    differences = present.diff(load_policy([before]), load_policy([after]))
    for line in differences:
        typer.echo(line)
    if differences:
        raise typer.Exit(1)


@app.command()
def export(
    names: Names = None,
    form: Annotated[str, typer.Option("--format", help="yaml, json, markdown, csv")] = "yaml",
    release: Release = None,
) -> None:
    """Write a policy, merged and resolved, for other tools."""
    from auditor.policy import present
    from auditor.policy.loader import load_policy

    typer.echo(present.export(load_policy(names or (), release=release), form), nl=False)
