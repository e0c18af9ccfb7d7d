"""Makes diego.pcapng, diego.truth.tsv, diego.inventory.yml and the authorities' certificates in diego.ca/.

The story: a Diego platform of 17 VMs in two zones, three minutes of a working day. Every documented path is used, most of them twice: over TLS 1.2 by the VMs
of one zone and over TLS 1.3 by the other's. Among that, some two dozen things that should not be, each of them one scenario below. The truth table is
written from this list as it is played, and knows nothing of the auditor.

Run it from any folder: ``python captures/sample/diego.pcapng.py``. It needs scapy and cryptography, no network and no rights.
"""

from pathlib import Path
from typing import Any

from _diego import (
    BALANCER,
    BLOBS,
    BRAIN0,
    BRAIN1,
    CC0,
    CC1,
    CELL0,
    CELL1,
    CELL2,
    DB0,
    DB1,
    DIRECTOR,
    DOPPLER,
    FAKE_TOKEN,
    MYSQL,
    NATS0,
    NATS1,
    RESOLVER,
    ROUTER0,
    ROUTER1,
    UAA,
    VMS,
    MySql,
    Ssh,
    Story,
    Tls,
    Vm,
    Wire,
    cell_name,
    dns_query,
    documented,
    h2,
    http,
    nats_info,
    nats_session,
    over_tls,
    size_of,
    write_authorities,
)

HERE = Path(__file__).resolve().parent
BBS, LOCKET, API, UAA_NAME = (f"{host}.service.cf.internal" for host in ("bbs", "locket", "cloud-controller-ng", "uaa"))

FORMER_CELL = Vm("diego_cell/3", "10.0.4.22")
OUTSIDER = Vm("outsider", "192.0.2.77")
STRANGER = Vm("stranger", "10.0.5.200", "z2")
WEBSITE, WEBSITE_TOO, ELSEWHERE = Vm("www", "203.0.113.50"), Vm("www", "203.0.113.51"), Vm("db", "198.51.100.20")

INVENTORY_HEAD = """\
# The VMs of the sample capture diego.pcapng. Made by diego.pcapng.py.
schema: auditor.inventory/1
title: a small foundation in two zones
networks: [10.0.4.0/24, 10.0.5.0/24]
vms:
"""
INVENTORY_TAIL = """\
  # Deleted the day before; whoever has its address now is nobody we know.
  - {name: diego_cell/3, ips: [10.0.4.22], until: "2026-11-15T00:00:00Z"}
externals:
  - {name: bosh_director/0, ips: [10.0.3.6], roles: [bosh_director]}
  - {name: dns_resolver/0, ips: [10.0.3.2], roles: [dns_resolver]}
  - {name: load_balancer/0, ips: [10.0.4.5], roles: [load_balancer], fronts: uaa}
"""


def resumed_sessions(story: Story) -> None:
    """BBS clients keep sessions: the second handshake shows no certificate."""
    for at, version, cell, database in ((40.0, "1.2", CELL0, DB0), (42.0, "1.3", CELL1, DB1)):
        tls: dict[str, Any] = {
            "server": "diego_bbs_server",
            "client": "diego_rep_agent_v2",
            "version": version,
            "sni": BBS,
        }
        talk = http("POST", "/v1/cells/list.r1", BBS, answer=b"\x0a\x24cell" * 12)
        first = over_tls(
            story,
            f"full-{version}",
            at,
            cell,
            database,
            8889,
            talk,
            tls,
            {"rows": "9,12"},
            f"Rep, full handshake, TLS {version}",
        )
        over_tls(story, f"resumed-{version}", at + 1, cell, database, 8889, talk, tls | {"session": first.session}, {"rows": "9,12"}, f"Rep resumes that session, TLS {version}")  # fmt: skip


