"""`auditor explain`: what a rule or a documented path means."""

from __future__ import annotations

from typing import Annotated

import typer


def explain(
    name: Annotated[
        str, typer.Argument(metavar="[RULE|PATH]", help="Name of a rule or id of a path; without: all.")
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
    if name in loaded.by_id:
        typer.echo(_pages.path_text(loaded.path(name), loaded), nl=False)
        return
    close = _pages.close_names(name, [*(rule.name for rule in _pages.rules()), *loaded.by_id])
    mend = f"did you mean {' or '.join(close)}?" if close else "auditor explain alone lists all names"
    raise ConfigError(name, "no rule or path has this name", mend=mend)
