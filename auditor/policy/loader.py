"""From policy files to a ``Policy``; every mistake is a ConfigError with file, line and fix, and all are told at once.

Files are merged in the order given. Later ones add paths, roles and aliases; their settings replace earlier ones. One id for two paths
is an error, whichever files they are in. Where all that is named only adds to another policy (``overlay: true``), ``tas-diego`` comes
first by itself. A profile (``includes``) has no paths of its own: it stands for the shipped policies that it names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from auditor.errors import ConfigError, did_you_mean, together
from auditor.policy import shipped
from auditor.policy.foundation import foundation_of, in_foundation
from auditor.policy.policy import (
    ANY,
    UNNAMED,
    Alias,
    Condition,
    Held,
    Identity,
    PathOrigin,
    Policy,
    PolicyPath,
    Role,
    Settings,
    authentication_text,
    canonical,
    ports_text,
    slug,
)
from auditor.policy.schema import SCHEMA, EndModel, HeldRole, PathModel, PolicyModel
from auditor.policy.times import parse_time
from auditor.policy.validation_errors import validation_errors, without
from auditor.policy.yaml_positions import Document, Place, YamlDocument, one_or_many, other_kind, parse_yaml, read_text

MAX_POLICY_BYTES = 4 * 1024 * 1024
MAX_POLICY_VALUES = 200_000
_STAND_INS = {"schema": SCHEMA, "name": "unnamed", "version": "0", "title": "?", "origin": {"title": "?"}}
"""For what every file must say of itself, and a wrong one may not."""
_MAX_PRUNINGS = 8
"""How often what the schema refuses is left out, to see what else is wrong: what is left may be refused for what is missing now."""

Wrong = list[ConfigError]
"""Where mistakes are gathered, so that all are told at once."""


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One file, validated by itself."""

    file: str
    """As it is shown: the shipped name with .yml, or the path as given."""
    document: YamlDocument
    model: PolicyModel
    sha256: str
    profile: str | None = None
    """The profile that brought it."""


def load_policy(
    names_or_files: str | Path | Sequence[str | Path | Document] = (), *, release: str | None = None
) -> Policy:
    """The policy that this shipped name or file, or these together, make; none: ``tas-diego``, the vocabulary of all.

    ``release`` (``TAS 4.0``, ``4.0``, ``TPCF 10``) keeps the paths documented for it. Raises ConfigError.
    """
    wanted = one_or_many("policy", names_or_files) or [shipped.BASE]
    files: list[PolicyFile] = []
    wrong: Wrong = []
    for name in dict.fromkeys(wanted):
        try:
            files += _with_included(_read(name))
        except ConfigError as error:
            wrong += error.all
    if wrong:
        raise together(wrong)
    if all(each.model.overlay for each in files):
        files.insert(0, _read(shipped.BASE))
    return _merge(list({each.sha256: each for each in files}.values()), release)


def _with_included(file: PolicyFile) -> list[PolicyFile]:
    """A file, and the shipped policies that it stands for. Raises ConfigError."""
    found = [file]
    wrong = []
    for at, name in enumerate(file.model.includes):
        place: Place = ("includes", at)
        if shipped.find(name) is None:
            hint = did_you_mean(name, shipped.names(), f"shipped: {', '.join(shipped.names())}")
            wrong.append(file.document.error(place, f"no shipped policy is named '{name}'", hint))
            continue
        member = _read(name)
        if member.model.includes:
            wrong.append(
                file.document.error(place, f"'{name}' is itself a profile", "list the policies that it includes")
            )
        found.append(replace(member, profile=file.model.name))
    if wrong:
        raise together(wrong)
    return found


def members(name_or_file: str) -> list[str]:
    """The policies that hold paths: those that a profile stands for, or itself. Raises ConfigError."""
    return list(_read(name_or_file).model.includes) or [name_or_file]


