"""The forms an inventory comes in, told apart by content and never by name.

====================  =================================================================================================
``auditor``           our own YAML or JSON, or a bare list of ``{ip, name, role}``
``bosh``              ``bosh [-d NAME] vms --json``, ``bosh instances [--details|--ps] --json``: ``Tables`` of rows of texts, one for each
                      deployment, addresses joined by line breaks; ``Lines`` and ``Blocks`` may be null; ``instance`` is ``group/guid``,
                      ``group`` or ``?``. Without ``-d`` nothing says what a table's deployment is called
``bosh-deployments``  ``bosh deployments --json``: names and releases, no VM
``bosh-dns``          ``records.json`` of BOSH DNS: ``record_infos`` in the order of ``record_keys``; names hyphenated
``csv``               a header row and commas, semicolons or tabs
====================  =================================================================================================
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from auditor.errors import ConfigError, did_you_mean
from auditor.policy.inventory import Entry, Fronted, Span, parse_span, parse_time
from auditor.policy.inventory_schema import EntryModel, FrontModel, InventoryModel
from auditor.policy.policy import Policy
from auditor.policy.validation_errors import Mistakes, validation_errors, without
from auditor.policy.yaml_positions import (
    Document,
    Place,
    YamlDocument,
    other_kind,
    parse_json,
    parse_json_with_lines,
    parse_yaml,
    read_text,
)
from auditor.wire.text import clip, escape

MAX_BYTES = 128 * 1024 * 1024
MAX_YAML_BYTES = 16 * 1024 * 1024


@dataclass
class Read:
    """What one file says."""

    form: str
    sha256: str
    entries: list[Entry] = field(default_factory=list)
    networks: list[Span] = field(default_factory=list)
    file: str = ""
    released: dict[str, bool] = field(default_factory=dict)
    """Of the deployments it names, whether diego is among their releases."""
    deployment: str | None = None
    """Whose VMs the whole file lists, as far as it says."""


def read(spec: str | Document, policy: Policy) -> Read:
    """The entries of one file, FILE or DEPLOYMENT=FILE, or of what is not a file.

    Raises ConfigError of all its mistakes, each with file, line or row, and fix.
    """
    if isinstance(spec, Document):
        found = read_text_as(spec.name, spec.text, policy)
        found.file = spec.name
        return found
    given, equals, file = spec.partition("=")
    if not equals or "/" in given or not given or Path(spec).exists():
        given, file = "", spec
    found = read_text_as(file, read_text(file, MAX_BYTES), policy)
    name = given or found.deployment or _named_after(file)
    if found.form == "bosh" and name and len({entry.table for entry in found.entries}) == 1:
        found.entries = [entry if entry.deployment else replace(entry, deployment=name) for entry in found.entries]
    elif given:
        found.entries = [replace(entry, deployment=entry.deployment or given) for entry in found.entries]
    found.file = file
    return found


_AFTER = re.compile(r"(?:(?:vms|instances)[-_.](?P<last>.+)|(?P<first>.+)[-_.](?:vms|instances))", re.ASCII)


def _named_after(file: str) -> str | None:
    """The deployment that a file's name tells: cf.vms.json, vms-cf.json, service-instance_0a.json."""
    stem = Path(file).name.partition(".json")[0]
    match = _AFTER.fullmatch(stem)
    if match:
        return match["last"] or match["first"]
    return stem if stem.startswith(("service-instance", "service_instance")) else None


