"""Makes, for every rule, RULE/fires.pcap and RULE/quiet.pcap: the same situation with the fault and without it.

Platform, certificates, conversations and packets are those of captures/sample (``_diego.py``). ``quiet`` is as close to ``fires`` as can be: one
thing differs. Run it from any folder: ``python captures/rules/make.py [RULE...]``. It needs scapy and cryptography, no network and no rights.

Keys live as long as the process, so certificates differ from run to run; RULE/ca.crt, where there is one, is what to give with ``--ca``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sample"))

import _diego as diego
from _diego import (
    AUTHORITY,
    BLOBS,
    BRAIN0,
    CC0,
    CELL0,
    CELL1,
    DB0,
    FAKE_TOKEN,
    MYSQL,
    NATS0,
    UAA,
    VMS,
    MySql,
    Ssh,
    Tls,
    Vm,
    Wire,
    cell_name,
    http,
    nats_info,
    nats_session,
)
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

diego.INTERNAL_SUITES += ":@SECLEVEL=0"  # a weak certificate has to be accepted once

HERE = Path(__file__).resolve().parent
Scene = Callable[[Wire], None]
BBS, API, UAA_NAME = (f"{host}.service.cf.internal" for host in ("bbs", "cloud-controller-ng", "uaa"))
STRANGER, WEBSITE = Vm("stranger", "10.0.5.200", "z2"), Vm("www", "203.0.113.50")
LIST = http("POST", "/v1/cells/list.r1", BBS, answer=b"\x0a\x24cell" * 12)
SIGNED = "/read/cc-droplets/sh/op/shop?md5=bm8tc2lnbmF0dXJl&expires=1763290800"

INVENTORY = """\
# The VMs of the captures of rules. Made by make.py.
schema: auditor.inventory/1
title: a small foundation in two zones
networks: [10.0.4.0/24, 10.0.5.0/24]
vms:
"""


def tls(wire: Wire, a: Vm, b: Vm, port: int, talk: list[diego.Chunk], server: str, client: str | None = None, *, at: float = 1.0, ends: str = "fin", skip: int = 0, **more: Any) -> None:  # fmt: skip
    """One connection with this talk inside TLS."""
    made = Tls(server, client, **more)
    made.say(*talk)
    wire.tcp(at, a, b, port, made.chunks if ends == "open" else made.close(), ends=ends, skip=skip)


def to_bbs(wire: Wire, client: str | None = "diego_bbs_client", *, version: str = "1.2", **more: Any) -> None:
    """A cell at the BBS, mutual TLS unless told otherwise."""
    tls(wire, CELL0, DB0, 8889, LIST, more.pop("server", "diego_bbs_server"), client, version=version, sni=BBS, **more)


def peers(wire: Wire, client: str) -> None:
    """A cell at the BBS beside others of the platform, whose certificates have the names that cf-deployment gives them."""
    to_rep = http("GET", "/state", cell_name(CELL0), answer=b"{}" * 80)
    tls(wire, CELL1, DB0, 8889, LIST, "diego_bbs_server", "diego_rep_agent_v2", sni=BBS, at=1.0, version="1.2")
    tls(wire, CELL1, DB0, 8889, LIST, "diego_bbs_server", "diego_bbs_client", sni=BBS, at=2.0, version="1.2")
    tls(wire, BRAIN0, CELL0, 1801, to_rep, "diego_rep_agent_v2", "diego_rep_client", sni=cell_name(CELL0), at=3.0, version="1.2")  # fmt: skip
    to_bbs(wire, client, at=4.0)


def attempts(wire: Wire, count: int) -> None:
    """A cell tries so many ports of a database VM."""
    for port in range(9_100, 9_100 + count):
        wire.tcp(1.0 + (port - 9_100) * 0.3, CELL0, DB0, port, ends="refused")


def twice(wire: Wire, *, up: bool) -> None:
    """A cell tries the BBS twice: it answers, or is down."""
    for at in (1.0, 5.0):
        if up:
            to_bbs(wire, at=at)
        else:
            wire.tcp(at, CELL0, DB0, 8889, ends="refused")


def without(wire: Wire, scene: Scene, *which: int) -> None:
    """A scene of which the capture misses some frames, counted from 0."""
    scene(wire)
    wire.frames = [frame for number, frame in enumerate(wire.frames) if number not in which]


def plain(wire: Wire, *, served: bool) -> None:
    """HTTP on a port of mutual TLS."""
    talk = http("GET", "/internal/v4/droplets/shop/sha1/download", API, answer=b"droplet" * 30)
    if not served:
        talk[1] = ("s", b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
    wire.tcp(1.0, CELL0, CC0, 9023, talk, ends="fin" if served else "server_fin")


def sql(wire: Wire, *, plugin: bytes = b"mysql_native_password", empty: bool = False) -> None:
    """The BBS logs in to MySQL."""
    made = MySql(wire.rng)
    login = made.login(b"diego", b"diego", plugin=plugin, empty=empty)
    wire.tcp(1.0, DB0, MYSQL, 3306, [made.greeting(plugin=plugin), login, made.accepted(), *made.query(b"SELECT 1")])


def decoy(wire: Wire, *, differs: bool) -> None:
    """The BBS logs in to MySQL without a password; before that, somebody sends a login at the same sequence number, which differs or not."""
    sql(wire, empty=True)
    at, interface, frame = next(
        each for each in wire.frames if b"diego\0diego\0" in each[2] or b"diego\0\0diego" in each[2]
    )
    forged = Ether(frame)
    if differs:
        forged[Raw].load = MySql(wire.rng).login(b"diego", b"diego")[1]
    forged[IP].id += 7
    del forged[IP].chksum, forged[IP].len, forged[TCP].chksum
    wire.frames.append((at - 20_000, interface, bytes(forged)))


def nats(wire: Wire, *, right: bool) -> None:
    """A route emitter at NATS, with the right password or a wrong one."""
    talk = [nats_info(NATS0, 4222), *nats_session()]
    if not right:
        talk = [*talk[:2], ("s", b"-ERR 'Authorization Violation'\r\n")]
    wire.tcp(1.0, CELL0, NATS0, 4222, talk, ends="fin" if right else "server_fin")


def downgrade(wire: Wire, *, tried: bool) -> None:
    """The SSH proxy goes into an instance without TLS, after it tried with it or at once."""
    if tried:
        hello = Tls("app", "ssh_proxy_backends_tls", sni=CELL0.guid, ca="instanceIdentityCA", client_ca="internalCA")
        wire.tcp(1.0, BRAIN0, CELL0, 61_030, hello.chunks[:1], ends="reset")
    wire.tcp(2.0, BRAIN0, CELL0, 61_030, Ssh(wire.rng).session())


def blobs(wire: Wire, *, clear: bool) -> None:
    """A cell fetches a droplet with a signed URL."""
    talk = http("GET", SIGNED, "blobstore", answer=b"blob" * 90)
    if clear:
        wire.tcp(1.0, CELL0, BLOBS, 8080, talk)
    else:
        tls(wire, CELL0, BLOBS, 4443, talk, "blobstore_tls", ask="no", sni="blobstore.service.cf.internal")


def uaa(wire: Wire, vm: Vm, port: int) -> None:
    """Somebody calls UAA."""
    tls(wire, vm, UAA, port, http("GET", "/info", UAA_NAME), "uaa_ssl", ask="no", sni=UAA_NAME, ca="uaaCA")


def egress(wire: Wire, vm: Vm = CELL0) -> None:
    """A VM calls a site outside: of a cell's, an application."""
    tls(wire, vm, WEBSITE, 443, http("GET", "/", "www.example.net"), "website", ask="no", sni="www.example.net", ca="Example Public CA")  # fmt: skip