def check_policy(name_or_file: str) -> list[ConfigError]:
    """All mistakes of one file, not only the first; empty: it is fine."""
    try:
        found = _read(name_or_file)
        base = [_read(shipped.BASE)] if found.model.overlay and found.model.name != shipped.BASE else []
        _merge([*base, *_with_included(found)], None)
    except ConfigError as error:
        return list(error.all)
    return []


def title_of(name: str) -> str:
    """The title of one policy. Raises ConfigError."""
    return _read(name).model.title


def overlays() -> tuple[tuple[str, tuple[PolicyPath, ...]], ...]:
    """The shipped policies that only add to others, by name, with their paths; ``library`` keeps them."""
    files = [_read(name) for name in shipped.names()]
    merged = _merge(files, None)
    return tuple(
        (each.model.name, tuple(path for path in merged.all_paths if path.policy == each.model.name))
        for each in files
        if each.model.overlay and each.model.paths  # one without paths explains nothing
    )


def _read(name: str | Document) -> PolicyFile:
    if isinstance(name, Document):
        return _read_document(name.name, name.text)
    shipped_file = shipped.find(name)
    if shipped_file is not None:
        return _read_shipped(str(shipped_file), shipped_file.name)
    if not Path(name).exists() and not name.endswith((".yml", ".yaml", ".json")) and "/" not in name:
        close = get_close_matches(name, shipped.names(), 1)
        known = ", ".join(shipped.names())
        hint = f"did you mean {close[0]}?" if close else f"shipped: {known}; or the path of a file"
        raise ConfigError(name, "no such policy", hint=hint)
    return _read_file(name, name)


@lru_cache(maxsize=64)
def _read_shipped(path: str, shown: str) -> PolicyFile:
    return _read_file(path, shown)


def _read_file(path: str, shown: str) -> PolicyFile:
    return _read_document(shown, read_text(path, MAX_POLICY_BYTES))


def _read_document(shown: str, text: str) -> PolicyFile:
    document = parse_yaml(shown, text, MAX_POLICY_VALUES)
    if not isinstance(document.data, dict):
        raise ConfigError(shown, "is not a policy", 1, "begin with schema: auditor.policy/1")
    if other := other_kind(document.data, "policy"):
        raise ConfigError(shown, f"is {other[0]}, not a policy", hint=other[1])
    digits = hashlib.sha256(text.encode()).hexdigest()
    try:
        return PolicyFile(shown, document, PolicyModel.model_validate(document.data), digits)
    except ValidationError as error:
        wrong = validation_errors(document, error, PolicyModel)
    except RecursionError:
        raise ConfigError(shown, "is nested too deeply", 1) from None
    raise together(_in_order([*wrong, *_wrong_besides(document, digits)]))


def _wrong_besides(document: YamlDocument, digits: str) -> list[ConfigError]:
    """What else is wrong with a file that the schema refuses: with all of it that the schema takes."""
    rest, taken = document, frozenset[str]()
    for _ in range(_MAX_PRUNINGS):
        data = {**_STAND_INS, **rest.data}
        try:
            model = PolicyModel.model_validate(data)
        except ValidationError as error:
            rest, more = without(replace(rest, data=data), error)
            taken |= more
            continue
        base = [_read(shipped.BASE)] if model.overlay and model.name != shipped.BASE else []
        try:
            _merge([*base, *_with_included(PolicyFile(rest.file, rest, model, digits))], None)
        except ConfigError as error:
            # A name that stands in what was taken out is not unknown.
            return [each for each in error.all if not any(f"'{word}'" in each.says for word in taken)]
        break
    return []


def _in_order(errors: Iterable[ConfigError]) -> list[ConfigError]:
    return sorted({str(each): each for each in errors}.values(), key=lambda error: (error.path, error.line or 0))


# Merging -------------------------------------------------------------------------------------------------------------


