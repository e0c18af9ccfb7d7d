"""``auditor doctor``: what is installed on this machine, what is missing, and the consequences."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from typing import Annotated

import typer

from auditor import __version__
from auditor.capture import live
from auditor.cli import _machine as machine
from auditor.kernels.accelerate import FEW_PACKETS
from auditor.model.limits import described
from auditor.report._text import escape

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

NEEDED = ("numpy", "pandas", "pyarrow", "numba", "cryptography", "pydantic", "yaml", "msgspec", "rich")
CODECS = {"gzip": "isal", "zstd": "zstandard", "xz": "lzma", "lz4": "lz4"}


def _lines() -> Iterator[tuple[bool | None, str, str]]:
    """Whether it is installed (None: it does not matter), its name, and its version or the consequence."""
    yield True, "auditor", __version__
    yield True, "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield True, "processors", str(cpus)
    missing = [name for name in NEEDED if not machine.has_module(name)]
    yield (
        not missing,
        "libraries",
        f"missing: {', '.join(missing)}; install the package again" if missing else "complete",
    )
    cache = machine.kernel_cache()
    often = "once" if cache.keeps else "on every run, because this folder is not writable; set NUMBA_CACHE_DIR"
    says = (
        "ready"
        if cache.warm
        else f"not compiled yet: a run of more than {FEW_PACKETS:,} packets compiles first, a minute or two, {often}"
    )
    yield cache.warm, "compiled kernels", f"{says} ({cache.folder})"
    absent = [name for name, module in CODECS.items() if not machine.has_module(module)]
    yield (
        not absent,
        "compressions",
        f"missing: {', '.join(absent)}; such captures cannot be read" if absent else ", ".join(CODECS),
    )
    remote = machine.has_module("fsspec")
    yield (
        remote or None,
        "remote captures",
        "fsspec" if remote else "no fsspec: captures by URL cannot be read (pip install 'diego-flow-auditor[remote]')",
    )
    cluster = machine.has_module("distributed")
    yield (
        cluster or None,
        "cluster",
        "dask" if cluster else "no dask: --scheduler cannot be used (pip install 'diego-flow-auditor[cluster]')",
    )
    tshark = machine.tool("tshark")
    yield (
        bool(tshark) or None,
        "tshark",
        f"{tshark[1]} ({tshark[0]})" if tshark else "missing: needed by auditor dissect and --keylog only",
    )
    for name in ("dumpcap", "tcpdump"):
        found = machine.tool(name)
        yield (
            bool(found) or None,
            name,
            f"{found[1]} ({found[0]})" if found else "missing: needed for auditor live only",
        )
    scapy = machine.has_module("scapy")
    yield (
        scapy or None,
        "scapy",
        "auditor live uses it where neither dumpcap nor tcpdump can be used"
        if scapy
        else "missing: auditor live then needs dumpcap or tcpdump; nothing else needs it",
    )
    tools = live.capture_tools()
    says = ", else ".join(f"{tool.name} (about {live.BEARS[tool.name]:,} packets/s without loss)" for tool in tools)
    yield (
        bool(tools) or None,
        "capture rights",
        f"{tools[0].why}; auditor live uses {says}"
        if tools
        else f"none: {live.RIGHTS_HINT}; audits of files do not need them",
    )
    away = [name for name in ("ssh", "bosh") if shutil.which(name)]
    yield (
        bool(away) or None,
        "captures on VMs",
        f"through {' and '.join(away)}"
        if away
        else "neither ssh nor bosh is installed: auditor live can capture on this machine only",
    )


@app.command()
def doctor(
    compile_kernels: Annotated[
        bool,
        typer.Option("--compile", help="Compile the kernels now: for an image, or a folder that will be read-only."),
    ] = False,
) -> None:
    """Show what is installed on this machine, what is missing, and the consequences."""
    if compile_kernels:
        from auditor.jobs.compiling import compile_now

        for line in compile_now(_samples()):
            print(escape(line), flush=True)
        return
    for there, what, says in _lines():
        mark = {True: "ok", False: "!!", None: "--"}[there]
        print(escape(f"{mark}  {what:17} {says}"))
    print("\nlimits (--limit NAME=VALUE; a report says which one was reached)")
    for name, value, says in described():
        print(f"    {name:21} {value:>8}  {says}")


def in_background() -> None:
    """Compile for who comes back, unless another process does."""
    from auditor.jobs.compiling import compile_now

    os.nice(19)
    for _ in compile_now(_samples(), wait=False):
        continue


def _samples() -> list[str]:
    from auditor.api import sample

    return [str(path) for name in machine.sample_names() for path in sample(name)[0]]
