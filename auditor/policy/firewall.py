"""Declared paths as rule sets: ``auditor policy export --to nftables|iptables|ip6tables|asg|aws|csv``.

The theory: everything that answers an allowed packet passes (the firewall follows connections), everything declared passes, the rest is logged
and dropped. Rule sets name the path of each rule, so that a hit leads back to the page. They load whole or not at all, and again: a rule set
replaces the one that was made before it.
"""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from auditor.errors import ConfigError
from auditor.policy.addresses import METADATA, Network, span, to_text
from auditor.policy.allowed import APPS, MANAGERS, Allow, Group, allowed
from auditor.policy.classify import OUTSIDE
from auditor.policy.inventory import Host, Inventory, Span
from auditor.policy.policy import Policy, ports_text
from auditor.wire.markup import spreadsheet
from auditor.wire.text import escape

LOG_PREFIX = "auditor undeclared: "
FOR_APPS = frozenset({"dns_resolver", "service_instance"})
"""What applications are to reach wherever it is, on the ports that are declared for all."""

_MULTIPORT = 15
"""So many ports does iptables take in one rule; a range counts for two."""
_CHAIN = "DIEGO"
_AWS_TEXT = re.compile(r"[^a-zA-Z0-9. _:/()#,@\[\]+=&;{}!$*-]")
_AWS_CHARS = 255


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written."""

    policy: Policy
    inventory: Inventory
    allows: tuple[Allow, ...]
    vm: str | None = None
    """For this VM alone, by instance or address."""
    mine: tuple[Span, ...] = ()
    """Its addresses."""

    @property
    def names(self) -> str:
        """Of the policies."""
        return ", ".join(source["name"] for source in self.policy.sources)


def lacks(inventory: Inventory, to: str) -> tuple[str, ...]:
    """What the inventory does not name, and a rule set of this kind would leave open."""
    named = {role for entry in inventory.entries for role in (*entry.roles, entry.group)}
    missing = [role for role in MANAGERS if role not in named]
    if to != "asg" or not missing:
        return ()
    return (
        f"the inventory has no {', '.join(missing)}: applications may reach them like any address outside the platform's networks; "
        "list them in the inventory under externals",
    )


def export(policy: Policy, inventory: Inventory, to: str, vm: str | None = None) -> str:
    """A rule set. ``vm``: that of one machine, in and out, instead of what a router between them passes. Raises ConfigError."""
    if to not in TARGETS:
        raise ConfigError("--to", f"unknown rule set {to!r}", hint=f"one of {', '.join(TARGETS)}")
    allows = tuple(allowed(policy, inventory))
    if not allows:
        raise ConfigError(
            "--inventory",
            "no declared path has both ends in the inventory",
            hint="auditor inventory show lists the roles",
        )
    wanted = Wanted(policy, inventory, allows)
    if vm is not None:
        if to not in ("nftables", "iptables", "ip6tables", "csv"):
            raise ConfigError("--vm", f"{to} is for groups, not for one machine", hint="leave --vm out")
        wanted = _of_one(wanted, vm)
    return TARGETS[to](wanted)


def _of_one(wanted: Wanted, vm: str) -> Wanted:
    mine = tuple(
        one for one, host in wanted.inventory.standing() if vm == host.instance or (one[0] == one[1] and vm == to_text(one[0]))
    )  # fmt: skip
    if not mine:
        raise ConfigError("--vm", f"the inventory has no {vm!r}", hint="auditor inventory show lists the VMs")
    allows = tuple(each for each in wanted.allows if _has(each.originators, mine) or _has(each.responders, mine))
    return replace(wanted, vm=vm, mine=mine, allows=allows)


def _has(group: Group, spans: Sequence[Span]) -> bool:
    return any(one in spans for one, _ in group.hosts)


def _made_by(wanted: Wanted) -> list[str]:
    whose = (
        f"of {escape(wanted.vm)}, in and out" if wanted.vm else "for a router that forwards all traffic between the VMs"
    )
    return [
        f"Rule set {whose}. Made by auditor policy export from {wanted.names} and the inventory.",
        "Traffic that is not declared is logged and dropped. The comment of a rule names the path: auditor explain PATH.",
    ]


# nftables --------------------------------------------------------------------------------------------------------------


def _nftables(wanted: Wanted) -> str:
    groups = {group.name: group for each in wanted.allows for group in (each.originators, each.responders)}
    out = ["#!/usr/sbin/nft -f", *(f"# {line}" for line in _made_by(wanted))]
    # The first line makes sure that there is something to delete.
    out += ["table inet diego", "delete table inet diego", "table inet diego {"]
    for name in sorted(groups):
        for version in (4, 6):
            networks = groups[name].networks(version)
            if networks:
                elements = ", ".join(map(_short, networks))
                out.append(f"\tset {name}_{version} {{")
                out.append(f"\t\ttype ipv{version}_addr; flags interval; elements = {{ {elements} }}")
                out.append("\t}")
    if wanted.vm is None:
        out += _nft_chain("forward", [line for each in wanted.allows for line in _nft_rules(each)])
    else:
        for hook, incoming in (("input", True), ("output", False)):
            mine = [
                each for each in wanted.allows if _has(each.responders if incoming else each.originators, wanted.mine)
            ]
            out += _nft_chain(hook, [line for each in mine for line in _nft_rules(each)])
    return "\n".join([*out, "}"]) + "\n"


def _nft_chain(hook: str, rules: Iterable[str]) -> list[str]:
    inside = "iifname" if hook == "input" else "oifname"
    own = [] if hook == "forward" else [
        f'{inside} "lo" accept',
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept",
    ]  # fmt: skip
    lines = [
        f"type filter hook {hook} priority filter; policy drop;",
        "ct state established,related accept",
        *own,
        *dict.fromkeys(rules),
        f'limit rate 10/second burst 50 packets counter log prefix "{LOG_PREFIX}"',
        "counter drop",
    ]
    return [f"\tchain {hook} {{", *(f"\t\t{line}" for line in lines), "\t}"]


def _nft_rules(allow: Allow) -> Iterable[str]:
    for version, family in ((4, "ip"), (6, "ip6")):
        if not (allow.originators.networks(version) and allow.responders.networks(version)):
            continue
        if allow.transport in ("icmp", "icmp6"):
            if (allow.transport == "icmp") is not (version == 4):
                continue
            what = f"meta l4proto {'icmp' if version == 4 else 'ipv6-icmp'}"
        else:
            ports = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in allow.ports)
            what = f"{allow.transport} dport {{ {ports} }}"
        ends = f"{family} saddr @{allow.originators.name}_{version} {family} daddr @{allow.responders.name}_{version}"
        yield f'{ends} {what} counter accept comment "{allow.path.id}"'


def _short(network: Network) -> str:
    return str(network.network_address) if network.num_addresses == 1 else str(network)


# iptables --------------------------------------------------------------------------------------------------------------


def _iptables(version: int) -> Callable[[Wanted], str]:
    def write(wanted: Wanted) -> str:
        out = [f"# {line}" for line in _made_by(wanted)]
        out.append(f"# IPv{version} only; load with {'iptables' if version == 4 else 'ip6tables'}-restore --noflush.")
        hooks = [("FORWARD", None)] if wanted.vm is None else [("INPUT", True), ("OUTPUT", False)]
        chains: dict[str, list[str]] = {}
        for hook, incoming in hooks:
            name = _CHAIN if incoming is None else f"{_CHAIN}-{hook}"
            chains[name] = _ipt_chain(wanted, version, incoming, chains)
        out += ["*filter", *(f":{name} - [0:0]" for name in chains)]
        for name, lines in chains.items():
            out += [f"-A {name} {line}" for line in lines]
        # A jump that is loaded twice exists twice: so it is not part of the rule set.
        out.append("COMMIT")
        for hook, incoming in hooks:
            name = _CHAIN if incoming is None else f"{_CHAIN}-{hook}"
            command = "iptables" if version == 4 else "ip6tables"
            out.append(f"# then: {command} -C {hook} -j {name} 2>/dev/null || {command} -I {hook} -j {name}")
        return "\n".join(out) + "\n"

    return write


def _ipt_chain(wanted: Wanted, version: int, incoming: bool | None, chains: dict[str, list[str]]) -> list[str]:
    out = ["-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"]
    if incoming is not None:
        out.append(f"{'-i' if incoming else '-o'} lo -j ACCEPT")
        if version == 6:
            out += [f"-p ipv6-icmp --icmpv6-type {kind} -j ACCEPT" for kind in (133, 134, 135, 136)]
    for allow in wanted.allows:
        if incoming is not None and not _has(allow.responders if incoming else allow.originators, wanted.mine):
            continue
        sources, targets = allow.originators.networks(version), allow.responders.networks(version)
        if not (sources and targets) or (allow.transport in ("icmp", "icmp6") and (allow.transport == "icmp") is not (version == 4)):  # fmt: skip
            continue
        # Sources in a chain of their own: as many rules as both ends have addresses, not as many as there are pairs.
        name = f"{_CHAIN}-{len(chains) + 1:03d}"
        chains[name] = [f'-s {source} -m comment --comment "{allow.path.id}" -j ACCEPT' for source in sources]
        for what in _ipt_what(allow, version):
            out += [f"-d {target} {what} -j {name}" for target in targets]
    out.append(f'-m limit --limit 10/second --limit-burst 50 -j LOG --log-prefix "{LOG_PREFIX}"')
    return [*out, "-j DROP"]


def _ipt_what(allow: Allow, version: int) -> Iterable[str]:
    if not allow.ports:
        yield f"-p {'icmp' if version == 4 else 'ipv6-icmp'}"
        return
    texts = [str(low) if low == high else f"{low}:{high}" for low, high in allow.ports]
    part: list[str] = []
    for text in [*texts, ""]:
        if part and (not text or sum(1 + (":" in each) for each in [*part, text]) > _MULTIPORT):
            yield f"-p {allow.transport} -m multiport --dports {','.join(part)}"
            part = []
        part.append(text)


# Cloud Foundry ---------------------------------------------------------------------------------------------------------


def _asg(wanted: Wanted) -> str:
    """An application security group: everything outside the platform's networks, and inside what is declared for applications."""
    rules: list[dict[str, Any]] = []
    closed = _closed(wanted.inventory)
    for version in (4, 6):
        if version == 6 and all(first >> 32 == 0xFFFF for each in wanted.inventory.entries for first, _ in each.spans):
            continue
        rules += [
            {"protocol": "all", "destination": text, "description": "outside the platform"}
            for text in _complement(closed, version)
        ]
    for allow in wanted.allows:
        component = allow.path.orig_slug == APPS
        outside = all(set(host.roles) <= FOR_APPS for _, host in allow.responders.hosts)
        cells = any(role in ("diego_cell", "app_container", "any") for role in allow.path.orig_roles)
        if not cells or not (component or outside) or allow.transport not in ("tcp", "udp"):
            continue
        for version in (4, 6):
            rules += [
                {
                    "protocol": allow.transport,
                    "destination": _short(network),
                    "ports": ports_text(allow.ports).replace(" ", ""),
                    "description": f"{allow.responders.name}: {allow.path.id}",
                }
                for network in allow.responders.networks(version)
            ]
    unique = {json.dumps(rule): rule for rule in rules}
    return json.dumps(list(unique.values()), indent=2) + "\n"


