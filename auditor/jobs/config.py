"""The configuration of ``auditor run``: TOML, typed; every mistake is reported with file, line and fix.

Paths are relative to the file's own folder. Durations are ``30s``, ``15m``, ``2h``, ``7d``; sizes are ``500MiB``, ``10GiB`` or bytes. No secret needs to stand in it: addresses of
notifications may come from a file or the environment. ``docs/deploy/auditor.toml`` is an example with every key.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from auditor.errors import ConfigError, together
from auditor.policy.validation_errors import validation_errors
from auditor.policy.yaml_positions import Place, YamlDocument, read_text

MAX_BYTES = 1024 * 1024
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_DURATION = re.compile(r"(\d{1,9})\s*([smhdw])")
_SIZE = re.compile(r"(\d{1,15})\s*(B|KiB|MiB|GiB|TiB)?")


def bad(kind: str, says: str, hint: str) -> PydanticCustomError:
    """A mistake in a value, for a validator to raise."""
    clean: Any = says.replace("{", "(").replace("}", ")")
    return PydanticCustomError("policy_" + kind, clean, {"hint": hint})


def _duration(value: Any) -> Any:
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise bad("duration", f"{value!r} is not a duration", 'write "30s", "15m", "2h" or "7d"')
    return int(match[1]) * _SECONDS[match[2]] * 1_000_000_000


def _size(value: Any) -> Any:
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if match is None:
        raise bad("size", f"{value!r} is not a size", 'write "500MiB" or "10GiB"')
    return int(match[1]) * _UNITS[match[2] or ""]


Text = Annotated[str, StringConstraints(min_length=1, max_length=4_000)]
Ns = Annotated[int, BeforeValidator(_duration)]
Size = Annotated[int, BeforeValidator(_size)]
Severity = Literal["critical", "high", "medium", "low", "info"]


class Section(BaseModel):
    """Strict types, no unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True, defer_build=True)


class SpoolSection(Section):
    """Where captures land, when they are finished, and what becomes of them."""

    folders: list[Text] = Field(min_length=1)
    patterns: list[Text] = Field(["*"], min_length=1, description="File names to read.")
    ignore: list[Text] = Field([".*", "*.part", "*.tmp"], description="File names to skip.")
    recursive: bool = False
    settle: Ns = Field(
        30_000_000_000,
        description="A file is complete when it has not changed for this long and no process writes to it.",
    )
    remember: Ns = Field(
        7_200_000_000_000, description="How long closed connections are remembered, for files of other capture points."
    )
    after: Literal["keep", "delete", "move"] = "keep"
    done: Text | None = Field(None, description="Folder for audited files with after = move.")
    aside: Text | None = Field(None, description="Folder for files that failed. Default: they stay.")
    ahead: Ns = Field(
        3_600_000_000_000,
        description="A capture with packets dated further ahead of the clock than this is kept separate from the history.",
    )

    @model_validator(mode="after")
    def _somewhere(self) -> SpoolSection:
        if self.after == "move" and self.done is None:
            raise bad("done", 'after = "move" needs a folder', 'add done = "/folder"')
        return self


class SourceSection(Section):
    """Where some of the captures come from; sources that are not declared are distinguished by the names of their files."""

    name: Text
    match: list[Text] = Field(min_length=1, description="Names of its files, or whole paths.")
    every: Ns | None = Field(
        None, description="Interval of its files; twice as long without a file is reported. Default: learnt."
    )


class InventorySection(Section):
    """An inventory: a file, or a command that prints one."""

    file: Text | None = None
    command: list[Text] | None = Field(None, min_length=1, description="Run directly, without a shell.")
    timeout: Ns = Field(60_000_000_000, description="Time limit of the command.")
    stale: Ns = Field(86_400_000_000_000, description="If it fails, its last output is used for this long.")

    @model_validator(mode="after")
    def _one(self) -> InventorySection:
        if (self.file is None) == (self.command is None):
            raise bad(
                "inventory",
                "an inventory is a file or a command",
                'write file = "vms.json" or command = ["bosh", "vms", "--json"]',
            )
        return self