def read_text_as(file: str, text: str, policy: Policy) -> Read:
    """As ``read``, of a text that is already here; ``file`` is for messages."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    mistakes = Mistakes(file)
    start = text.lstrip()[:1]
    if not start:
        raise ConfigError(file, "is empty", hint="list at least one VM")
    if start in "{[" and not _is_flow_yaml(text):
        document = parse_json(file, text)
        if isinstance(document.data, dict) and "Tables" in document.data:
            found = _deployments(document) or _bosh(document, text, mistakes)
        elif isinstance(document.data, dict) and ({"record_infos", "record_keys"} & document.data.keys()):
            found = _records(document, text, mistakes)
        else:
            found = _own_json(document, text, policy)
    elif (header := _csv_header(text)) is not None:
        found = _csv(file, text, header, policy, mistakes)
    else:
        if len(text) > MAX_YAML_BYTES:
            raise ConfigError(file, "is too large for a YAML inventory", hint="use CSV or JSON")
        _no_addresses(file, text)
        found = _own(_yaml(file, text), text, policy)
    mistakes.settle()
    if not found.entries and not found.released:
        raise ConfigError(file, "names no address", hint="list at least one VM with its address")
    found.sha256 = digest
    return found


_FORMS = (
    "write a list such as '- {ip: 10.0.4.20, name: diego_cell/0, role: diego_cell}', or give what bosh vms --json prints, "
    "records.json of BOSH DNS, or CSV with a column ip"
)
_KEYS = re.compile(r"^[\s\[{-]*(ips?|cidrs?|vms|externals|networks|name|role)[\"']?\s*:", re.MULTILINE)


def _yaml(file: str, text: str) -> YamlDocument:
    """Raises ConfigError, also where nothing in the text looks like an inventory."""
    try:
        return parse_yaml(file, text)
    except ConfigError as error:
        if _KEYS.search(text) is None and "is not valid YAML" in error.says:
            raise ConfigError(file, "is not an inventory", hint=_FORMS) from None
        raise


def _is_flow_yaml(text: str) -> bool:
    """A bare list may be written as YAML in brackets: [{ip: 10.0.0.1}] is no JSON."""
    return re.match(r"\s*[\[{][\s\[{]*[A-Za-z_]", text) is not None


def _line_of(text: str, literal: str) -> int | None:
    """Where it stands by itself: 10.0.0.1 is not in 10.0.0.12."""
    found = re.search(rf"(?<![0-9a-fA-F.:]){re.escape(literal)}(?![0-9a-fA-F.:])", text) if literal else None
    return text.count("\n", 0, found.start()) + 1 if found else None


def _span(file: str, literal: str, line: int | None, where: str = "", text: str = "") -> Span:
    """``text``: where to look for the line, should it be needed and not known."""
    try:
        return parse_span(literal)
    except ValueError:
        hint = "write 10.0.4.20, fd00::1 or 10.0.4.0/24"
        close = re.sub(r"[^0-9a-fA-F.:/]", "", literal)
        if close != literal:
            try:
                parse_span(close)
                hint = f"did you mean {close}?"
            except ValueError:
                pass
        place = line if line is not None else _line_of(text, literal)
        raise ConfigError(file, f"{where}{literal!r} is not an address or network", place, hint) from None


# Our own -------------------------------------------------------------------------------------------------------------


def _own_json(document: YamlDocument, text: str, policy: Policy) -> Read:
    """As ``_own``; lines are worked out only where there is something to say about one."""
    try:
        return _own(document, text, policy)
    except ConfigError:
        if len(text) > MAX_YAML_BYTES:
            raise
    return _own(parse_json_with_lines(document.file, text), text, policy)


def _own(document: YamlDocument, text: str, policy: Policy) -> Read:
    data = document.data
    if isinstance(data, list):
        data = {"vms": data}
        document = YamlDocument(document.file, data, {("vms", *place): line for place, line in document.lines.items()})
    _check_kind(document, data)
    mistakes = Mistakes(document.file)
    found = Read("auditor", "")
    model = None
    for _ in range(_MAX_PRUNINGS):
        try:
            model = InventoryModel.model_validate(document.data)
            break
        except ValidationError as error:
            for each in validation_errors(document, error, InventoryModel):
                mistakes.add(each)
            if not document.lines and any(each["type"] != "extra_forbidden" for each in error.errors()):
                mistakes.settle()  # without one of the entries, the numbers of others would be wrong
            document, _ = without(document, error)
    if model is None:
        mistakes.settle()
        return found
    for at, network in enumerate(model.networks):
        found.networks += _spans(document.file, [network], mistakes, document.line(("networks", at)), text=text)
    for key, entries in (("vms", model.vms), ("externals", model.externals)):
        for at, entry in enumerate(entries):
            made = _own_entry(document, text, (key, at), entry, model, policy, mistakes)
            found.entries += [made] if made else []
    mistakes.settle()
    return found


_MAX_PRUNINGS = 8
"""So often what the schema refuses is left out to look at the rest."""


def _check_kind(document: YamlDocument, data: Any) -> None:
    """Raises ConfigError where it cannot be an inventory."""
    other = other_kind(data, "inventory")
    if other is not None:
        raise ConfigError(document.file, f"is {other[0]}, not an inventory", hint=other[1])
    known = {info.alias or name for name, info in InventoryModel.model_fields.items()}
    if isinstance(data, dict) and (known & data.keys() or any(get_close_matches(str(key), known, 1) for key in data)):
        return
    entry = {info.alias or name for name, info in EntryModel.model_fields.items()}
    if isinstance(data, dict) and data and entry >= data.keys():
        raise ConfigError(
            document.file, "is one VM, not a list of VMs", 1, "begin it with '- ', or write it below vms:"
        )
    raise ConfigError(document.file, "is not an inventory", hint=_FORMS)


def _own_entry(
    document: YamlDocument,
    text: str,
    place: Place,
    entry: EntryModel,
    model: InventoryModel,
    policy: Policy,
    mistakes: Mistakes,
) -> Entry | None:
    """None: it has a mistake, which ``mistakes`` got."""
    before = len(mistakes.found)
    line = document.line(place) if document.lines else None
    row = str(line) if line is not None else f"{place[0]}[{place[1]}]"
    where = "" if line is not None else f"{row}: "
    spans: list[Span] = []
    for key in ("ip", "ips", "cidr", "cidrs"):
        at = document.line((*place, key)) if document.lines else None
        spans += _spans(document.file, getattr(entry, key), mistakes, at, where, text)
    instance = entry.name or entry.instance
    roles = tuple(dict.fromkeys([*entry.role, *entry.roles]))
    lines = {key: document.line((*place, key)) if document.lines else None for key in ("from", "until", "fronts")}
    first, last = _lease(document.file, entry.from_, entry.until, lines, mistakes, where)
    fronts = _fronts(document.file, lines["fronts"], entry.fronts, policy, mistakes, where)
    if len(mistakes.found) > before:
        return None
    return Entry(
        document.file,
        row,
        instance,
        entry.group or _group_of(instance, bool(roles), policy),
        roles,
        tuple(dict.fromkeys(spans)),
        first,
        last,
        fronts,
        place[0] == "externals",
        entry.origin or model.origin,
        entry.note,
        entry.deployment,
    )


def _spans(
    file: str, literals: Iterable[str], mistakes: Mistakes, line: int | None, where: str = "", text: str = ""
) -> list[Span]:
    """Those that are addresses or networks; ``mistakes`` gets the others."""
    found: list[Span] = []
    for literal in literals:
        try:
            found.append(_span(file, literal, line, where, text))
        except ConfigError as error:
            mistakes.add(error)
    return found


def _fronts(
    file: str, line: int | None, fronts: Iterable[FrontModel], policy: Policy, mistakes: Mistakes, where: str = ""
) -> tuple[Fronted, ...]:
    made: list[Fronted] = []
    for front in fronts:
        held = policy.held_by(front.role)
        if held is None:
            hint = did_you_mean(front.role, policy.roles, "name a role of the policy, for example uaa")
            mistakes.add(ConfigError(file, f"{where}fronts: no policy knows the role '{front.role}'", line, hint))
        elif front.ports == "varies":
            mistakes.add(ConfigError(file, f"{where}fronts: name the ports", line, "ports: 443"))
        else:
            made += [Fronted(one.role, front.ports) for one in held]
    return tuple(made)


def _lease(
    file: str, first: Any, last: Any, lines: Mapping[str, int | None], mistakes: Mistakes, where: str = ""
) -> tuple[int | None, int | None]:
    """Begin and end in nanoseconds of Unix time; None where it is open, or where it is wrong, which ``mistakes`` gets."""
    moments: list[int | None] = []
    for key, value in (("from", first), ("until", last)):
        try:
            moments.append(None if value is None or value == "" else parse_time(value))
        except (ValueError, OverflowError):
            moments.append(None)
            says = f"{where}{key}: {value!r} is not a time"
            mistakes.add(ConfigError(file, says, lines.get(key), "write 2026-01-31T12:00:00Z"))
    if moments[0] is not None and moments[1] is not None and moments[0] >= moments[1]:
        says = f"{where}until is not after from"
        mistakes.add(ConfigError(file, says, lines.get("until"), "swap them, or remove one"))
    return moments[0], moments[1]


_NUMBERED = re.compile(r"[-_/. ]?(?:\d+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$", re.IGNORECASE)


def _group_of(instance: str | None, has_roles: bool, policy: Policy) -> str | None:
    """The group in diego_cell/2b0c...; of a name without a slash only where a policy knows it (diego-cell-0, control)."""
    if not instance or instance == "?":
        return None
    group, slash, _ = instance.partition("/")
    if slash:
        return group.strip() or None
    if has_roles:
        return None
    for name in (instance, _NUMBERED.sub("", instance)):
        if name and policy.held_by(name) is not None:
            return name
    return None


# BOSH ----------------------------------------------------------------------------------------------------------------


def _bosh(document: YamlDocument, text: str, mistakes: Mistakes) -> Read:
    found = Read("bosh", "")
    tables = document.data.get("Tables")
    hint = "write it with: bosh vms --json, or bosh instances --details --json"
    if not isinstance(tables, list):
        raise ConfigError(document.file, "'Tables' is not a list", hint=hint)
    seen: set[tuple[str, str]] = set()
    with_addresses = False
    for number, table in enumerate(tables):
        rows = table.get("Rows") if isinstance(table, dict) else None
        if rows is None:
            continue
        if not isinstance(rows, list):
            mistakes.add(ConfigError(document.file, f"Tables[{number}]: 'Rows' is not a list", hint=hint))
            continue
        for at, row in enumerate(rows):
            place = f"Tables[{number}].Rows[{at}]"
            if not isinstance(row, dict) or not all(isinstance(value, str | None) for value in row.values()):
                mistakes.add(ConfigError(document.file, f"{place} is not a row of texts", hint=hint))
                continue
            if "instance" not in row or "ips" not in row:
                continue
            with_addresses = True
            instance, addresses = (row["instance"] or "").strip(), row["ips"] or ""
            key = (instance, addresses)
            if not addresses.strip() or key in seen:  # without an address yet, or --ps: a row for each process
                continue
            seen.add(key)
            literals = dict.fromkeys(re.split(r"[\s,]+", addresses.strip()))
            spans = tuple(_spans(document.file, literals, mistakes, None, f"{place}: ", text))
            table_of = f"{document.file} Tables[{number}]"
            found.entries.append(_bosh_entry(document.file, place, instance, spans, row.get("deployment"), table_of))
    found.deployment = _deployment_told(document.data.get("Lines"))
    if not with_addresses and not mistakes.found:
        raise ConfigError(document.file, "no table has the columns instance and ips", hint=hint)
    return found


def _bosh_entry(
    file: str, place: str, instance: str, spans: tuple[Span, ...], deployment: str | None, table: str | None = None
) -> Entry:
    group = instance.partition("/")[0]
    known = bool(instance) and not instance.startswith("?")
    named = (deployment or "").strip() or None
    return Entry(
        file, place, instance if known else "?", group if known else None, (), spans, deployment=named, table=table
    )


_USING = re.compile(r"Using deployment '([^']{1,200})'")


def _deployment_told(lines: Any) -> str | None:
    """What ``bosh -d NAME`` says in its first lines."""
    texts = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
    found = {match[1] for match in map(_USING.search, texts) if match}
    return found.pop() if len(found) == 1 else None


def _deployments(document: YamlDocument) -> Read | None:
    """Names and releases, where the tables are those of ``bosh deployments``."""
    tables = document.data.get("Tables")
    rows = [
        row
        for table in (tables if isinstance(tables, list) else ())
        if isinstance(table, dict) and isinstance(table.get("Rows"), list)
        for row in table["Rows"]
        if isinstance(row, dict)
    ]
    named = [row for row in rows if isinstance(row.get("name"), str) and isinstance(row.get("release_s"), str)]
    if not named or any("ips" in row for row in rows):
        return None
    found = Read("bosh-deployments", "")
    for row in named:
        releases = {line.partition("/")[0].strip() for line in row["release_s"].splitlines()}
        found.released[row["name"].strip()] = "diego" in releases
    return found


# BOSH DNS ------------------------------------------------------------------------------------------------------------


def _records(document: YamlDocument, text: str, mistakes: Mistakes) -> Read:
    found = Read("bosh-dns", "")
    keys, rows = document.data.get("record_keys"), document.data.get("record_infos")
    hint = "copy the whole of /var/vcap/instance/dns/records.json"
    if not isinstance(keys, list) or not isinstance(rows, list):
        raise ConfigError(document.file, "record_keys and record_infos are not both lists", hint=hint)
    if "ip" not in keys or "instance_group" not in keys:
        raise ConfigError(document.file, "record_keys lack ip or instance_group", hint=hint)
    merged: dict[tuple[str, str, str], list[Span]] = {}
    places: dict[tuple[str, str, str], str] = {}
    for at, row in enumerate(rows):
        place = f"record_infos[{at}]"
        if not isinstance(row, list) or len(row) < len(keys):
            mistakes.add(ConfigError(document.file, f"{place} does not match record_keys", hint=hint))
            continue
        record = dict(zip(keys, row, strict=False))
        address, group = record["ip"], record["instance_group"]
        if not isinstance(address, str) or not isinstance(group, str):
            mistakes.add(ConfigError(document.file, f"{place}: ip or instance_group is not a text", hint=hint))
            continue
        spans = _spans(document.file, [address], mistakes, None, f"{place}: ", text)
        key = (group, str(record.get("id") or record.get("instance_index") or ""), str(record.get("deployment") or ""))
        merged.setdefault(key, []).extend(spans)
        places.setdefault(key, place)
    for key, spans in merged.items():
        group, guid, deployment = key
        instance = f"{group}/{guid}" if guid else group
        found.entries.append(
            _bosh_entry(document.file, places[key], instance, tuple(dict.fromkeys(spans)), deployment or None)
        )
    return found


# CSV -----------------------------------------------------------------------------------------------------------------

_COLUMNS = {
    "ip": "ips", "ips": "ips", "address": "ips", "addresses": "ips", "ip_address": "ips", "ip_addresses": "ips",
    "cidr": "ips", "cidrs": "ips", "name": "name", "instance": "name", "vm": "name", "vm_name": "name", "hostname": "name",
    "role": "roles", "roles": "roles", "group": "group", "instance_group": "group", "job": "group",
    "deployment": "deployment", "from": "from", "until": "until", "fronts": "fronts", "external": "external",
}  # fmt: skip
_ADDRESSES = [name for name, key in _COLUMNS.items() if key == "ips"]
_IGNORED = {"az", "network", "process_state", "vm_cid", "vm_type", "active", "stemcell", "note", "comment", "index", ""}


def _column(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.strip().strip('"').lower()).strip("_")


def _lines(text: str) -> list[str]:
    """Lines as RFC 4180 has them: other characters that Unicode breaks lines at are part of a name, and begin no row."""
    return list(io.StringIO(text, newline=""))


def _csv_header(text: str) -> tuple[str, int] | None:
    """The delimiter and the lines before the header; None: it is no CSV."""
    for number, line in enumerate(_lines(text)):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        for delimiter in (",", ";", "\t"):
            names = [_column(part) for part in line.split(delimiter)]
            exact = [part.strip().strip('"').lower() for part in line.split(delimiter)]
            if len(names) > 1 and any(_COLUMNS.get(name) == "ips" for name in names) and _plain(exact):
                return delimiter, number
        return None
    return None


def _no_addresses(file: str, text: str) -> None:
    """Raises ConfigError for a table whose header names no column of addresses."""
    rows = [
        (number, line) for number, line in enumerate(_lines(text)[:200], 1) if line.strip() and line.lstrip()[0] != "#"
    ]
    for delimiter in (",", ";", "\t"):
        cells = [line.split(delimiter) for _, line in rows[:3]]
        heads = [part.strip().strip('"').lower() for part in cells[0]] if cells else []
        if len(cells) > 1 and len(heads) > 1 and _plain(heads) and {len(each) for each in cells} == {len(heads)}:
            close = [
                f"{head} (did you mean {near[0]}?)"
                for head in heads
                if (near := get_close_matches(head, _ADDRESSES, 1))
            ]
            raise ConfigError(
                file,
                f"the table header has no column of addresses: {', '.join(clip(escape(head), 40) for head in heads)}",
                rows[0][0],
                close[0] if close else "rename that column to ip",
            )


def _plain(names: Iterable[str]) -> bool:
    return all(re.fullmatch(r"[a-z0-9_ -]*", name) and not name.startswith("- ") for name in names)


def _csv(file: str, text: str, header: tuple[str, int], policy: Policy, mistakes: Mistakes) -> Read:
    delimiter, skip = header
    found = Read("csv", "")
    reader = csv.reader(_lines(text)[skip:], delimiter=delimiter, skipinitialspace=True)
    try:
        names = [_column(name) for name in next(reader)]
        for at, name in enumerate(names):
            if name not in _COLUMNS and name not in _IGNORED:
                close = get_close_matches(name, _COLUMNS, 1)
                hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(set(_COLUMNS)))}"
                mistakes.add(ConfigError(file, f"unknown column '{clip(name, 40)}'", skip + 1, hint))
            if name in _COLUMNS and _COLUMNS[name] in {_COLUMNS.get(other) for other in names[:at]} - {"ips"}:
                mistakes.add(ConfigError(file, f"column '{name}' is there twice", skip + 1, "keep one"))
        begins = skip + reader.line_num + 1
        for row in reader:
            line, begins = begins, skip + reader.line_num + 1
            if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
                continue
            if len(row) > len(names) and any(cell.strip() for cell in row[len(names) :]):
                says = "a row has more cells than the header"
                mistakes.add(ConfigError(file, says, line, "quote cells that hold the delimiter"))
                continue
            entry = _csv_entry(file, line, names, row, policy, mistakes)
            found.entries += [entry] if entry else []
    except csv.Error as error:
        mistakes.add(ConfigError(file, f"is not valid CSV: {error}", skip + reader.line_num))
    return found


def _csv_entry(
    file: str, line: int, names: list[str], row: list[str], policy: Policy, mistakes: Mistakes
) -> Entry | None:
    """None: it has a mistake, which ``mistakes`` got."""
    before = len(mistakes.found)
    cells: dict[str, str] = {}
    for name, cell in zip(names, row, strict=False):
        key = _COLUMNS.get(name)
        if key and cell.strip():
            cells[key] = f"{cells[key]} {cell.strip()}" if key == "ips" and key in cells else cell.strip()
    literals = _cell_list(cells.get("ips", ""))
    if not literals:
        mistakes.add(ConfigError(file, "a row has no address", line, "fill in its ip, or remove the row"))
    roles = tuple(dict.fromkeys(_cell_list(cells.get("roles", ""))))
    instance = cells.get("name")
    fronted = [FrontModel(role=one, ports=None) for one in _cell_list(cells.get("fronts", ""))]
    spans = _spans(file, literals, mistakes, line)
    first, last = _lease(file, cells.get("from"), cells.get("until"), {"from": line, "until": line}, mistakes)
    fronts = _fronts(file, line, fronted, policy, mistakes)
    if len(mistakes.found) > before:
        return None
    return Entry(
        file,
        str(line),
        instance,
        cells.get("group") or _group_of(instance, bool(roles), policy),
        roles,
        tuple(dict.fromkeys(spans)),
        first,
        last,
        fronts,
        cells.get("external", "").lower() in ("1", "true", "yes", "y"),
        deployment=cells.get("deployment"),
    )


def _cell_list(cell: str) -> list[str]:
    return [part for part in re.split(r"[\s,;|+]+", cell) if part]
