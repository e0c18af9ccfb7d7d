"""From what addresses serve and whom they call to who they are."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.policy.addresses import to_int, to_text
from auditor.policy.infer import COLLIDING, Service, draft, infer, infer_inventory
from auditor.policy.inventory import load_inventory
from auditor.policy.policy import Policy


def at(last: int) -> int:
    return to_int(f"10.0.4.{last}")


CELL, CELL2, BRAIN, DATABASE, CC, NATS, MYSQL, BLOBSTORE, UAA, DIRECTOR = (at(last) for last in range(20, 30))

FOUNDATION = [
    Service(CELL, 1801, "tcp", "tls", (BRAIN, DATABASE)),
    Service(CELL2, 1801, "tcp", "tls", (BRAIN, DATABASE)),
    Service(DATABASE, 8889, "tcp", "tls", (BRAIN, CELL, CELL2, CC)),
    Service(DATABASE, 8891, "tcp", "tls", (BRAIN, CELL, CELL2, CC, DATABASE)),
    Service(BRAIN, 9091, "tcp", "tls", (CELL,)),
    Service(CC, 9023, "tcp", "tls", (CELL, BRAIN, DATABASE)),
    Service(NATS, 4222, "tcp", "nats", (CELL, CELL2)),
    Service(MYSQL, 3306, "tcp", "mysql", (DATABASE,)),
    Service(BLOBSTORE, 4443, "tcp", "tls", (CELL,)),
    Service(CELL, 61012, "tcp", "ssh", (BRAIN,)),
    Service(to_int("203.0.113.9"), 443, "tcp", "tls", (CELL, BRAIN)),
]


def roles(services: list[Service], policy: Policy) -> dict[int, tuple[str, ...]]:
    who = infer_inventory(services, policy)
    addresses = {service.address for service in services} | {client for one in services for client in one.clients}
    return {address: host.roles for address in addresses if (host := who.lookup(address)) is not None}


def test_a_whole_foundation(tas_diego: Policy) -> None:
    assert roles(FOUNDATION, tas_diego) == {
        CELL: ("diego_cell",), CELL2: ("diego_cell",), BRAIN: ("diego_brain",), DATABASE: ("diego_database",),
        CC: ("cloud_controller",), NATS: ("nats",), MYSQL: ("mysql_proxy",), BLOBSTORE: ("nfs_server",),
    }  # fmt: skip
    assert infer_inventory(FOUNDATION, tas_diego).origin == "inferred"


def test_a_capture_of_one_cell(tas_diego: Policy) -> None:
    seen = [service for service in FOUNDATION if CELL in (service.address, *service.clients)]
    found = roles(seen, tas_diego)
    assert found[CELL] == ("diego_cell",)
    assert found[DATABASE] == ("diego_database",)
    assert found[BRAIN] == ("diego_brain",)


@pytest.mark.parametrize("port", sorted(COLLIDING))
def test_a_port_that_several_serve_decides_nothing_alone(tas_diego: Policy, port: int) -> None:
    for application in ("tls", "http", "nats", "ssh"):
        assert roles([Service(at(1), port, "tcp", application, (at(2), at(3)))], tas_diego) == {}


def test_the_directors_nats_is_not_the_platforms(tas_diego: Policy) -> None:
    services = [
        *FOUNDATION, Service(DIRECTOR, 4222, "tcp", "nats", (CELL, CELL2, DATABASE)),
        Service(DIRECTOR, 25250, "tcp", "tls", (CELL,)), Service(DIRECTOR, 25777, "tcp", "http", (CELL,)),
    ]  # fmt: skip
    found = roles(services, tas_diego)
    assert found[DIRECTOR] == ("bosh_director",)
    assert found[NATS] == ("nats",)


def test_another_protocol_on_the_port_is_no_evidence(tas_diego: Policy) -> None:
    assert roles([Service(at(1), 8889, "tcp", "ssh", (at(2),))], tas_diego) == {}
    assert roles([Service(at(1), 1801, "udp", "unknown", (at(2),))], tas_diego) == {}


def test_a_range_makes_nobody_a_listener(tas_diego: Policy) -> None:
    assert roles([Service(at(1), 61012, "tcp", "ssh", (at(2),))], tas_diego) == {}


def test_a_call_that_is_not_ones_own_makes_no_role(tas_diego: Policy) -> None:
    found = roles(
        [
            *FOUNDATION,
            Service(BLOBSTORE, 4443, "tcp", "tls", (CELL, BRAIN)),
            Service(NATS, 4223, "tcp", "nats", (at(77),)),
        ],
        tas_diego,
    )
    assert found[BRAIN] == ("diego_brain",)
    assert at(77) not in found, "many may call NATS"


def test_who_calls_applications_and_is_nobody_else_is_a_router(tas_diego: Policy) -> None:
    services = [*FOUNDATION, Service(CELL2, 61014, "tcp", "tls", (at(40), BRAIN))]
    assert roles(services, tas_diego)[at(40)] == ("router",)
    assert roles(services, tas_diego)[BRAIN] == ("diego_brain",)


def test_who_answers_brains_alone_on_443_passes_for_uaa(tas_diego: Policy) -> None:
    near = Service(UAA, 443, "tcp", "tls", (BRAIN,))
    assert roles([*FOUNDATION, near], tas_diego)[UAA] == ("uaa",)
    far = Service(to_int("203.0.113.10"), 443, "tcp", "tls", (BRAIN,))
    assert far.address not in roles([*FOUNDATION, far], tas_diego)


def test_certificate_names_decide(tas_diego: Policy) -> None:
    service = Service(
        at(1), 12345, "tcp", "tls", (at(2), at(3)), names=("bbs.service.cf.internal", "localhost"),
        client_names={at(2): ("cell.service.cf.internal",), at(3): ("bbs-client",)},
    )  # fmt: skip
    found = roles([service], tas_diego)
    assert found == {at(1): ("diego_database",), at(2): ("diego_cell",)}, "bbs-client is shared by brain and cell"


def test_uaa_by_the_name_it_is_asked_for(tas_diego: Policy) -> None:
    assert roles([Service(UAA, 443, "tcp", "tls", (at(2),), names=("uaa.sys.example.com",))], tas_diego) == {
        UAA: ("uaa",)
    }


def test_cf_deployments_api_is_no_brain(tas_diego: Policy) -> None:
    services = [
        Service(CELL, 1801, "tcp", "tls", (BRAIN,)), Service(CC, 9023, "tcp", "tls", (CELL,)),
        Service(CC, 9024, "tcp", "tls", (BRAIN,)), Service(CC, 9091, "tcp", "tls", (CELL,)),
        Service(DATABASE, 8889, "tcp", "tls", (CELL, BRAIN, CC)),
    ]  # fmt: skip
    host = infer_inventory(services, tas_diego).lookup(CC)
    assert host is not None
    assert host.group == "api"
    assert host.roles[0] == "cloud_controller"


def test_confidence_and_reasons(tas_diego: Policy) -> None:
    best = {guess.address: guess for guess in reversed(infer(FOUNDATION, tas_diego))}
    assert (best[DATABASE].confidence, best[NATS].confidence) == ("high", "medium")
    assert "serves 4222 (nats; the Director does so, too)" in best[NATS].reasons
    assert best[to_int("203.0.113.9")].confidence == "low"


def test_traffic_of_somebody_else_is_nobody(tas_diego: Policy) -> None:
    home = [Service(at(1), port, "tcp", "https", (at(2),)) for port in (443, 8443, 3000, 8080, 5000)]
    assert roles([*home, Service(at(1), 53, "udp", "dns", (at(2),))], tas_diego) == {}


def test_the_sample_foundation(tas_diego: Policy) -> None:
    """The sample full of misbehaviour: no role that is wrong, but the Director's NATS and the balancer before uaa."""
    samples = Path(__file__).resolve().parents[2] / "captures" / "sample"
    with (samples / "diego.truth.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["outcome"] == "established"]
    services = [
        Service(
            to_int(address), int(port), transport, max(application for _, application in seen),
            tuple(sorted({to_int(orig) for orig, _ in seen})),
        )
        for (address, port, transport), seen in {
            key: [
                (row["originator"], row["application"]) for row in rows
                if (row["responder"], row["responder_port"], row["transport"]) == key
            ]
            for key in sorted({(row["responder"], row["responder_port"], row["transport"]) for row in rows})
        }.items()
    ]  # fmt: skip
    truth = load_inventory([str(samples / "diego.inventory.yml")], tas_diego)
    found = roles(services, tas_diego)
    wrong = {
        to_text(address): got for address, got in found.items()
        if (host := truth.lookup(address)) is None or host.roles != got
    }  # fmt: skip
    assert wrong == {"10.0.3.6": ("nats",), "10.0.4.5": ("uaa",)}
    assert {"diego_cell", "diego_brain", "diego_database", "cloud_controller", "uaa", "nats", "mysql_proxy", "nfs_server", "router"} == {
        role for got in found.values() for role in got
    }  # fmt: skip


def test_the_draft_is_an_inventory(tas_diego: Policy, tmp_path: Path) -> None:
    file = tmp_path / "draft.yml"
    file.write_text(draft(FOUNDATION, tas_diego))
    read = load_inventory([str(file)], tas_diego)
    assert read.origin == "inferred"
    for address, found in roles(FOUNDATION, tas_diego).items():
        host = read.lookup(address)
        assert host is not None
        assert host.roles == found
    text = file.read_text()
    assert "# diego_cell (high): " in text
    assert "origin: inferred" in text


def test_a_draft_of_nothing_says_so(tas_diego: Policy) -> None:
    assert "No host here looks like a VM of the platform" in draft([], tas_diego)


@given(order=st.permutations(FOUNDATION))
def test_the_order_decides_nothing(tas_diego: Policy, order: list[Service]) -> None:
    assert infer(order, tas_diego) == infer(FOUNDATION, tas_diego)


services = st.builds(
    Service,
    address=st.integers(1, 6).map(at) | st.sampled_from([1, 0xFF << 120, to_int("127.0.0.1")]),
    port=st.sampled_from([1801, 8889, 8891, 4222, 9091, 443, 8443, 61012, 3306, 4443, 0]),
    transport=st.sampled_from(["tcp", "udp", "icmp"]),
    application=st.sampled_from(["tls", "ssh", "nats", "mysql", "unknown", "none"]),
    clients=st.lists(st.integers(1, 6).map(at), max_size=4).map(tuple),
    names=st.lists(st.sampled_from(["bbs.service.cf.internal", "x", ""]), max_size=2).map(tuple),
)


@given(found=st.lists(services, max_size=12))
def test_anything_gives_a_draft(tas_diego: Policy, found: list[Service]) -> None:
    assert draft(found, tas_diego)