def long_lived(story: Story) -> None:
    """Connections that were open before the capture, or never say a word."""
    wire = story.wire
    events = Tls("diego_bbs_server", "diego_bbs_client", sni=BBS)
    handshake = len(events.chunks)
    events.say(*http("GET", "/v1/events.r1", BBS), *[("s", b"event: actual_lrp_changed\r\n\r\n" * 3)] * 6)
    sport = wire.tcp(2.0, CELL2, DB1, 8889, events.chunks, skip=handshake, ends="open", pause=4.0)
    story.note("midstream-events", CELL2, DB1, sport, 8889, "Route emitter's event stream, begun before the capture", rows="9,12", later="unverifiable-authentication")  # fmt: skip
    talk = [nats_info(NATS0, 4222), *nats_session()] + [("s", b"PING\r\n"), ("c", b"PONG\r\n")] * 3
    sport = wire.tcp(1.5, CELL2, NATS0, 4222, talk, skip=4, ends="open", pause=6.0)
    story.note("midstream-nats", CELL2, NATS0, sport, 4222, "Route emitter at NATS, logged in before the capture", rows="20", application="nats", later="unverifiable-authentication")  # fmt: skip
    sport = wire.tcp(44.0, CELL0, DB0, 8889)
    story.note("no-payload", CELL0, DB0, sport, 8889, "connects and closes without a word, as load balancers probe", rows="9,12", application="none")  # fmt: skip


def explained_by_overlays(story: Story) -> None:
    """What other pages than Diego's declare: undeclared here, and the overlay is named."""
    wire = story.wire
    for at, a, b in ((46.0, CELL0, BRAIN0), (46.5, BRAIN0, CELL0), (47.0, CELL1, NATS1)):
        over_tls(
            story, f"bosh-dns-{a.name}-{b.name}", at, a, b, 8853, http("GET", "/health", "health.bosh-dns"),
            {"server": "bosh_dns", "client": "bosh_dns", "sni": "health.bosh-dns", "ca": "dns_healthcheck_tls_ca"},
            {"disposition": "undeclared", "rule": "undeclared-port", "differs": "port", "overlay": "bosh-dns"}, "BOSH DNS asks another VM's health",
        )  # fmt: skip
    sport = wire.udp(48.0, BRAIN0, RESOLVER, 53, dns_query(wire.rng, "blobstore.example.com", "198.51.100.7"))
    story.note("dns", BRAIN0, RESOLVER, sport, 53, "BOSH DNS asks its upstream resolver", transport="udp", application="dns", disposition="undeclared", rule="undeclared-connection", overlay="bosh-dns")  # fmt: skip
    agent = Tls("director_nats", "agent", version="1.2", sni="default.nats.bosh-internal", ca="bosh_natsCA").say(
        *nats_session(password=False, name="agent")
    )
    sport = wire.tcp(
        49.0, BRAIN0, DIRECTOR, 4222, [nats_info(DIRECTOR, 4222, tls=True, auth=False), *agent.chunks], ends="open"
    )
    story.note("bosh-agent", BRAIN0, DIRECTOR, sport, 4222, "BOSH agent sends its heartbeat to the Director", application="nats", disposition="undeclared", rule="undeclared-connection", overlay="bosh")  # fmt: skip
    over_tls(story, "loggregator", 50.0, CELL0, DOPPLER, 8082, h2(), {"server": "doppler", "client": "metron", "sni": "doppler", "ca": "loggregatorCA", "alpn": "h2"},
             {"disposition": "undeclared", "rule": "undeclared-connection", "overlay": "loggregator"}, "Loggregator agent sends logs to Doppler")  # fmt: skip
    for at, router, cell, sport in ((51.0, ROUTER0, CELL0, 8889), (51.5, ROUTER1, CELL1, 61_044)):
        over_tls(story, f"app-traffic-{sport}", at, router, cell, 61_014, http("GET", "/", "shop.apps.example.com", answer=b"<html>" * 50),
                 {"server": "app", "client": "gorouter_backend_tls", "ca": "instanceIdentityCA", "client_ca": "internalCA"},
                 {"disposition": "undeclared", "rule": "undeclared-connection", "overlay": "routing"}, "Gorouter calls an application; its own port looks like a documented one", sport=sport)  # fmt: skip