def _closed(inventory: Inventory) -> list[Span]:
    """What applications do not reach but by a rule: platform networks, VMs, what a link or machine keeps to itself, metadata."""
    own = [ipaddress.ip_network(text) for text in ("127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8")]  # fmt: skip
    spans = [span(network) for network in own]
    spans += [(each, each) for each in METADATA]
    spans += list(inventory.platform_networks)
    spans += [one for one, host in inventory.standing() if not (host.external and set(host.roles) <= OUTSIDE)]
    return spans


def _complement(spans: Iterable[Span], version: int) -> Iterable[str]:
    """Ranges of addresses in none of these, as Cloud Foundry writes them."""
    first, last = (0xFFFF << 32, (0xFFFF << 32) | 0xFFFFFFFF) if version == 4 else (0, (1 << 128) - 1)
    mine = sorted(one for one in spans if first <= one[0] and one[1] <= last)
    if version == 6:
        mine = sorted([*mine, (0xFFFF << 32, (0xFFFF << 32) | 0xFFFFFFFF)])  # IPv4 in IPv6's clothes
    at = first
    for low, high in mine:
        if low > at:
            yield f"{to_text(at)}-{to_text(low - 1)}"
        at = max(at, high + 1)
    if at <= last:
        yield f"{to_text(at)}-{to_text(last)}"