def ssh(wire: Wire, port: int) -> None:
    """SSH from a brain to a cell."""
    wire.tcp(1.0, BRAIN0, CELL0, port, Ssh(wire.rng).session())


def rep(wire: Wire, *, ask: str) -> None:
    """The auctioneer at a rep that asks for a certificate, or does not."""
    talk = [
        *http("GET", "/state", cell_name(CELL0), answer=b"{}" * 80),
        *http("POST", "/work", cell_name(CELL0), b"[]"),
    ]
    tls(wire, BRAIN0, CELL0, 1801, talk, "diego_rep_agent_v2", "diego_rep_client", ask=ask, sni=cell_name(CELL0))


def files(wire: Wire, server: str) -> None:
    """A cell fetches a lifecycle from the file server."""
    talk = http("GET", "/v1/static/lifecycle.tgz", "file-server", answer=b"asset" * 60)
    tls(wire, CELL0, BRAIN0, 8447, talk, server, ask="no", version="1.2", sni="file-server.service.cf.internal")


def special(name: str, **issue: Any) -> str:
    """The name of a certificate that the platform does not have."""
    issued = AUTHORITY.issue(**issue)
    known = diego.certificate

    def certificate(wanted: str) -> diego.Issued:
        return issued if wanted == name else known(wanted)

    diego.certificate = certificate
    return name


SHORT = special("short_key", cn="rep-agent-short", sans=["cell.service.cf.internal"], bits=1024)
FOREIGN = special("foreign", cn="bbs-client", sans=["bbs-client"], ca="somebody's CA")


def borrowed(wire: Wire, *, by: Vm) -> None:
    """A cell at the BBS, and somebody else there with the same certificate and its key."""
    for at, vm in ((1.0, CELL0), (3.0, by)):
        tls(wire, vm, DB0, 8889, LIST, "diego_bbs_server", "diego_bbs_client", version="1.2", sni=BBS, at=at)


