"""`auditor policy`: policies as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from auditor.cli import _options as options
from auditor.cli import complain
from auditor.cli._progress import meter
from auditor.wire.text import escape

if TYPE_CHECKING:
    from auditor.api import Report

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Policies: list, show, check, coverage, suggest, certificates, diff, export, filter.",
)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME|FILE]...", help="Shipped names or files. Default: tas-diego.")
]
Release = Annotated[
    str | None,
    typer.Option("--release", metavar="VERSION", help="Only paths documented for this release, such as TAS 4.0."),
]


@app.command("list")
def list_() -> None:
    """List the policies that are included."""
    from auditor.policy import render

    typer.echo(render.shipped_list(), nl=False)


@app.command()
def show(
    names: Names = None,
    release: Release = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="PATH", help="One path, with its conditions and source.")
    ] = None,
) -> None:
    """Show the paths of a policy, two lines each, or one path in full."""
    from auditor.errors import ConfigError, did_you_mean
    from auditor.policy import render
    from auditor.policy.loader import load_policy

    policy = load_policy(names or (), release=release)
    if path is None:
        typer.echo(render.path_list(policy.all_paths), nl=False)
        return
    if path not in policy.by_id:
        raise ConfigError(
            path, "unknown path", hint=did_you_mean(path, policy.by_id, "auditor policy show lists the paths")
        )
    typer.echo(render.path_text(policy.path(path)), nl=False)


@app.command()
def check(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|FILE]...", help="Policies to check, each on its own.", show_default=False),
    ] = None,
    asg: Annotated[
        list[str] | None,
        typer.Option(
            "--asg",
            metavar="FILE",
            help="Application security groups (JSON, as cf exports them): show which ones allow applications to reach the control plane; repeatable.",
            show_default=False,
        ),
    ] = None,
    inventory: options.Inventories = None,
    form: Annotated[
        str, typer.Option("--format", "-f", metavar="table|json", help="For --asg: output format.")
    ] = "table",
) -> None:
    """Check policy files: every error with file, line and fix. Exit status 2 if a file is not valid.

    With --asg: which security groups allow applications to reach the control plane of the inventory, by the declared paths (default: tas). Exit status 1
    if one does.
    """
    from auditor.errors import ConfigError
    from auditor.policy.loader import check_policy

    if asg:
        _check_groups(asg, files or ["tas"], inventory, form)
    if not files:
        raise ConfigError("check", "nothing to check", hint="name policies, or --asg FILE --inventory FILE")
    wrong = 0
    for file in files:
        validation_errors = check_policy(file)
        wrong += len(validation_errors)
        for mistake in validation_errors:
            complain(mistake)
        if not validation_errors:
            typer.echo(f"{escape(file)}: valid")
    if wrong:
        raise typer.Exit(2)


def _check_groups(files: list[str], names: list[str], inventory: list[str] | None, form: str) -> None:
    from auditor.errors import ConfigError
    from auditor.policy import security_groups
    from auditor.policy.inventory import load_inventory
    from auditor.policy.loader import load_policy

    options.choice("--format", form, ("table", "json"))
    if not inventory:
        raise ConfigError("--asg", "needs an inventory, to know the control plane", hint="add --inventory FILE")
    policy = load_policy(names)
    groups = [group for file in files for group in security_groups.read(file)]
    found = security_groups.reaches(groups, policy, load_inventory(inventory, policy))
    if form == "json":
        typer.echo(security_groups.as_json(found), nl=False)
    else:
        clean = len(groups) - len({id(each.group) for each in found})
        typer.echo(security_groups.told(found), nl=False)
        typer.echo(
            f"{clean} of {len(groups)} security group{'' if len(groups) == 1 else 's'} do not reach the control plane"
        )
    raise typer.Exit(1 if found else 0)


@app.command()
def coverage(
    captures: options.Captures,
    policy: options.Policies = None,
    release: options.Release = None,
    inventory: options.Inventories = None,
    format: options.Format = "table",  # noqa: A002  # the option's name
    output: options.Output = None,
    quiet: options.Quiet = False,
    progress: options.Progress = "auto",
) -> None:
    """Show which paths of the policy were seen in captures, how often, and which were not. Exit status 3 where an input was damaged."""
    name, _ = options.written_as(format, output, "coverage")
    with options.destination(name, output) as target:
        report = _audited(captures, policy, inventory, release, progress, quiet)
        options.write(report, name, target, "coverage", no_color=True, output=output)
    _end(report, quiet=quiet)


@app.command()
def suggest(
    captures: options.Captures,
    policy: options.Policies = None,
    release: options.Release = None,
    inventory: options.Inventories = None,
    name: Annotated[str, typer.Option("--name", help="Name of the drafted policy.")] = "suggested",
    output: options.Output = None,
    quiet: options.Quiet = False,
    progress: options.Progress = "auto",
) -> None:
    """Draft a policy from captures: undeclared connections between known roles, the foundation's switches, the names in certificates. Review it before use."""
    from auditor.policy.draft_policy import suggest as drafted
    from auditor.policy.loader import load_policy
    from auditor.policy.render import write_whole

    report = _audited(captures, policy, inventory, release, progress, quiet)
    text = drafted(report.audit, load_policy(policy or (), release=release), name)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_whole(output, text)
    _end(report, quiet=quiet)


