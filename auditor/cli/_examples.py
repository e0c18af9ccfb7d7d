"""Examples of every command, for its help and for the man page: (command, what it is for)."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("auditor audit sample:lab", "a first look, with a sample recording"),
        ("auditor audit cell.pcap brain.pcapng --inventory vms.json", "your own captures"),
    ),
    "audit": (
        ("auditor audit cell.pcap brain.pcapng --inventory vms.json", "one audit, for people"),
        ("auditor audit captures/ --inventory vms.json -f html -o audit.html", "one page to read and to share"),
        ("auditor audit cell.pcap --store history --new-only", "only what is new since the last audit"),
    ),
    "run": (
        ("auditor run auditor.toml --check", "read the configuration and what it names"),
        ("auditor run auditor.toml", "one pass, for a timer"),
        ("auditor run auditor.toml --watch", "keep running, and react to new files"),
    ),
    "history": (
        ("auditor history list --store history", "all audits of a store"),
        ("auditor history diff --store history", "what changed between the last two"),
    ),
    "history check": (
        ("auditor history check --store history", "check every file"),
        ("auditor history repair --store history", "what to do where one is damaged"),
    ),
    "history repair": (
        ("auditor history repair --store history", "repair it; damaged files are moved aside"),
        ("auditor history check --store history", "look first, and change nothing"),
    ),
    "history list": (
        ("auditor history list --store history --last 10", "the last ten"),
        ("auditor history list --store history --since 7d -f csv", "those of the last week, for a script"),
    ),
    "history show": (
        ("auditor history show --store history", "show the last report again"),
        ("auditor history show 12 --store history --verdict violated", "connections of audit 12"),
    ),
    "history diff": (
        ("auditor history diff --store history", "the last audit against the one before"),
        ("auditor history diff 12 20 --store history -f json", "two chosen audits, for a script"),
    ),
    "history query": (
        ("auditor history query --store history --rule unknown-host", "search the connections of all audits"),
        ("auditor history query 'select count(*) from findings' --store history", "any SQL"),
    ),
    "review": (
        ("auditor review --store history", "open it in the browser"),
        ("auditor review --store history --waivers waivers.yml", "waivers can be added there"),
    ),
    "live": (
        ("auditor live eth0 --duration 5m", "this machine, for five minutes"),
        ("auditor live --from ssh://cell/eth0 --from ssh://brain/eth0", "two VMs at once"),
        ("auditor live eth0 --window 1h -o reports/ -f html", "a report for every hour"),
    ),
    "agent": (
        ("auditor agent --make-certificates certs --for collector --for diego_cell-0", "once: a CA and certificates"),
        ("auditor agent agent.toml --check", "read the configuration and what it names"),
        ("auditor agent agent.toml", "capture and deliver until it is stopped"),
    ),
    "collect": (
        ("auditor collect collector.toml --check", "read the configuration and what it names"),
        ("auditor collect collector.toml", "take and judge until it is stopped"),
    ),
    "connections": (
        ("auditor connections cell.pcap", "who talks to whom"),
        ("auditor connections cell.pcap --to-port 8889 -f csv -o bbs.csv", "part of it, as a table"),
    ),
    "encryption": (
        ("auditor encryption cell.pcap --inventory vms.json", "by path and by VM"),
        ("auditor encryption captures/ --inventory vms.json -f html -o clear.html", "a page to share"),
    ),
    "dissect": (
        ("auditor dissect cell.pcap --connection 3f2a9c", "the protocol tree of one connection"),
        ("auditor dissect cell.pcap --compare", "compare our fields with tshark's"),
    ),
    "slice": (
        ("auditor slice cell.pcap --finding F-3dca8798d5 -w proof.pcapng", "the packets of a finding"),
        ("auditor slice --store history --connection 3f2a9c -w one.pcapng", "the packets of a stored connection"),
        ("auditor slice cell.pcap --finding F-3dca8798d5 --bundle -w proof.zip", "with everything needed to judge it again"),
    ),
    "explain": (
        ("auditor explain missing-client-certificate", "a rule"),
        ("auditor explain ssh-proxy-to-app", "a documented path"),
        ("auditor explain F-3dca8798d5 cell.pcap --inventory vms.json", "a finding"),
    ),
    "policy": (
        ("auditor policy list", "the policies that are included"),
        ("auditor policy show tas-diego", "the documented table"),
    ),
    "policy list": (
        ("auditor policy list", "names, versions, what each is about"),
        ("auditor policy show bosh-dns", "the paths of one of them"),
    ),
    "policy show": (
        ("auditor policy show tas-diego", "all its paths"),
        ("auditor policy show tas --path auctioneer-to-rep", "one path, with conditions and source"),
    ),
    "policy check": (
        ("auditor policy check ours.yml", "every mistake, with file and line"),
        ("auditor policy check --asg asg.json --inventory vms.json", "which security groups reach the control plane"),
    ),
    "policy coverage": (
        ("auditor policy coverage cell.pcap --inventory vms.json", "which paths were seen"),
        ("auditor policy coverage captures/ --inventory vms.json -f csv", "the same, for a script"),
    ),
    "policy suggest": (
        ("auditor policy suggest cell.pcap --inventory vms.json -o ours.yml", "write a draft to review"),
        ("auditor audit cell.pcap --policy tas --policy ours.yml", "use the result in an audit"),
    ),
    "policy certificates": (
        ("auditor policy certificates om.json credhub.json -o certs.yml", "from Ops Manager and CredHub"),
        ("auditor audit cell.pcap --policy tas --policy certs.yml", "use the result in an audit"),
    ),
    "policy diff": (
        ("auditor policy diff tas-diego ours.yml", "what ours adds, removes and changes"),
        ("auditor policy diff tas-diego tas", "what the sibling pages add"),
    ),
    "policy export": (
        ("auditor policy export tas-diego --format csv", "the table, for another tool"),
        ("auditor policy export --to nftables --inventory vms.json", "the declared paths as a firewall's rules"),
    ),
    "policy filter": (
        ('tcpdump -i eth0 -w cell.pcap "$(auditor policy filter -q)"', "capture just what the rules need"),
        ("auditor policy filter --bosh-pcap -d cf -i eth0", "the same with bosh pcap"),
    ),
    "inventory": (
        ("auditor inventory show vms.json", "list addresses, names and roles"),
        ("auditor inventory infer cell.pcap -o draft.yml", "a draft from captures"),
    ),
    "inventory show": (
        ("auditor inventory show vms.json extra.yml", "addresses, names, roles"),
        ("auditor inventory show cf=vms.json", "of a deployment, by its name"),
    ),
    "inventory check": (
        ("auditor inventory check cf=vms.json", "valid, known and without conflict?"),
        ("auditor inventory check vms.json --policy tas --policy ours.yml", "with roles of your own"),
    ),
    "inventory import": (
        ("auditor inventory import vms.json -o who.yml", "one file to keep and to correct"),
        ("auditor inventory import cf=vms.json records.json", "several in one, on standard output"),
    ),
    "inventory infer": (
        ("auditor inventory infer cell.pcap -o draft.yml", "a draft, with reasons as comments"),
        ("auditor inventory infer sample:lab", "a first look, with a sample recording"),
    ),
    "doctor": (("auditor doctor", "tools, rights, caches, limits"),),
}  # fmt: skip
