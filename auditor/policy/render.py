"""Policies and inventories for people and for other tools: tables, YAML, JSON, Markdown, CSV, and what differs between two policies."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from auditor.errors import ConfigError
from auditor.policy import shipped
from auditor.policy.deployments import INSTANCE
from auditor.policy.inventory import Inventory, time_text
from auditor.policy.loader import load_policy, members, title_of
from auditor.policy.policy import UNNAMED, Policy, PolicyPath
from auditor.policy.yaml_positions import yaml_text
from auditor.wire.markup import markdown, spreadsheet
from auditor.wire.text import escape, many

PATH_COLUMNS = ("path", "row", "source", "destination", "ports", "transport", "application", "authentication")


def path_record(path: PolicyPath) -> dict[str, Any]:
    """One path with everything that is declared of it."""
    return {
        "path": path.id,
        "row": path.row,
        "policy": path.policy,
        "ambient": path.ambient,
        **path.describe(),
        "transport": path.transport,
        "required": path.authentication,
        "originator_roles": list(path.orig_roles),
        "originator_component": path.orig_component,
        "responder_roles": list(path.resp_roles),
        "responder_component": path.resp_component,
        "port_ranges": [list(one) for one in path.ports],
        "varies": path.varies,
        "local": path.local,
        "tile": path.tile,
        "conditions": [{"kind": one.kind, "says": one.says} for one in path.conditions],
        "footnote": path.footnote,
        "releases": path.origin.releases,
        "origin": {"file": path.origin.file, "line": path.origin.line, "title": path.origin.title, "page": path.origin.page, "section": path.origin.section, "url": path.origin.url},
    }  # fmt: skip


def policy_record(policy: Policy) -> dict[str, Any]:
    """A whole policy."""
    return {
        "policies": list(policy.sources),
        "release": policy.release,
        "paths": [path_record(path) for path in policy.all_paths],
        "roles": [
            {"role": role.name, "diego": role.diego, "components": list(role.components)}
            for role in policy.roles.values()
        ],
        "settings": {
            "tls_minimum": policy.settings.tls_minimum,
            "forbidden_suites": list(policy.settings.forbidden_suites),
            "names": policy.settings.names,
        },
        "foundation": dict(policy.foundation),
        "identities": [
            {
                "name": None if one.pattern == UNNAMED else one.pattern,
                "components": list(one.components),
                "use": sorted(one.use),
                "owner": one.owner,
                "until": None if one.until_ns is None else time_text(one.until_ns),
            }
            for one in policy.identities
        ],
    }


def shipped_list(width: int = 80) -> str:
    """Names, sizes and titles of the shipped policies."""
    rows = []
    for name in shipped.names():
        policy = load_policy([name])
        own = [path for path in policy.all_paths if path.policy == name]
        kind = "ambient" if own and own[0].ambient else "documented"
        if members(name) != [name]:
            own, kind = list(policy.all_paths), "both"
        mark = " (default)" if name == shipped.DEFAULT else ""
        rows.append((name + mark, many(len(own), "path"), kind, title_of(name)))
    room = max(width - sum(max(len(row[k]) for row in rows) + 2 for k in range(3)), 20)
    lines = []
    for *cells, title in rows:
        first, *more = textwrap.wrap(title, room) or [""]
        lines += [(*cells, first), *(("", "", "", each) for each in more)]
    return columns(lines)


def path_list(paths: Iterable[PolicyPath], width: int = 80) -> str:
    """Two lines a path, its row in the page first; a table of all columns is wider than a terminal (``export`` writes one)."""
    out = []
    for path in paths:
        told = path.describe()
        row = "" if path.row is None else str(path.row)
        how = [_ports(path), told["application"], told["authentication"]]
        lines = (
            f"{row:>3}  {path.id}: {', '.join(each for each in how if each)}",
            f"     {told['source']} to {told['destination']}",
        )
        out += [textwrap.fill(escape(line), width, subsequent_indent=" " * 7, break_on_hyphens=False) for line in lines]
    return "\n".join(out) + "\n" if out else ""


def _ports(path: PolicyPath) -> str:
    return f"{path.judged_ports}/{path.transport}" if path.judged_ports else path.transport


def _row(path: PolicyPath) -> tuple[str, ...]:
    told = path.describe()
    return (
        path.id,
        "" if path.row is None else str(path.row),
        told["source"],
        told["destination"],
        told["ports"],
        path.transport,
        told["application"],
        told["authentication"],
    )


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts under each other; the last column is not filled up."""
    if not rows:
        return ""
    rows = [[escape(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def _as_json(policy: Policy) -> str:
    return json.dumps(policy_record(policy), indent=2) + "\n"


def _as_yaml(policy: Policy) -> str:
    return yaml_text(policy_record(policy))


def _as_csv(policy: Policy) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = (*PATH_COLUMNS, "policy", "footnote", "releases")
    writer.writerow(names)
    for path in policy.all_paths:
        cells = [*_row(path), path.policy, path.footnote or "", path.origin.releases or ""]
        writer.writerow(map(spreadsheet, cells))
    return out.getvalue()


def _as_markdown(policy: Policy) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(map(markdown, cells)) + " |"

    out = [line(PATH_COLUMNS), line("---" for _ in PATH_COLUMNS)]
    out += [line(_row(path)) for path in policy.all_paths]
    notes = [f"- `{path.id}`: {markdown(path.footnote)}" for path in policy.all_paths if path.footnote]
    return "\n".join([*out, "", *notes]).rstrip() + "\n"


EXPORTS: dict[str, Callable[[Policy], str]] = {
    "yaml": _as_yaml,
    "json": _as_json,
    "markdown": _as_markdown,
    "csv": _as_csv,
}


def export(policy: Policy, form: str) -> str:
    """The policy as ``yaml``, ``json``, ``markdown`` or ``csv``. Raises ConfigError."""
    if form not in EXPORTS:
        raise ConfigError("--format", f"unknown format {form!r}", hint=f"one of {', '.join(EXPORTS)}")
    return EXPORTS[form](policy)


_COMPARED = (
    "row", "source", "destination", "ports", "transport", "application", "authentication", "required", "originator_roles",
    "originator_component", "responder_roles", "responder_component", "port_ranges", "varies", "local", "ambient", "conditions",
)  # fmt: skip


def diff(before: Policy, after: Policy) -> list[str]:
    """What the second policy adds (+), removes (-) and changes (~)."""
    out = [f"- {_sentence(path)}" for path in before.all_paths if path.id not in after.by_id]
    for path in after.all_paths:
        old = before.by_id.get(path.id)
        if old is None:
            out.append(f"+ {_sentence(path)}")
            continue
        was, now = path_record(old), path_record(path)
        changes = [f"{key}: {_plain(was[key])} -> {_plain(now[key])}" for key in _COMPARED if was[key] != now[key]]
        if changes:
            out.append(f"~ {path.id}: {'; '.join(changes)}")
    for name in ("tls_minimum", "forbidden_suites", "names"):
        was_value, now_value = getattr(before.settings, name), getattr(after.settings, name)
        if was_value != now_value:
            out.append(f"~ settings.{name}: {_plain(was_value)} -> {_plain(now_value)}")
    return out


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _sentence(path: PolicyPath) -> str:
    ports = f" on {path.ports_text}" if path.ports_text else ""
    return f"{path.id}: {path.source} to {path.destination}{ports} ({path.transport}), {path.application_text}, {path.authentication_text}"


def inventory_table(inventory: Inventory) -> str:
    """Every address with its name, roles and lease."""
    rows: list[tuple[str, ...]] = [("address", "instance", "roles", "from", "until", "notes")]
    for entry, text, host in inventory.listing():
        notes = [f"fronts {front.role}" for front in host.fronts]
        notes += ["external"] if entry.external else []
        notes += ["inferred"] if entry.origin == "inferred" else []
        rows.append((
            text,
            host.instance or "-",
            ", ".join(host.roles) or "-",
            "" if entry.from_ns is None else time_text(entry.from_ns),
            "" if entry.until_ns is None else time_text(entry.until_ns),
            ", ".join(notes),
        ))  # fmt: skip
    return columns(rows)


def inventory_counts(inventory: Inventory) -> str:
    """How many addresses there are, how many have a role that the policy knows, and how many conflict."""
    roles = inventory.policy.roles
    known = sum(1 for _, _, host in inventory.listing() if any(role in roles for role in host.roles))
    addresses, conflicts = len(inventory.listing()), len(inventory.conflicts)
    counts = (
        f"{addresses:,} address{'' if addresses == 1 else 'es'}, {known:,} with a role of the policy, "
        f"{conflicts:,} conflict{'' if conflicts == 1 else 's'}"
    )
    beside = [entry for entry in inventory.entries if entry.roles == (INSTANCE,) and entry.group]
    if not beside:
        return counts
    groups = sorted({str(entry.group) for entry in beside})
    return f"{counts}\nof other deployments, with no role of the platform: {', '.join(groups)}"


def path_text(path: PolicyPath) -> str:
    """One path, a line for each thing declared of it."""
    record = path_record(path)
    origin = record.pop("origin")
    out = []
    for key, value in record.items():
        if value in (None, [], "", False):
            continue
        if key == "conditions":
            out += [f"condition: {one['says']}" for one in value]
        else:
            out.append(f"{key}: {_plain(value)}")
    out.append(f"declared in: {origin['file']}:{origin['line']}")
    out.append(f"written in: {origin['title']}" + (f", {origin['section']}" if origin["section"] else ""))
    out += [origin["url"]] if origin["url"] else []
    return "\n".join(map(escape, out)) + "\n"


def write_whole(output: Path, text: str) -> None:
    """Written beside its target and renamed when whole. Raises ConfigError."""
    beside = output.with_name(f".{output.name}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(str(output), f"cannot be written: {error.strerror}") from None