def _vocabulary(
    files: Sequence[PolicyFile], wrong: Wrong
) -> tuple[list[PolicyFile], dict[str, Role], tuple[Alias, ...]]:
    """The files whose words count, and the roles and aliases that they name."""
    vocabulary = list(files)
    borrowed = {each.model.vocabulary for each in files} - {each.model.name for each in files} - {None}
    vocabulary[:0] = [_read(str(name)) for name in sorted(map(str, borrowed))]
    roles: dict[str, Role] = {}
    for each in vocabulary:
        for at, role in enumerate(each.model.roles):
            if role.name == ANY:
                wrong.append(
                    each.document.error(
                        ("roles", at, "name"), "'any' means every VM and is not a role", "use another name"
                    )
                )
                continue
            before = roles.get(role.name)
            components = tuple(dict.fromkeys([*(before.components if before else ()), *role.components]))
            roles[role.name] = Role(
                role.name,
                role.diego or (before is not None and before.diego),
                components,
                role.says or (before.says if before else None),
                each.model.overlay and (before is None or before.added),
            )
    aliases = tuple(
        alias for each in reversed(vocabulary) for alias in sorted(_aliases(each, roles, wrong), key=_narrow_first)
    )
    return vocabulary, roles, aliases


def _merge(files: Sequence[PolicyFile], release: str | None) -> Policy:
    """Raises ConfigError of all mistakes in them."""
    wrong: Wrong = []
    vocabulary, roles, aliases = _vocabulary(files, wrong)
    draft = Policy((), roles, aliases, Settings(), (), ())
    paths: dict[str, PolicyPath] = {}
    places: dict[str, tuple[str, int | None]] = {}
    for each in files:
        for at, model in enumerate(each.model.paths):
            path = _path(each, at, model, draft, wrong)
            if path.id in paths:
                first_file, first_line = places[path.id]
                wrong.append(
                    each.document.error(
                        ("paths", at, "id"),
                        f"the id '{path.id}' is already used by {first_file}:{first_line}",
                        "ids must be unique in all loaded policies: choose another",
                    )
                )
                continue
            paths[path.id] = path
            places[path.id] = (each.file, path.origin.line)
    foundation = foundation_of(vocabulary)
    _check_foundation(vocabulary, paths, wrong)
    settings = Settings()
    for each in vocabulary:
        if each.model.settings is not None:
            own = each.model.settings
            settings = Settings(own.tls.minimum, tuple(own.tls.forbidden_suites), own.names, own.origin.title)
    declared = _declared(vocabulary, settings, wrong)
    identities = tuple(identity for each in vocabulary for identity in _identities(each, roles, declared, wrong))
    if wrong:
        raise together(_in_order(wrong))
    models = {model.id: model for each in files for model in each.model.paths}
    kept = in_foundation(paths.values(), models, foundation)
    if release is not None:
        kept = _of_release(kept, release)
    return Policy(
        kept,
        roles,
        aliases,
        settings,
        identities,
        tuple(_source(each) for each in vocabulary),
        release,
        frozenset(each.model.name for each in files if each.model.ambient),
        foundation,
    )


def _source(file: PolicyFile) -> dict[str, str]:
    told = {"name": file.model.name, "version": file.model.version, "sha256": file.sha256}
    return told if file.profile is None else {**told, "profile": file.profile}


def _narrow_first(alias: Alias) -> tuple[bool, int]:
    return "*" in alias.pattern, -len(alias.pattern)


def _aliases(each: PolicyFile, roles: dict[str, Role], wrong: Wrong) -> Iterable[Alias]:
    if each.model.aliases is None:
        return
    for at, entry in enumerate(each.model.aliases.entries):
        held = []
        for which, one in enumerate(entry.roles):
            place: Place = ("aliases", "entries", at, "roles", which)
            name = one.role if isinstance(one, HeldRole) else one
            if name not in roles:
                wrong.append(each.document.error(place, f"unknown role '{name}'", _did_you_mean(name, roles)))
                continue
            components = None
            if isinstance(one, HeldRole):
                components = frozenset(
                    _component(each, (*place, "components"), component, [roles[name]], wrong)
                    for component in one.components
                )
            held.append(Held(name, components))
        for group in entry.group:
            yield Alias(canonical(group), tuple(held), entry.says, group)