@app.command()
def certificates(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Lists of certificates, as om and credhub export them (JSON, YAML)."),
    ],
    policy: options.Policies = None,
    name: Annotated[str, typer.Option("--name", help="Name of the policy.")] = "our-certificates",
    output: options.Output = None,
) -> None:
    """Make a policy from the certificate lists of Ops Manager and CredHub: owner of each certificate, who renews it, when it expires.

    An audit with it uses the foundation's own names for certificates, and reports expired ones under TLS 1.3, too. Private keys in what
    CredHub exports are ignored. Exit status 3 where an entry could not be read; the others are written.
    """
    from auditor.policy import certificate_lists
    from auditor.policy.loader import load_policy
    from auditor.policy.render import write_whole

    read = [certificate_lists.read(file) for file in files]
    wrong = [error for _, errors in read for error in errors]
    listed = [each for found, _ in read for each in found]
    text = certificate_lists.draft(listed, load_policy(policy or ["tas"]), name)
    for error in wrong:
        complain(f"left out: {error}")
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_whole(output, text)
    if wrong:
        raise typer.Exit(3)


def _audited(
    captures: list[str],
    policy: list[str] | None,
    inventory: list[str] | None,
    release: str | None,
    progress: str,
    quiet: bool,
) -> Report:
    with meter(progress, quiet=quiet) as tell:
        from auditor import api

        report = api.audit(captures, policy=policy or "tas", inventory=inventory or (), release=release, progress=tell)
        tell.done()
    return report


def _end(report: Report, *, quiet: bool) -> None:
    """Print what was missing, and exit accordingly."""
    reasons = report.incomplete(100.0)
    if not quiet:
        for line in [*report.warnings, *(f"incomplete: {reason}" for reason in reasons)]:
            complain(line)
    raise typer.Exit(3 if reasons else 0)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Shipped name or file.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Shipped name or file.")],
) -> None:
    """Show which paths the second policy adds (+), removes (-) and changes (~). Exit status 1 if they differ."""
    from auditor.policy import render
    from auditor.policy.loader import load_policy

    differences = render.diff(load_policy([before]), load_policy([after]))
    for line in differences:
        typer.echo(escape(line))
    if differences:
        raise typer.Exit(1)


@app.command()
def export(
    names: Names = None,
    form: Annotated[
        str, typer.Option("--format", "-f", metavar="yaml|json|markdown|csv", help="Output format.")
    ] = "yaml",
    release: Release = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="nftables|iptables|ip6tables|asg|aws|csv",
            help="Write firewall rules that allow the declared paths between the addresses of --inventory.",
            show_default=False,
        ),
    ] = None,
    inventory: options.Inventories = None,
    vm: Annotated[
        str | None,
        typer.Option("--vm", metavar="NAME|ADDRESS", help="For --to: only the rules for this VM.", show_default=False),
    ] = None,
    output: options.Output = None,
) -> None:
    """Write a policy, merged and resolved, for other tools, or as firewall rules (--to).

    The firewall rules allow what the named policies declare. Default: tas, as for an audit. Rules of tas-diego alone block BOSH's own
    traffic, routers and logs. All other traffic is logged and dropped. Read the rules before you load them.
    """
    from auditor.errors import ConfigError
    from auditor.policy import render
    from auditor.policy.loader import load_policy

    policy = load_policy(names or (("tas",) if to else ()), release=release)
    if to is None:
        if inventory or vm:
            raise ConfigError(
                "--inventory" if inventory else "--vm",
                "is for firewall rules only",
                hint="add --to nftables, for example",
            )
        text = render.export(policy, form)
    else:
        from auditor.policy import firewall
        from auditor.policy.inventory import load_inventory

        if not inventory:
            raise ConfigError("--to", "firewall rules need an inventory", hint="add --inventory FILE")
        who = load_inventory(inventory, policy)
        for line in (*who.warnings, *who.conflicts):
            complain(line)
        for line in firewall.lacks(who, to):
            complain(line)
        text = firewall.export(policy, who, to, vm)
    if output is None:
        typer.echo(text, nl=False)
    else:
        render.write_whole(output, text)


@app.command("filter")
def filter_(
    names: Names = None,
    release: Release = None,
    inventory: Annotated[
        list[str] | None,
        typer.Option("--inventory", metavar="FILE", help="Inventory: makes the filter narrower; repeatable."),
    ] = None,
    bosh_pcap: Annotated[bool, typer.Option("--bosh-pcap", help="Print the whole `bosh pcap` command.")] = False,
    deployment: Annotated[str, typer.Option("--deployment", "-d", help="For --bosh-pcap.")] = "DEPLOYMENT",
    interface: Annotated[str, typer.Option("--interface", "-i", help="For --bosh-pcap.")] = "eth0",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not report what is left out.")] = False,
) -> None:
    """Print the capture filter (pcap-filter) that keeps every packet the rules need: tcpdump -s SNAPLEN "$(auditor policy filter)".

    Standard error says where to capture, how much of each packet, and what is left out.
    """
    from auditor.cli import complain
    from auditor.policy import capture_filter
    from auditor.policy.inventory import load_inventory
    from auditor.policy.loader import load_policy

    policy = load_policy(names or (), release=release)
    found = capture_filter.filter_for(policy, load_inventory(inventory, policy) if inventory else None)
    typer.echo(capture_filter.bosh_pcap(found, deployment, interface) if bosh_pcap else found.expression)
    if quiet:
        return
    complain(f"capture on all of {', '.join(found.groups)}: every documented path has an end on one of them")
    complain(f"snaplen: {found.snaplen} bytes of each packet are enough")
    for each in found.leaves_out:
        complain(f"leaves out: {each}")
    if bosh_pcap:
        complain(
            "bosh pcap reports neither dropped packets nor which VM a packet is from; `auditor live --from bosh://...` does both"
        )