class AuditSection(Section):
    """As the options of ``auditor audit``."""

    policies: list[Text] = Field(["tas"], min_length=1)
    release: Text | None = None
    scope: Literal["diego", "all"] = "diego"
    strict: bool = False
    ca: list[Text] = []
    linktype: int | None = Field(None, ge=0, le=65_535)
    waivers: list[Text] = []
    fail_on: Literal["critical", "high", "medium", "low", "info", "never"] = "medium"
    max_undecided: float = Field(5.0, ge=0, le=100)
    allow_incomplete: bool = False
    gone_after: Ns = Field(
        86_400_000_000_000, description="A finding not seen for this long, by packet times, is gone."
    )
    workers: int = Field(1, ge=1, le=256)
    scheduler: Text | None = Field(None, description="Address of a Dask scheduler whose workers read the captures.")

    @model_validator(mode="after")
    def _hands(self) -> AuditSection:
        if self.scheduler is not None and self.workers != 1:
            raise bad("audit.scheduler", "the cluster has its own workers", "leave workers out")
        return self


class LimitsSection(Section):
    """Maximum of one audit; the rest waits for the next one of the same pass."""

    files: int = Field(1_000, ge=1)
    bytes: Size = Field(8 << 30)
    file_bytes: Size = Field(1 << 40, description="A larger file is set aside.")


class RetentionSection(Section):
    """How much history is kept."""

    age: Ns | None = None
    size: Size | None = None


class ReportSection(Section):
    """A report that is written after each audit."""

    format: Literal[
        "table", "json", "ndjson", "csv", "parquet", "markdown", "html", "sarif", "junit", "ocsf", "ecs", "cef", "zeek"
    ]
    output: Text = Field(description="File, or folder for parquet; {id}, {audit} and {date} are replaced.")
    table: Literal["connections", "findings", "coverage", "captures"] | None = None
    on: Literal["always", "change"] = Field("always", description="change: only if something is new or gone.")


class NotifySection(Section):
    """A receiver of notifications."""

    name: Text
    url: Text | None = Field(None, description="Address in apprise's form; better put it in a file or the environment.")
    url_file: Text | None = None
    url_env: Text | None = None
    on: list[Literal["new", "gone", "waiver", "incomplete", "aside", "silent", "clock", "store"]] = [
        "new",
        "gone",
        "waiver",
        "incomplete",
        "aside",
        "silent",
        "clock",
        "store",
    ]
    severity: Severity = "medium"
    tries: int = Field(
        8,
        ge=1,
        le=100,
        description="After this many failed attempts it is reported as an error; attempts continue.",
    )
    timeout: Ns = Field(30_000_000_000)

    @model_validator(mode="after")
    def _one(self) -> NotifySection:
        if sum(each is not None for each in (self.url, self.url_file, self.url_env)) != 1:
            raise bad("url", "one address is needed", "write one of url, url_file and url_env")
        return self


class MetricsSection(Section):
    """Prometheus."""

    textfile: Text | None = Field(None, description="For the node exporter's textfile collector; ends in .prom.")
    listen: Text | None = Field(None, description="host:port, with --watch.")

    @model_validator(mode="after")
    def _address(self) -> MetricsSection:
        if self.listen is not None and not re.fullmatch(r"\S+:\d{1,5}", self.listen):
            raise bad("listen", f"{self.listen!r} is not an address", 'write "127.0.0.1:9465"')
        return self


class LogSection(Section):
    """What is said on standard error."""

    format: Literal["text", "json"] = "text"


class RunConfig(Section):
    """A whole file."""

    name: Text = Field("auditor", description="Name of this run, in notifications and metrics.")
    store: Text
    spool: SpoolSection
    source: list[SourceSection] = []
    inventory: list[InventorySection] = []
    audit: AuditSection = Field(default_factory=lambda: AuditSection.model_validate({}))
    limits: LimitsSection = Field(default_factory=lambda: LimitsSection.model_validate({}))
    retention: RetentionSection = Field(default_factory=lambda: RetentionSection.model_validate({}))
    report: list[ReportSection] = []
    notify: list[NotifySection] = []
    metrics: MetricsSection = Field(default_factory=lambda: MetricsSection.model_validate({}))
    log: LogSection = Field(default_factory=lambda: LogSection.model_validate({}))