def ambient_and_elsewhere(story: Story) -> None:
    """Applications that call the outside; VMs that are not Diego's."""
    wire = story.wire
    for at, cell, site in ((53.0, CELL1, WEBSITE), (53.6, CELL1, WEBSITE_TOO), (54.2, CELL0, WEBSITE)):
        over_tls(story, f"egress-{site.ip}", at, cell, site, 443, http("GET", "/", "www.example.net"), {"server": "website", "ask": "no", "sni": "www.example.net", "ca": "Example Public CA"},
                 {"disposition": "ambient", "rule": "cell-egress"}, "an application calls a site outside")  # fmt: skip
    startup = [
        ("c", bytes.fromhex("0000000804d2162f")),
        ("s", b"N"),
        ("c", b"\0\0\0\x20\0\x03\0\0user\0shop\0database\0shop\0\0"),
        ("s", b"R\0\0\0\x0c\0\0\0\x05abcd"),
    ]
    sport = wire.tcp(55.0, CELL0, ELSEWHERE, 5432, startup)
    story.note("egress-postgres", CELL0, ELSEWHERE, sport, 5432, "an application calls its database outside", application="postgresql", disposition="ambient", rule="cell-egress")  # fmt: skip
    for at, a in ((56.0, ROUTER1), (56.5, CC1)):
        over_tls(story, f"uaa-{a.name}", at, a, UAA, 8443, http("GET", "/token_keys", UAA_NAME), {"server": "uaa_ssl", "ask": "no", "sni": UAA_NAME, "ca": "uaaCA"},
                 {"disposition": "out_of_scope"}, "neither end is Diego's")  # fmt: skip
    sport = wire.tcp(57.0, NATS0, NATS1, 4223, [nats_info(NATS1, 4223), *nats_session(name="route")])
    story.note(
        "nats-cluster", NATS0, NATS1, sport, 4223, "NATS cluster route", application="nats", disposition="out_of_scope"
    )
    over_tls(story, "uaa-balancer", 58.0, BRAIN1, BALANCER, 443, http("POST", "/oauth/token", UAA_NAME, b"grant_type=none"), {"server": "uaa_ssl", "ask": "no", "sni": UAA_NAME, "ca": "uaaCA"},
             {"rows": "19"}, "SSH proxy reaches UAA by the load balancer in front of it")  # fmt: skip


def undeclared(story: Story) -> None:
    """Known VMs off the documented roads, and strangers on them."""
    wire = story.wire
    bad = {"disposition": "undeclared"}
    for at, cell in ((60.0, CELL0), (63.0, CELL1)):
        over_tls(story, f"cell-uaa-{cell.name}", at, cell, UAA, 8443, http("GET", "/info", UAA_NAME), {"server": "uaa_ssl", "ask": "no", "sni": UAA_NAME, "ca": "uaaCA"},
                 bad | {"rule": "undeclared-connection", "overlay": "routing"}, "a cell calls UAA, as route emitters do on the routing page and applications should not")  # fmt: skip
    over_tls(story, "brain-blobstore", 63.5, BRAIN0, BLOBS, 4443, http("GET", "/admin/cc-droplets/", "blobstore"), {"server": "blobstore_tls", "ask": "no", "sni": "blobstore.service.cf.internal"},
             bad | {"rule": "undeclared-connection", "differs": "role"}, "a brain calls the blobstore, which is for cells")  # fmt: skip
    sport = wire.tcp(
        64.0, BRAIN0, CELL1, 2222, Ssh(wire.rng).session(server=b"SSH-2.0-OpenSSH_8.9p1 Ubuntu-3ubuntu0.10")
    )
    story.note("ssh-2222", BRAIN0, CELL1, sport, 2222, "SSH from a brain to a cell, on no application's host port", application="ssh", rule="ssh-port-out-of-range", differs="port", **bad)  # fmt: skip
    plain = http("GET", "/internal/apps/shop/ssh_access/0", API, b"", f"Authorization: bearer {FAKE_TOKEN}")
    sport = wire.tcp(66.0, CELL2, CC0, 9022, plain)
    story.note("cc-9022", CELL2, CC0, sport, 9022, "a cell at the Cloud Controller's plaintext port, with a bearer token", application="http", rule="undeclared-port", differs="port", **bad)  # fmt: skip
    over_tls(story, "reversed", 67.0, CC1, CELL0, 9023, http("GET", "/", "cell"), {"server": "diego_rep_agent_v2", "client": "cc_tls"},
             bad | {"rule": "undeclared-connection", "differs": "direction"}, "a Cloud Controller dials a cell on the port on which cells dial it")  # fmt: skip
    sport = wire.udp(68.0, CELL1, DB0, 8889, [("c", b"\x17beacon" * 4), ("s", b"\x17ok")])
    story.note("udp-8889", CELL1, DB0, sport, 8889, "datagrams to the BBS port, documented for TCP", transport="udp", application="unknown", rule="undeclared-port", differs="transport", **bad)  # fmt: skip
    over_tls(story, "former-cell", 70.0, FORMER_CELL, DB0, 8889, http("POST", "/v1/desired_lrp/list.r3", BBS), {"server": "diego_bbs_server", "client": "diego_rep_agent_v2", "sni": BBS},
             bad | {"rule": "unknown-host"}, "an address whose cell was deleted, with a cell's certificate")  # fmt: skip
    refused = [nats_info(NATS0, 4222), nats_session()[0], ("s", b"-ERR 'Authorization Violation'\r\n")]
    sport = wire.tcp(72.0, OUTSIDER, NATS0, 4222, refused, ends="server_fin")
    story.note("outsider-nats", OUTSIDER, NATS0, sport, 4222, "somebody from outside tries a password at NATS", application="nats", rule="unknown-host", **bad)  # fmt: skip
    sport = wire.tcp(73.0, CELL1, STRANGER, 8080, http("GET", "/latest/payload", "10.0.5.200", answer=b"x" * 400))
    story.note("stranger-answers", CELL1, STRANGER, sport, 8080, "a cell fetches something from an address that nobody has", application="http", rule="unknown-host", **bad)  # fmt: skip


