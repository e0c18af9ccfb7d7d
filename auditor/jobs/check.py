"""``--check``: everything that a real pass would lack; nothing is run, written or sent.

Two kinds: mistakes in policies, inventories and waivers are errors, with the messages of a pass; what this machine lacks (a folder, a right, a command, a package) is listed, all of it
at once. Where a systemd unit starts the pass, its sandbox counts, too: a folder that root may write to is read-only inside ``ProtectSystem=strict``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from auditor.errors import AuditorError
from auditor.jobs.config import RunConfig
from auditor.jobs.digest import address_of

UNITS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/lib/systemd/system")
RUN = "pip install 'diego-flow-auditor[run]'"


def check(config: RunConfig, environment: Mapping[str, str], file: Path, units: Iterable[str] = UNITS) -> list[str]:
    """Read all files that the configuration names; what this machine lacks. Raises AuditorError where a file is wrong."""
    _read(config)
    lacks = [*_folders(config), *_commands(config), *_packages(config)]
    for section in config.notify:
        try:
            address_of(section, environment)
        except AuditorError as error:
            lacks.append(str(error))
    for place in (Path(folder) / name for folder in units for name in _names(folder)):
        lacks += _unit(config, file, place)
    return lacks


def _read(config: RunConfig) -> None:
    from auditor.jobs.keep import known_names
    from auditor.policy.inventory import load_inventory
    from auditor.policy.loader import load_policy
    from auditor.policy.waivers import load_waivers

    policy = load_policy(config.audit.policies, release=config.audit.release)
    load_waivers(config.audit.waivers, known_names(policy))
    files = [each.file for each in config.inventory if each.file is not None]
    if files:
        load_inventory(files, policy)
    if config.audit.ca:
        from auditor.policy.certificates import load_cas

        load_cas(config.audit.ca, policy)


def written(config: RunConfig) -> Iterator[tuple[str, Path]]:
    """Every folder that a pass writes to, and by what of the configuration."""
    spool = config.spool
    yield "store", Path(config.store)
    for name, folder in (("spool.done", spool.done if spool.after == "move" else None), ("spool.aside", spool.aside)):
        if folder is not None:
            yield name, Path(folder)
    if spool.after != "keep" or spool.aside is not None:
        for folder in spool.folders:
            yield "spool.folders", Path(folder)
    for number, each in enumerate(config.report, 1):
        yield f"report {number}", Path(each.output.partition("{")[0] + "x").parent
    if config.metrics.textfile is not None:
        yield "metrics.textfile", Path(config.metrics.textfile).parent


def _folders(config: RunConfig) -> Iterator[str]:
    for place in map(Path, config.spool.folders):
        if not place.is_dir():
            yield f"spool.folders: {place}: no such folder"
        elif not os.access(place, os.R_OK | os.X_OK):
            yield f"spool.folders: {place}: this user may not read it"
    for name, folder in written(config):
        if name == "spool.folders" and not folder.is_dir():
            continue
        there = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), Path("/"))
        if not there.is_dir():
            yield f"{name}: {there}: is not a folder"
        elif not os.access(there, os.W_OK | os.X_OK):
            yield f"{name}: {folder}: this user may not write there"


def _commands(config: RunConfig) -> Iterator[str]:
    for number, each in enumerate(config.inventory, 1):
        if each.command is not None and shutil.which(each.command[0]) is None:
            yield f"inventory {number}: command not found: {each.command[0]}"


def _packages(config: RunConfig) -> Iterator[str]:
    metrics = config.metrics.textfile is not None or config.metrics.listen is not None
    for wanted, module, why in (
        (metrics, "prometheus_client", "metrics need prometheus-client"),
        (bool(config.notify), "apprise", "notifications need apprise"),
        (config.audit.scheduler is not None, "distributed", "audit.scheduler needs dask"),
    ):
        if wanted and find_spec(module) is None:
            yield f"{why} ({RUN})" if module != "distributed" else f"{why} (pip install 'diego-flow-auditor[cluster]')"


# The unit that starts it


def _names(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".service"))  # noqa: PTH208
    except OSError:
        return []


def _unit(config: RunConfig, file: Path, place: Path) -> Iterator[str]:
    """What the sandbox of a unit that runs this configuration keeps a pass from."""
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    settings: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text.replace("\\\n", " "), re.MULTILINE):
        settings.setdefault(name, []).extend(value.split())
    words = settings.get("ExecStart", [])
    if "run" not in words or str(file.resolve()) not in {
        str(Path(word).resolve()) for word in words if word.startswith("/")
    }:
        return
    strict = settings.get("ProtectSystem", [""])[-1:] == ["strict"]
    open_ = [Path("/var/lib") / name for name in settings.get("StateDirectory", [])]
    open_ += [Path("/var/cache") / name for name in settings.get("CacheDirectory", [])]
    open_ += [Path("/var/log") / name for name in settings.get("LogsDirectory", [])]
    open_ += [Path(word.lstrip("-+")) for word in settings.get("ReadWritePaths", [])]
    for name, folder in dict.fromkeys(written(config)):
        if strict and not any(folder.is_relative_to(each) for each in open_):
            yield f"{place}: {name}: {folder} is read-only inside it (ReadWritePaths={folder})"
    if settings.get("ProtectHome", [""])[-1:] in (["yes"], ["true"]):
        homes = [folder for folder in map(Path, config.spool.folders) if folder.parts[1:2] in (("home",), ("root",))]
        for folder in homes:
            yield f"{place}: spool.folders: {folder} is hidden inside it (ProtectHome=read-only)"