def load_config(file: str | Path) -> RunConfig:
    """The configuration, with its paths made whole. Raises ConfigError with file, line and fix."""
    config, document = read_config(file, RunConfig)
    return placed(config, Path(file).resolve().parent, document)


Read = TypeVar("Read", bound=Section)


def read_config(file: str | Path, kind: type[Read]) -> tuple[Read, YamlDocument]:
    """A file of this kind, and where in it everything stands. Raises ConfigError with file, line and fix."""
    text = read_text(str(file), MAX_BYTES)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        says = re.sub(r"\s*\(at .*\)$", "", str(error))
        raise ConfigError(str(file), f"is not valid TOML: {says}", line, "text is quoted, keys are not") from None
    except RecursionError:
        raise ConfigError(str(file), "is nested too deeply", hint="do not nest lists") from None
    except ValueError:  # Python reads no number of more than 4,300 digits
        where = next((at for at, each in enumerate(text.splitlines(), 1) if re.search(r"\d{4000}", each)), None)
        raise ConfigError(str(file), "a number has too many digits", where, "correct it") from None
    document = YamlDocument(str(file), data, toml_lines(text))
    try:
        return kind.model_validate(data), document
    except ValidationError as error:
        raise together(validation_errors(document, error, kind)) from None


def placed(config: RunConfig, base: Path, document: YamlDocument) -> RunConfig:
    """The same with every path absolute."""
    from auditor.policy import shipped

    def at(path: str) -> str:
        return str(base / Path(path).expanduser())

    def some(path: str | None) -> str | None:
        return None if path is None else at(path)

    def scoped(spec: str) -> str:
        role, equals, path = spec.partition("=")
        return f"{role}={at(path)}" if equals else at(spec)

    for what, names in (
        ("notify", [each.name for each in config.notify]),
        ("source", [each.name for each in config.source]),
    ):
        for k, name in enumerate(names):
            if name in names[:k]:
                raise document.error((what, k, "name"), f"{name!r} is there twice", "use different names")
    audit = config.audit
    return config.model_copy(
        update={
            "store": at(config.store),
            "spool": config.spool.model_copy(
                update={
                    "folders": [at(each) for each in config.spool.folders],
                    "done": some(config.spool.done),
                    "aside": some(config.spool.aside),
                }
            ),
            "inventory": [each.model_copy(update={"file": some(each.file)}) for each in config.inventory],
            "audit": audit.model_copy(
                update={
                    "policies": [each if shipped.find(each) else at(each) for each in audit.policies],
                    "ca": [scoped(each) for each in audit.ca],
                    "waivers": [at(each) for each in audit.waivers],
                }
            ),
            "report": [each.model_copy(update={"output": at(each.output)}) for each in config.report],
            "notify": [each.model_copy(update={"url_file": some(each.url_file)}) for each in config.notify],
            "metrics": config.metrics.model_copy(update={"textfile": some(config.metrics.textfile)}),
        }
    )


_HEAD = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")


def toml_lines(text: str) -> dict[Place, int]:
    """The line of each key and table; keys inside inline tables and arrays have the line of the whole."""
    lines: dict[Place, int] = {(): 1}
    counts: dict[Place, int] = {}
    inside: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        head = _HEAD.match(line)
        if head:
            names = tuple(part.strip().strip("\"'") for part in head[2].split("."))
            if head[1] == "[[":
                counts[names] = counts.get(names, -1) + 1
                inside = (*names, counts[names])
                lines.setdefault(names, number)
            else:
                inside = names
            lines.setdefault(inside, number)
            continue
        key = _KEY.match(line)
        if key:
            place = (*inside, *(part.strip().strip("\"'") for part in key[1].split(".")))
            lines.setdefault(place, number)
    return lines