def attempts(story: Story) -> None:
    """What did not come about."""
    wire = story.wire
    tried = {"disposition": "undeclared", "outcome": "attempt", "application": "none"}
    sport = wire.tcp(75.0, BRAIN1, MYSQL, 3306, ends="refused")
    story.note(
        "brain-mysql",
        BRAIN1,
        MYSQL,
        sport,
        3306,
        "a brain tries MySQL and is refused",
        rule="undeclared-attempt",
        differs="role",
        **tried,
    )
    sport = wire.tcp(76.0, CELL1, UAA, 8080, ends="silent")
    story.note(
        "cell-uaa-8080",
        CELL1,
        UAA,
        sport,
        8080,
        "a cell tries UAA's inner port and hears nothing",
        rule="undeclared-attempt",
        **tried,
    )
    sport = wire.tcp(77.0, CELL1, BLOBS, 2049, ends="refused")
    story.note("cell-nfs-2049", CELL1, BLOBS, sport, 2049, "ports of the blobstore vary, but nobody answers on this one", rule="undeclared-attempt", **tried)  # fmt: skip
    ports = [
        21,
        22,
        23,
        25,
        80,
        110,
        111,
        443,
        1521,
        2049,
        2379,
        3000,
        3389,
        5432,
        5900,
        6379,
        7000,
        8080,
        8500,
        9000,
        9042,
        9200,
        11_211,
        27_017,
    ]
    for number, port in enumerate(ports):
        sport = wire.tcp(80.0 + number * 0.4, CELL2, DB0, port, ends="silent" if number % 6 == 5 else "refused")
        story.note(
            f"sweep-{port}",
            CELL2,
            DB0,
            sport,
            port,
            "a cell tries port after port of a database VM",
            rule="port-sweep",
            **tried,
        )


def wrong_applications(story: Story) -> None:
    """The right road, the wrong cargo."""
    wire = story.wire
    sport = wire.tcp(95.0, CELL2, BRAIN0, 9091, Ssh(wire.rng).session(server=b"SSH-2.0-dropbear_2022.83"))
    story.note(
        "ssh-tunnel",
        CELL2,
        BRAIN0,
        sport,
        9091,
        "SSH on the CC uploader's port",
        rows="10",
        application="ssh",
        rule="wrong-application",
    )
    babble = [("c", b"\x00\x01\xfe\xed" + wire.rng.randbytes(60)), ("s", b"\x00\x02\xfe\xed" + wire.rng.randbytes(90))]
    sport = wire.tcp(96.0, CELL0, NATS1, 4222, babble)
    story.note("babble-nats", CELL0, NATS1, sport, 4222, "bytes of no known protocol on the NATS port", rows="20", application="unknown", rule="wrong-application")  # fmt: skip


