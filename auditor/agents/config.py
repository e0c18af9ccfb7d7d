"""The configurations of ``auditor agent`` and ``auditor collect``: TOML, typed, every mistake told with file, line and fix.

As for ``auditor run``; ``docs/agents.md`` has both with every key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from auditor.agents.wire import NAME
from auditor.errors import ConfigError
from auditor.jobs.config import (
    AuditSection,
    InventorySection,
    LogSection,
    MetricsSection,
    NotifySection,
    Ns,
    ReportSection,
    RetentionSection,
    RunConfig,
    Section,
    Size,
    SourceSection,
    SpoolSection,
    Text,
    bad,
    placed,
    read_config,
)


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise bad("name", f"{value!r} is not a name", "letters, digits and . _ -, 64 at the most: diego_cell-0")
    return value


Name = Annotated[str, AfterValidator(_name)]
SECOND_NS = 1_000_000_000
ASIDE = ".aside"
"""Folder of windows that could not be audited; no agent has such a name."""


class TlsSection(Section):
    """Whose certificates are believed, and one's own; PEM files."""

    ca: Text
    certificate: Text
    key: Text


class CaptureSection(Section):
    """What is captured, as for ``auditor live``."""

    source: Text = Field("eth0", description="An interface, a pipe, a file, or - for standard input.")
    filter: str = Field("", description="pcap filter; auditor policy filter prints the one that is needed.")
    snaplen: int = Field(262_144, ge=64, le=262_144)
    tool: str | None = Field(None, description="dumpcap, tcpdump or scapy. Default: the best one that can be used.")
    linktype: int | None = Field(None, ge=0, le=65_535)
    connections: int = Field(20_000, ge=1_000, description="Held at once; a window ends early before there are more.")


class CollectorSection(Section):
    """Where windows go."""

    address: Text = Field(description="host:port of the collector.")
    name: Text | None = Field(None, description="The name in its certificate. Default: the host.")


class AgentSpoolSection(Section):
    """Windows until the collector has them."""

    folder: Text
    size: Size = Field(512 << 20)


class RingSection(Section):
    """The last packets, for those who ask for the packets of a finding."""

    folder: Text
    size: Size = Field(1 << 30)
    listen: Text | None = Field(None, description="host:port where packets are asked for. Default: nowhere.")
    readers: list[Text] = Field([], description="Names in the certificates of those who may ask.")


class AgentConfig(Section):
    """A whole file of an agent."""

    name: Name
    window: Ns = Field(60 * SECOND_NS)
    tls: TlsSection
    collector: CollectorSection
    capture: CaptureSection = Field(default_factory=lambda: CaptureSection.model_validate({}))
    spool: AgentSpoolSection
    ring: RingSection | None = None
    log: LogSection = Field(default_factory=lambda: LogSection.model_validate({}))


class ReceiveSection(Section):
    """Who may send, and when a window is judged."""

    listen: Text = Field(description="host:port for the agents.")
    agents: list[Name] = Field(min_length=1, description="Names of all agents, as in their certificates.")
    shared: list[Text] = Field(
        [], description="Names in certificates that several agents share; their holders may be any agent of the list."
    )
    folder: Text = Field(description="Windows until they are audited; on a local disk.")
    size: Size = Field(8 << 30, description="When this much waits to be audited, agents are told to wait.")
    window: Ns = Field(60 * SECOND_NS, description="As the agents have it.")
    wait: Ns = Field(30 * SECOND_NS, description="So long a window waits for agents that have not delivered it.")
    clock: Ns = Field(2 * SECOND_NS, description="An agent's clock that is further off than this is told.")
    remember: Ns = Field(7_200 * SECOND_NS, description="How long closed connections are remembered.")


class CollectConfig(Section):
    """A whole file of a collector."""

    name: Text = "collector"
    store: Text
    tls: TlsSection
    collect: ReceiveSection
    inventory: list[InventorySection] = Field(default_factory=list)
    audit: AuditSection = Field(default_factory=lambda: AuditSection.model_validate({}))
    retention: RetentionSection = Field(default_factory=lambda: RetentionSection.model_validate({}))
    report: list[ReportSection] = Field(default_factory=list)
    notify: list[NotifySection] = Field(default_factory=list)
    metrics: MetricsSection = Field(default_factory=lambda: MetricsSection.model_validate({}))
    log: LogSection = Field(default_factory=lambda: LogSection.model_validate({}))


def load_agent(file: str | Path) -> AgentConfig:
    """An agent's configuration, with its paths made whole. Raises ConfigError with file, line and fix."""
    config, _ = read_config(file, AgentConfig)
    base = Path(file).resolve().parent
    at = _placer(base)
    source = config.capture.source
    found = at(source) if "/" in source or (base / source).is_file() else source
    if config.ring is not None and config.ring.listen is not None and not config.ring.readers:
        raise ConfigError(str(file), "ring.listen needs ring.readers", hint='add readers = ["operator"]')
    return config.model_copy(
        update={
            "tls": _tls(config.tls, at),
            "capture": config.capture.model_copy(update={"source": found}),
            "spool": config.spool.model_copy(update={"folder": at(config.spool.folder)}),
            "ring": config.ring and config.ring.model_copy(update={"folder": at(config.ring.folder)}),
        }
    )


def load_collector(file: str | Path) -> CollectConfig:
    """A collector's configuration, with its paths made whole. Raises ConfigError with file, line and fix."""
    config, document = read_config(file, CollectConfig)
    names = config.collect.agents
    for k, name in enumerate(names):
        if name in names[:k]:
            raise document.error(("collect", "agents"), f"{name!r} is there twice", "use different names")
    base = Path(file).resolve().parent
    at = _placer(base)
    passes = placed(_passes(config, "."), base, document)
    return config.model_copy(
        update={
            "tls": _tls(config.tls, at),
            "collect": config.collect.model_copy(update={"folder": at(config.collect.folder)}),
            **{name: getattr(passes, name) for name in ("store", "inventory", "audit", "report", "notify", "metrics")},
        }
    )


def passes_of(config: CollectConfig) -> RunConfig:
    """How the collector audits what it has received: as a pass of ``auditor run`` over the folders of its agents."""
    return _passes(config, config.collect.folder)


def _passes(config: CollectConfig, folder: str) -> RunConfig:
    taken = config.collect
    spool = SpoolSection.model_validate(
        {
            "folders": [str(Path(folder) / name) for name in taken.agents],
            "patterns": ["*.window"],
            "settle": "0s",
            "after": "delete",
            "aside": str(Path(folder) / ASIDE),
        }
    ).model_copy(update={"remember": taken.remember})
    sources = [
        SourceSection.model_validate({"name": name, "match": [f"*/{name}/*.window", f"agent://{name}"]}).model_copy(
            update={"every": max(2 * taken.window, taken.window + taken.wait)}
        )
        for name in taken.agents
    ]
    return RunConfig.model_construct(
        name=config.name,
        store=config.store,
        spool=spool,
        source=sources,
        inventory=config.inventory,
        audit=config.audit,
        limits=RunConfig.model_fields["limits"].get_default(call_default_factory=True),
        retention=config.retention,
        report=config.report,
        notify=config.notify,
        metrics=config.metrics,
        log=config.log,
    )


def _placer(base: Path) -> Any:
    return lambda path: str(base / Path(path).expanduser())


def _tls(section: TlsSection, at: Any) -> TlsSection:
    return section.model_copy(update={name: at(getattr(section, name)) for name in ("ca", "certificate", "key")})