RULES: dict[str, tuple[Scene, Scene]] = {
    "undeclared-connection": (partial(uaa, vm=CELL0, port=8443), partial(uaa, vm=BRAIN0, port=443)),
    "undeclared-port": (
        lambda wire: wire.tcp(
            1.0, CELL0, CC0, 9022, http("GET", "/v2/info", API, b"", f"Authorization: bearer {FAKE_TOKEN}")
        ),
        lambda wire: tls(
            wire, CELL0, CC0, 9023, http("GET", "/internal/v4/droplets", API), "cc_tls", "diego_rep_agent_v2", sni=API
        ),
    ),
    "ssh-port-out-of-range": (partial(ssh, port=2222), partial(ssh, port=61_010)),
    "unknown-host": (
        lambda wire: wire.tcp(1.0, STRANGER, NATS0, 4222, [nats_info(NATS0, 4222), *nats_session()]),
        partial(nats, right=True),
    ),
    "cell-egress": (egress, partial(uaa, vm=CELL0, port=8443)),
    "undeclared-attempt": (
        lambda wire: wire.tcp(1.0, BRAIN0, MYSQL, 3306, ends="refused"),
        lambda wire: wire.tcp(1.0, DB0, MYSQL, 3306, ends="refused"),
    ),
    "port-sweep": (partial(attempts, count=12), partial(attempts, count=4)),
    "wrong-application": (
        lambda wire: wire.tcp(1.0, CELL0, BRAIN0, 9091, Ssh(wire.rng).session()),
        lambda wire: tls(
            wire,
            CELL0,
            BRAIN0,
            9091,
            http("POST", "/v1/droplet/shop", "cc-uploader", b"droplet" * 40),
            "cc_uploader_server",
            "diego_rep_agent_v2",
        ),
    ),
    "plaintext": (partial(plain, served=True), partial(plain, served=False)),
    "missing-client-certificate": (partial(rep, ask="no"), partial(rep, ask="required")),
    "weak-tls": (partial(to_bbs, version="1.1"), partial(to_bbs, version="1.2")),
    "certificate-expired": (partial(files, server="file_server_expired"), partial(files, server="file_server")),
    "certificate-identity": (partial(peers, client="cc_bridge_tps"), partial(peers, client="diego_rep_agent_v2")),
    "certificate-untrusted": (partial(to_bbs, client=FOREIGN, client_ca="somebody's CA"), to_bbs),
    "weak-certificate": (partial(to_bbs, client=SHORT), partial(to_bbs, client="diego_rep_agent_v2")),
    "missing-credentials": (partial(sql, empty=True), sql),
    "wrong-authentication-method": (partial(sql, plugin=b"mysql_clear_password"), sql),
    "authentication-downgrade": (partial(downgrade, tried=True), partial(downgrade, tried=False)),
    "cleartext-credentials": (partial(blobs, clear=True), partial(blobs, clear=False)),
    "authentication-rejected": (partial(nats, right=False), partial(nats, right=True)),
    "unverifiable-authentication": (partial(to_bbs, client=None, ask="optional"), partial(to_bbs, ask="optional")),
    "capture-incomplete": (lambda wire: without(wire, to_bbs, 5, 6), to_bbs),
    "control-plane-egress": (partial(egress, vm=DB0), egress),
    "conflicting-content": (partial(decoy, differs=True), partial(decoy, differs=False)),
    "stolen-credential": (partial(borrowed, by=STRANGER), partial(borrowed, by=CELL1)),
    "documented-path-failing": (partial(twice, up=False), partial(twice, up=True)),
}
"""Rule -> the scene in which it fires, and the one in which it does not."""


def main() -> None:
    """Write the files of the rules that are named, or of all."""
    for number, (rule, scenes) in enumerate(RULES.items()):
        if sys.argv[1:] and rule not in sys.argv[1:]:
            continue
        folder = HERE / rule
        folder.mkdir(exist_ok=True)
        for name, scene in zip(("fires", "quiet"), scenes, strict=True):
            wire = Wire(seed=20_261_200 + number)
            scene(wire)
            wire.write_pcap(folder / f"{name}.pcap")
            print(f"{rule}/{name}.pcap: {len(wire.frames)} frames, {diego.size_of(folder / f'{name}.pcap')}")
        if rule == "certificate-untrusted":
            (folder / "ca.crt").write_text(AUTHORITY.root_pem("internalCA"))
    vms = "".join(f"  - {{name: {vm.name}, ips: [{vm.ip}]}}\n" for vm in VMS)
    (HERE / "inventory.yml").write_text(INVENTORY + vms)


if __name__ == "__main__":
    main()