# AWS -------------------------------------------------------------------------------------------------------------------


def _aws(wanted: Wanted) -> str:
    """Security groups, one for each group of VMs, in the form that ``aws ec2 describe-security-groups`` prints."""
    made: dict[str, dict[str, Any]] = {}
    for allow in wanted.allows:
        ends = {"IpPermissions": (allow.responders, allow.originators), "IpPermissionsEgress": (allow.originators, allow.responders)}  # fmt: skip
        for key, (mine, others) in ends.items():
            for name in sorted({_aws_name(host) for _, host in mine.hosts if not host.external}):
                group = made.setdefault(name, {"IpPermissions": {}, "IpPermissionsEgress": {}})
                for permission in _aws_permissions(allow, others):
                    _aws_add(group[key], permission)
    document = [
        {
            "GroupName": name,
            "Description": _aws_text(f"{name}: {wanted.names}"),
            **{key: list(permissions.values()) for key, permissions in sorted(group.items())},
        }
        for name, group in sorted(made.items())
    ]
    return json.dumps({"SecurityGroups": document}, indent=2) + "\n"


def _aws_name(host: Host) -> str:
    return _aws_text("diego-" + (host.group or "-".join(host.roles) or host.instance or "unnamed"))


def _aws_text(text: str) -> str:
    return _AWS_TEXT.sub("_", text)[:_AWS_CHARS]


