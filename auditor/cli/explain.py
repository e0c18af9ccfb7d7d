"""`auditor explain`: what a rule or a documented path means."""

from __future__ import annotations

from typing import Annotated

import typer


def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[RULE|PATH|ROW]", help="Name of a rule, id of a path or its row in the page; without: all."
        ),
    ] = "",
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="Policy whose paths are meant; without: all that are shipped.")
    ] = None,
) -> None:
    """Say what a rule or a documented path means, why it matters, and what to do."""
    from auditor.errors import ConfigError
    from auditor.policy import shipped
    from auditor.policy.loader import load_policy
    from auditor.rules import _pages

    for rule in _pages.rules():
        if rule.name == name:
            typer.echo(_pages.rule_page(rule).as_text(), nl=False)
            return
    loaded = load_policy(policy or shipped.names())
    if not name:
        typer.echo(_pages.overview(loaded.all_paths), nl=False)
        return
    rows = [path for path in loaded.all_paths if name.isdecimal() and str(path.row) == name]
    if rows and policy is None:
        rows = [path for path in rows if path.policy == shipped.DEFAULT]  # every page counts its rows from 1
    for path in [loaded.path(name)] if name in loaded.by_id else rows:
        typer.echo(_pages.path_text(path, loaded), nl=False)
    if name in loaded.by_id or rows:
        return
    close = _pages.close_names(name, [*(rule.name for rule in _pages.rules()), *loaded.by_id])
    mend = f"did you mean {' or '.join(close)}?" if close else "auditor explain alone lists all names"
    raise ConfigError(name, "no rule or path has this name", mend=mend)