def _declared(vocabulary: Sequence[PolicyFile], settings: Settings, wrong: Wrong) -> frozenset[str]:
    """Names of the policies whose identities are known to be this deployment's."""
    tables = {each.model.name: each.model.identities for each in vocabulary if each.model.identities is not None}
    found = {name for name, table in tables.items() if settings.names == "strict" or table.names == "declared"}
    for each in vocabulary:
        for at, name in enumerate(each.model.identities.declares if each.model.identities else ()):
            if name not in tables:
                wrong.append(
                    each.document.error(
                        ("identities", "declares", at),
                        f"no policy loaded here has identities and the name '{name}'",
                        did_you_mean(name, tables, f"write one of {', '.join(sorted(tables))}"),
                    )
                )
            found.add(name)
    return frozenset(found)


def _identities(each: PolicyFile, roles: dict[str, Role], declared: frozenset[str], wrong: Wrong) -> Iterable[Identity]:
    if each.model.identities is None:
        return
    name_of, known = each.model.name, each.model.name in declared
    for at, entry in enumerate(each.model.identities.entries):
        place: Place = ("identities", "entries", at, "components")
        slugs = frozenset(
            _component(each, (*place, which), component, roles.values(), wrong)
            for which, component in enumerate(entry.components)
        )
        for name in entry.name or (UNNAMED,):
            yield Identity(
                name if name is UNNAMED else canonical(name),
                tuple(entry.components),
                slugs,
                frozenset(entry.use),
                entry.says,
                name_of,
                known,
                tuple(map(canonical, entry.variables)),
                entry.owner,
                None if entry.until is None else parse_time(entry.until),
            )


def _component(each: PolicyFile, place: Place, component: str, roles: Iterable[Role], wrong: Wrong) -> str:
    known = {slug(name): name for role in roles for name in role.components}
    key = slug(component)
    if key not in known:
        hint = _did_you_mean(component, known.values(), "components")
        wrong.append(each.document.error(place, f"unknown component '{component}'", hint))
    return key