def _aws_permissions(allow: Allow, others: Group) -> Iterable[dict[str, Any]]:
    pairs = [{"GroupName": name} for name in sorted({_aws_name(host) for _, host in others.hosts if not host.external})]
    outside = replace(others, hosts=tuple(each for each in others.hosts if each[1].external))
    v4 = [{"CidrIp": str(each)} for each in outside.networks(4)]
    v6 = [{"CidrIpv6": str(each)} for each in outside.networks(6)]
    words = {"icmp6": "icmpv6", "sctp": "132"}
    for low, high in allow.ports or ((-1, -1),):
        yield {
            "IpProtocol": words.get(allow.transport, allow.transport), "FromPort": low, "ToPort": high,
            **{key: [{**each, "Description": allow.path.id} for each in found]
               for key, found in (("UserIdGroupPairs", pairs), ("IpRanges", v4), ("Ipv6Ranges", v6)) if found},
        }  # fmt: skip


def _aws_add(permissions: dict[Any, dict[str, Any]], new: dict[str, Any]) -> None:
    """Add a permission to those of a group: one for a protocol and its ports, each peer once, with all paths in its description."""
    key = new["IpProtocol"], new["FromPort"], new["ToPort"]
    old = permissions.setdefault(key, {name: new[name] for name in ("IpProtocol", "FromPort", "ToPort")})
    for name in ("UserIdGroupPairs", "IpRanges", "Ipv6Ranges"):
        for peer in new.get(name, ()):
            known = old.setdefault(name, [])
            same = next((each for each in known if {**each, "Description": ""} == {**peer, "Description": ""}), None)
            if same is None:
                known.append(dict(peer))
            elif peer["Description"] not in same["Description"].split(" "):
                same["Description"] = _aws_text(f"{same['Description']} {peer['Description']}")


# CSV -------------------------------------------------------------------------------------------------------------------

CSV_COLUMNS = (
    "path", "row", "policy", "originator_role", "originator_component", "originators", "responder_role", "responder_component", "responders",
    "transport", "ports", "application", "authentication", "ambient",
)  # fmt: skip


def _csv(wanted: Wanted) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for allow in wanted.allows:
        path = allow.path
        writer.writerow(spreadsheet(str(cell)) for cell in [
            path.id, "" if path.row is None else path.row, path.policy, " ".join(path.orig_roles), path.orig_component or "",
            _csv_hosts(allow.originators), " ".join(path.resp_roles), path.resp_component or "", _csv_hosts(allow.responders), allow.transport,
            ports_text(allow.ports), path.application_text, path.authentication_text, "yes" if path.ambient else "no",
        ])  # fmt: skip
    return out.getvalue()


def _csv_hosts(group: Group) -> str:
    return " ".join(_short(network) for version in (4, 6) for network in group.networks(version))


TARGETS: dict[str, Callable[[Wanted], str]] = {
    "nftables": _nftables,
    "iptables": _iptables(4),
    "ip6tables": _iptables(6),
    "asg": _asg,
    "aws": _aws,
    "csv": _csv,
}
