"""Writes docs/paths.md, rows of the shipped policies that no page of the vendor has, each with its source: ``python docs/make_paths.py``."""

import re
from pathlib import Path

from auditor.policy import shipped
from auditor.policy.loader import load_policy
from auditor.policy.policy import PolicyPath

HERE = Path(__file__).resolve().parent
METADATA = "https://github.com/pivotal-cf/om/blob/2831175be870a436e6e12e491a726b0ff9d80a8e/configtemplate/generator/fixtures/metadata/pas_2_2.yml"
BLOB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)/blob/([0-9a-f]{40})/(.+)")

TOP = """\
# Rows that are not the vendor's

The 25 rows of `tas-diego` are the vendor's page, and most rows of the other shipped policies are its sibling pages'; they name page and row
(`auditor policy show --path ID`). This page lists the others: rows that no page has, and rows that are read differently from their page. It is
made from the policies (`make docs`).

"""
READ = """
## Rows that are read differently from their page

| row | of | read as | why |
| --- | --- | --- | --- |
"""
NOT_READ = """
## Where pages contradict each other

- **UAA, 443 or 8443.** The Diego page says that the SSH Proxy asks UAA on 443, its siblings say 8443 for all others. 443 is UAA's public port, behind a router
  or load balancer (`fronts: uaa` in an inventory); inside the platform UAA listens on 8443. Both are rows: `ssh-proxy-to-uaa`, `ssh-proxy-to-uaa-8443`.
- **NATS, 4222 or 4222-4225.** The NATS page says 4222-4225, its siblings 4222. A port of that range is on the NATS page's row.
- **The file server, 8447 or 8443.** TAS has 8447, cf-deployment 8443: `rep-to-file-server`, `rep-to-file-server-oss`.
- **diego_api and diego_database** are one group under two names.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _source(path: PolicyPath) -> str:
    found = BLOB.fullmatch(path.origin.url or "")
    where = f"[{found[1]}@{found[2][:10]}: {found[3]}]({path.origin.url})" if found else (path.origin.url or "")
    return _cell(f"{path.origin.title} {where}")


def _read_differently(path: PolicyPath) -> tuple[str, str] | None:
    if path.local:
        return "leads from a VM to itself alone", "the server listens on the loopback address"
    if any("PROXY protocol" in each.says for each in path.conditions):
        return "the PROXY protocol may come first", f"router_enable_proxy in the metadata of PAS 2.2.2, {METADATA}"
    return None


def text() -> str:
    """The page."""
    paths = load_policy([shipped.DEFAULT]).all_paths
    lines = ["| row | in | from | to | ports | application | authentication | source |", "| --- " * 8 + "|"]
    for path in paths:
        if path.row is None:
            cells = (
                f"`{path.id}`", path.policy, path.source, path.destination, f"{path.ports_text} {path.transport}".strip(), path.application_text,
                path.authentication_text, _source(path),
            )  # fmt: skip
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    differently = []
    for path in paths:
        told = _read_differently(path)
        if told is not None:
            differently.append(f"| `{path.id}` | {path.policy}, row {path.row} | {told[0]} | {told[1]} |")
    return TOP + "\n".join(lines) + "\n" + READ + "\n".join(differently) + "\n" + NOT_READ


if __name__ == "__main__":
    (HERE / "paths.md").write_text(text(), encoding="utf-8")