def _did_you_mean(name: str, known: Iterable[str], what: str = "roles") -> str:
    names = list(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else f"add it to {what}:, or use one of {', '.join(names)}"


def _path(each: PolicyFile, at: int, model: PathModel, draft: Policy, wrong: Wrong) -> PolicyPath:
    place: Place = ("paths", at)
    orig_roles = _end_roles(each, (*place, "source"), model.source, draft, wrong)
    resp_roles = _end_roles(each, (*place, "destination"), model.destination, draft, wrong)
    given = model.ports
    varies, ports = given == "varies", () if given in ("varies", None) else given
    for condition in model.conditions:
        if condition.kind == "host_ports":
            varies, ports = False, condition.ports
        elif condition.kind == "internal_port":
            ports = (*ports, *condition.ports)  # type: ignore[misc]  # the schema gives this kind ports
    words = model.documented
    origin = model.origin or each.model.origin
    return PolicyPath(
        id=model.id,
        row=model.row,
        orig_roles=orig_roles,
        orig_component=model.source.component,
        resp_roles=resp_roles,
        resp_component=model.destination.component,
        ports=tuple(ports),
        varies=varies,
        transports=tuple(dict.fromkeys(model.transport)),
        application=model.application,
        authentication=model.authentication,
        conditions=tuple(Condition(one.kind, one.says, tuple(one.ports or ())) for one in model.conditions),
        footnote=model.footnote or "; ".join(one.says for one in model.conditions) or None,
        origin=PathOrigin(
            each.file,
            each.document.line((*place, "id")),
            origin.title,
            origin.page,
            model.section,
            model.releases or each.model.releases,
            origin.url,
        ),
        ambient=each.model.ambient,
        policy=each.model.name,
        source=(words and words.source) or _end_text(model.source),
        destination=(words and words.destination) or _end_text(model.destination),
        ports_text=(words and words.ports) or ("Varies" if given == "varies" else ports_text(ports)),
        application_text=(words and words.application) or model.application,
        authentication_text=(words and words.authentication) or authentication_text(model.authentication),
        orig_slug=slug(model.source.component) if model.source.component else None,
        resp_slug=slug(model.destination.component) if model.destination.component else None,
        local=model.local,
        tile=model.where.tile if model.where else None,
    )


def _check_foundation(files: Sequence[PolicyFile], paths: Iterable[str], wrong: Wrong) -> None:
    """Paths that switches name are there, in what is loaded or in a shipped policy beside it."""
    for each in files:
        switches = each.model.foundation
        if switches is None:
            continue
        named: list[tuple[str, Place]] = [
            *((name, ("foundation", "require_tls", at)) for at, name in enumerate(switches.require_tls)),
            *((name, ("foundation", "ports", name)) for name in switches.ports),
        ]
        known = set(paths)
        for name, place in named:
            if name in known:
                continue
            known |= {model.id for one in shipped.names() for model in _read(one).model.paths}
            if name not in known:
                hint = did_you_mean(name, known, "auditor policy show tas lists the paths")
                wrong.append(each.document.error(place, f"unknown path '{name}'", hint))


def _end_roles(each: PolicyFile, place: Place, end: EndModel, draft: Policy, wrong: Wrong) -> tuple[str, ...]:
    found: list[str] = []
    for at, name in enumerate(end.vm):
        if name == ANY:
            found.append(ANY)
            continue
        held = draft.held_by(name)
        if held is None or any(one.components is not None for one in held):
            wrong.append(
                each.document.error((*place, "vm", at), f"unknown role '{name}'", _did_you_mean(name, draft.roles))
            )
            continue
        found += [one.role for one in held]
    if end.component is not None:
        held_roles = [draft.roles[name] for name in found if name in draft.roles]
        if held_roles:
            _component(each, (*place, "component"), end.component, held_roles, wrong)
    return tuple(dict.fromkeys(found))


def _end_text(end: EndModel) -> str:
    vm = " or ".join("any VM" if name == ANY else name for name in end.vm)
    return f"{vm} ({end.component})" if end.component else vm


# Releases ------------------------------------------------------------------------------------------------------------

_RELEASE = re.compile(r"^\s*(?:(TAS|TPCF|PAS|PCF|EAR)\s*)?(\d{1,3})(?:\.(\d{1,3}))?(?:\.\d+)?\s*$", re.IGNORECASE)
_LAST_MINOR = 999


def _version(text: str, *, last: bool) -> tuple[int, int] | None:
    match = _RELEASE.match(text)
    if not match:
        return None
    minor = match[3]
    return int(match[2]), int(minor) if minor is not None else (_LAST_MINOR if last else 0)


def covers(releases: str | None, release: str) -> bool:
    """Whether ``TAS 2.7, TAS 2.10..TPCF 10`` includes ``TAS 4.0``; no text includes all."""
    wanted = _version(release, last=False)
    if releases is None or wanted is None:
        return releases is None
    for part in releases.split(","):
        first, dots, end = part.partition("..")
        low, high = _version(first, last=False), _version(end if dots else first, last=True)
        if low is not None and high is not None and low <= wanted <= high:
            return True
    return False


def _of_release(paths: tuple[PolicyPath, ...], release: str) -> tuple[PolicyPath, ...]:
    if _version(release, last=False) is None:
        raise ConfigError("--release", f"{release!r} is not a release", hint="write TAS 4.0 or TPCF 10")
    kept = tuple(path for path in paths if covers(path.origin.releases, release))
    if not kept:
        known = sorted({path.origin.releases for path in paths if path.origin.releases})
        raise ConfigError("--release", f"no path is documented for {release}", hint=f"documented: {'; '.join(known)}")
    return kept