def weak_authentication(story: Story) -> None:
    """Documented roads, undocumented authentication: for an auditor that reads handshakes."""
    wire = story.wire
    for at, version, cell in ((100.0, "1.2", CELL1), (101.0, "1.3", CELL2)):
        over_tls(story, f"rep-asks-nobody-{version}", at, BRAIN1, cell, 1801, http("GET", "/state", cell_name(cell), answer=b"{}" * 80),
                 {"server": "diego_rep_agent_v2", "version": version, "sni": cell_name(cell), "ask": "no"}, {"rows": "3", "later": "missing-client-certificate"},
                 f"a rep that asks for no client certificate, TLS {version}")  # fmt: skip
    over_tls(story, "declined", 102.0, CC0, DB1, 8889, http("POST", "/v1/domains/list", BBS, answer=b"cf-apps" * 20),
             {"server": "diego_bbs_server", "version": "1.2", "sni": BBS, "ask": "optional"}, {"rows": "1", "later": "unverifiable-authentication"},
             "a client that declines and gets one short answer, TLS 1.2")  # fmt: skip
    over_tls(story, "refused-1.2", 103.0, CELL1, DB0, 8891, h2(), {"server": "diego_locket_server", "version": "1.2", "sni": LOCKET},
             {"rows": "13", "later": "authentication-rejected"}, "a client without a certificate is turned away, TLS 1.2", ends="server_fin")  # fmt: skip
    over_tls(story, "refused-1.3", 104.0, CELL1, DB0, 8891, h2(), {"server": "diego_locket_server", "version": "1.3", "sni": LOCKET},
             {"rows": "13", "later": "authentication-rejected|unverifiable-authentication"}, "a client without a certificate is turned away, TLS 1.3", ends="server_fin")  # fmt: skip
    over_tls(story, "tls-1.0", 105.0, CELL2, BRAIN1, 9091, http("POST", "/v1/droplet/shop", "cc-uploader", b"droplet" * 40),
             {"server": "cc_uploader_server", "client": "diego_rep_agent_v2", "version": "1.0"}, {"rows": "10", "later": "weak-tls"}, "mutual TLS, but version 1.0")  # fmt: skip
    over_tls(story, "expired", 106.0, CELL1, BRAIN1, 8447, http("GET", "/v1/static/lifecycle.tgz", "file-server", answer=b"asset" * 60),
             {"server": "file_server_expired", "version": "1.2", "ask": "no", "sni": "file-server.service.cf.internal"}, {"rows": "11", "later": "certificate-expired"},
             "a file server whose certificate expired ten weeks ago")  # fmt: skip
    over_tls(story, "wrong-name", 107.0, CELL2, DB0, 8889, http("POST", "/v1/cells/list.r1", BBS), {"server": "diego_bbs_server", "client": "cc_bridge_tps", "version": "1.2", "sni": BBS},
             {"rows": "9,12", "later": "certificate-identity"}, "a cell that calls itself by the name of the brain's TPS watcher")  # fmt: skip
    sport = wire.tcp(
        108.0, CELL2, CC1, 9023, http("GET", "/internal/v4/droplets/shop/sha1/download", API, answer=b"droplet" * 30)
    )
    story.note("plaintext-9023", CELL2, CC1, sport, 9023, "plain HTTP on the port of mutual TLS, and it is served", rows="21", application="http", later="plaintext|wrong-application")  # fmt: skip
    told_off = [
        http("GET", "/v1/cells/list.r1", BBS)[0],
        ("s", b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"),
    ]
    sport = wire.tcp(109.0, CELL0, DB1, 8889, told_off, ends="server_fin")
    story.note("http-8889", CELL0, DB1, sport, 8889, "plain HTTP on the BBS port, and it is turned away", rows="9,12", application="http", later="authentication-rejected|wrong-application")  # fmt: skip
    sport = wire.tcp(
        110.0,
        CELL1,
        BLOBS,
        8080,
        http(
            "GET",
            "/read/cc-droplets/sh/op/shop?md5=bm8tc2lnbmF0dXJl&expires=1763290800",
            "blobstore",
            answer=b"blob" * 200,
        ),
    )
    story.note(
        "signed-url",
        CELL1,
        BLOBS,
        sport,
        8080,
        "a signed URL in the clear",
        rows="22",
        application="http",
        later="cleartext-credentials",
    )
    sport = wire.tcp(111.0, CELL1, NATS1, 4222, [nats_info(NATS1, 4222, auth=False), *nats_session(password=False)])
    story.note(
        "nats-no-auth",
        CELL1,
        NATS1,
        sport,
        4222,
        "a NATS server that asks nobody",
        rows="20",
        application="nats",
        later="missing-credentials",
    )
    sport = wire.tcp(
        112.0,
        CELL2,
        NATS1,
        4222,
        [nats_info(NATS1, 4222), nats_session()[0], ("s", b"-ERR 'Authorization Violation'\r\n")],
        ends="server_fin",
    )
    story.note(
        "nats-refused",
        CELL2,
        NATS1,
        sport,
        4222,
        "a wrong password at NATS",
        rows="20",
        application="nats",
        later="authentication-rejected",
    )
    for at, name, later in (
        (113.0, "empty", "missing-credentials"),
        (114.0, "clear", "wrong-authentication-method|cleartext-credentials"),
        (115.0, "denied", "authentication-rejected"),
    ):
        sql, plugin = MySql(wire.rng), b"mysql_clear_password" if name == "clear" else b"mysql_native_password"
        talk = [sql.greeting(plugin=plugin), sql.login(b"diego", b"diego", plugin=plugin, empty=name == "empty")]
        talk += [sql.denied()] if name == "denied" else [sql.accepted(), *sql.query(b"SELECT guid FROM tasks")]
        sport = wire.tcp(at, DB1, MYSQL, 3306, talk)
        story.note(
            f"mysql-{name}",
            DB1,
            MYSQL,
            sport,
            3306,
            f"MySQL login: {name}",
            rows="24,25",
            application="mysql",
            later=later,
        )
    hello = Tls(
        "app", "ssh_proxy_backends_tls", sni=CELL2.guid, ca="instanceIdentityCA", client_ca="internalCA"
    ).chunks[:1]
    sport = wire.tcp(116.0, BRAIN1, CELL2, 61_030, hello, ends="reset")
    story.note("downgrade-first", BRAIN1, CELL2, sport, 61_030, "the SSH proxy tries TLS into an instance and is reset", rows="7", later="authentication-rejected|authentication-downgrade")  # fmt: skip
    sport = wire.tcp(117.0, BRAIN1, CELL2, 61_030, Ssh(wire.rng).session())
    story.note(
        "downgrade-then",
        BRAIN1,
        CELL2,
        sport,
        61_030,
        "... and goes on without it",
        rows="7",
        application="ssh",
        later="authentication-downgrade",
    )


def main() -> None:
    """Write the files."""
    story = Story(Wire(seed=20_261_117))
    documented(story, 5.0, "1.2", cells=[CELL0], brains=[BRAIN0], databases=[DB0, DB1], controllers=[CC0], mark="tls12")
    documented(story, 5.3, "1.3", cells=[CELL1], brains=[BRAIN1], databases=[DB1, DB0], controllers=[CC1], mark="tls13")
    for scene in (
        resumed_sessions,
        long_lived,
        explained_by_overlays,
        ambient_and_elsewhere,
        undeclared,
        attempts,
        wrong_applications,
        weak_authentication,
    ):
        scene(story)
    for at, (asks, asked) in enumerate([(CELL0, DB0), (BRAIN0, CELL0), (CELL1, NATS1)]):
        story.wire.arp(at, asks, asked)
    zones = [(f"mirror-{zone}", f"mirror port of zone {zone}: what VMs there open") for zone in ("z1", "z2")]
    story.wire.write_pcapng(HERE / "diego.pcapng", zones)
    story.write_truth(HERE / "diego.truth.tsv")
    vms = "".join(f"  - {{name: {vm.name}, ips: [{vm.ip}]}}\n" for vm in VMS)
    (HERE / "diego.inventory.yml").write_text(INVENTORY_HEAD + vms + INVENTORY_TAIL)
    write_authorities(HERE / "diego.ca")
    print(
        f"diego.pcapng: {len(story.truth)} connections, {len(story.wire.frames)} frames, {size_of(HERE / 'diego.pcapng')}"
    )


if __name__ == "__main__":
    main()
