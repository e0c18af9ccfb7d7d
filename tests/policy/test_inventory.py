"""Who had which address when, and who says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import ConfigError
from auditor.policy.addresses import to_int
from auditor.policy.inventory import Entry, Inventory, load_inventory, parse_time, time_text
from auditor.policy.policy import Policy

HOUR_NS = 3_600_000_000_000


@pytest.fixture
def load(tmp_path: Path, tas_diego: Policy):  # type: ignore[no-untyped-def]
    def make(*texts: str) -> Inventory:
        files = []
        for at, text in enumerate(texts):
            file = tmp_path / f"{at}.yml"
            file.write_text(text)
            files.append(str(file))
        return load_inventory(files, tas_diego)

    return make


def test_roles_follow_from_the_group_and_are_a_set(load) -> None:  # type: ignore[no-untyped-def]
    who = load("- {ip: 10.0.0.1, name: control/0}\n- {ip: 10.0.0.2, name: x, roles: [diego_cell, Router]}\n")
    control, both = who.lookup(to_int("10.0.0.1")), who.lookup(to_int("10.0.0.2"))
    assert len(control.roles) == 11
    assert (control.instance, control.group) == ("control/0", "control")
    assert both.roles == ("diego_cell", "router")


def test_an_unknown_group_is_its_own_role(load) -> None:  # type: ignore[no-untyped-def]
    who = load("- {ip: 10.0.0.1, name: RabbitMQ-Server/0}\n- {ip: 10.0.0.2, name: somebody}\n")
    assert who.lookup(to_int("10.0.0.1")).roles == ("rabbitmq_server",)
    assert who.lookup(to_int("10.0.0.2")).roles == ()
    assert who.lookup(to_int("10.0.0.3")) is None


@pytest.mark.parametrize(
    ("name", "role"), [("diego-cell-0", "diego_cell"), ("diego_cell", "diego_cell"), ("uaa.1", "uaa")]
)
def test_a_name_without_a_slash_may_hold_a_known_group(load, name: str, role: str) -> None:  # type: ignore[no-untyped-def]
    assert load(f"- {{ip: 10.0.0.1, name: {name}}}").lookup(to_int("10.0.0.1")).roles == (role,)


def test_leases_begin_and_end(load) -> None:  # type: ignore[no-untyped-def]
    who = load(
        "- {ip: 10.0.0.1, name: diego_cell/1, until: 1970-01-01T01:00:00Z}\n"
        "- {ip: 10.0.0.1, name: uaa/1, from: 1970-01-01T02:00:00Z, until: 1970-01-01T03:00:00Z}\n"
    )
    address = to_int("10.0.0.1")
    told = [who.lookup(address, at) and who.lookup(address, at).instance for at in range(0, 4 * HOUR_NS, HOUR_NS // 2)]
    assert told == ["diego_cell/1"] * 2 + [None] * 2 + ["uaa/1"] * 2 + [None] * 2
    assert who.timed
    assert who.boundaries_ns == (HOUR_NS, 2 * HOUR_NS, 3 * HOUR_NS)
    assert who.conflicts == ()


def test_two_names_at_one_time_are_a_conflict_and_the_union(load) -> None:  # type: ignore[no-untyped-def]
    who = load("- {ip: 10.0.0.1, name: diego_cell/1}\n", "- {ip: 10.0.0.1, name: uaa/1}\n")
    (conflict,) = who.conflicts
    assert "10.0.0.1 is both diego_cell/1" in conflict
    assert "uaa/1" in conflict
    assert set(who.lookup(to_int("10.0.0.1")).roles) == {"diego_cell", "uaa"}


def test_one_vm_in_two_sources_is_no_conflict(load) -> None:  # type: ignore[no-untyped-def]
    who = load(
        "- {ip: 10.0.0.1, name: diego_cell/1}\n", "- {ip: 10.0.0.1, name: diego-cell/1}\n- {ip: 10.0.0.1, role: nats}\n"
    )
    assert who.conflicts == ()
    host = who.lookup(to_int("10.0.0.1"))
    assert (host.instance, set(host.roles)) == ("diego_cell/1", {"diego_cell", "nats"})


def test_a_group_of_vms_named_as_a_role_is_the_platforms_own(load) -> None:  # type: ignore[no-untyped-def]
    """Small Footprint's blobstore is the internal one; an external entry that states that role is a store elsewhere."""
    who = load("- {ip: 10.0.0.1, name: blobstore/0}\n- {ip: 10.0.0.2, name: s3, role: blobstore}\n")
    assert set(who.lookup(to_int("10.0.0.1")).roles) == {"nfs_server", "blobstore"}
    assert who.lookup(to_int("10.0.0.2")).roles == ("blobstore",)


def test_an_address_beats_a_network_and_a_narrow_network_a_wide_one(load) -> None:  # type: ignore[no-untyped-def]
    who = load(
        "vms:\n  - {name: a/1, cidr: 10.0.0.0/16, role: router}\n  - {name: b/1, cidrs: [10.0.4.0/24], role: diego_cell}\n"
        "  - {name: c/1, ip: 10.0.4.9, role: uaa}\n  - {name: d/1, cidr: 'fd00::/64', role: nats}\n"
    )
    told = [who.lookup(to_int(ip)).roles[0] for ip in ("10.0.1.1", "10.0.4.1", "10.0.4.9", "fd00::7")]
    assert told == ["router", "diego_cell", "uaa", "nats"]
    assert who.lookup(to_int("10.1.0.1")) is None


def test_networks_with_leases(load) -> None:  # type: ignore[no-untyped-def]
    who = load("vms:\n  - {name: a/1, cidr: 10.0.0.0/24, role: router, from: 1970-01-01T01:00:00Z}\n")
    assert who.lookup(to_int("10.0.0.1"), 0) is None
    assert who.lookup(to_int("10.0.0.1"), HOUR_NS).roles == ("router",)


def test_platform_networks_are_those_named(load) -> None:  # type: ignore[no-untyped-def]
    who = load("networks: [10.0.0.0/22, 'fd00::/56']\nvms:\n  - {ip: 192.168.7.7, role: uaa}\n")
    inside = [who.platform(to_int(ip)) for ip in ("10.0.3.255", "10.0.4.0", "fd00:0:0:ff::1", "fd01::1", "192.168.7.8")]
    assert inside == [True, False, True, False, False]
    assert who.broadcast(to_int("10.0.3.255"))
    assert not who.broadcast(to_int("10.0.1.255"))


def test_else_the_neighbourhood_of_each_vm(load) -> None:  # type: ignore[no-untyped-def]
    who = load("vms:\n  - {ips: [10.0.0.1, 'fd00::1'], role: uaa}\nexternals:\n  - {ip: 192.0.2.1, role: blobstore}\n")
    inside = [who.platform(to_int(ip)) for ip in ("10.0.0.200", "10.0.1.1", "fd00::ffff", "fd00:0:0:1::1", "192.0.2.2")]
    assert inside == [True, False, True, False, False]
    assert who.broadcast(to_int("10.0.0.255"))


def test_fronts(load) -> None:  # type: ignore[no-untyped-def]
    who = load("- {ip: 10.0.0.1, name: lb, fronts: [uaa, {role: nats, ports: 4222-4225}]}\n")
    fronts = who.lookup(to_int("10.0.0.1")).fronts
    assert [(front.role, front.ports) for front in fronts] == [("uaa", None), ("nats", ((4222, 4225),))]


def test_where_it_came_from(load, tas_diego: Policy) -> None:  # type: ignore[no-untyped-def]
    given_, inferred = "- {ip: 10.0.0.1, role: uaa}\n", "- {ip: 10.0.0.2, role: nats, origin: inferred}\n"
    assert load(given_).origin == "given"
    assert load(inferred).origin == "inferred"
    mixed = load(given_, inferred)
    assert mixed.origin == "mixed"
    assert mixed.lookup(to_int("10.0.0.2")).origin == "inferred"
    assert [source["format"] for source in mixed.sources] == ["auditor", "auditor"]
    assert all(len(source["sha256"]) == 64 for source in mixed.sources)
    assert Inventory((), tas_diego).origin == "inferred"


def test_a_role_spelt_wrong_is_told(load) -> None:  # type: ignore[no-untyped-def]
    (warning,) = load("- {ip: 10.0.0.1, role: diego_cel}\n").warnings
    assert "0.yml:1: no policy knows the role 'diego_cel'; did you mean diego_cell?" in warning


def test_yaml_round_trip(load, tmp_path: Path, tas_diego: Policy) -> None:  # type: ignore[no-untyped-def]
    who = load(
        "networks: [10.0.0.0/16, 'fd00::/64']\nvms:\n  - {name: diego_cell/1, ips: [10.0.0.1, 'fd00::1'], from: 2026-01-01}\n"
        "  - {name: 'odd: name', ip: 10.0.0.2, roles: [uaa, nats], until: 2026-01-01T00:00:00.5Z, origin: inferred}\n"
        "externals:\n  - {name: lb, ip: 192.0.2.1, fronts: [uaa, {role: nats, ports: [4222, 4224]}]}\n"
    )
    again = tmp_path / "again.yml"
    again.write_text(who.to_yaml())
    read = load_inventory([str(again)], tas_diego)
    assert read.to_yaml() == who.to_yaml()
    assert read.networks == who.networks
    for ip in ("10.0.0.1", "fd00::1", "10.0.0.2", "192.0.2.1"):
        for at in (0, parse_time("2026-06-01")):
            assert read.lookup(to_int(ip), at) == who.lookup(to_int(ip), at)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01", 0), ("1970-01-01T00:00:01Z", 10**9), ("1970-01-01T01:00:00+01:00", 0), (5, 5 * 10**9),
        ("1970-01-01T00:00:00.000000001Z", 1), ("1970-01-01 00:00:01", 10**9), ("1767225600", 1767225600 * 10**9),
    ],
)  # fmt: skip
def test_times(text: object, ns: int) -> None:
    assert parse_time(text) == ns


@given(ns=st.integers(0, 4_000_000_000_000_000_000))
def test_times_are_read_as_they_are_written(ns: int) -> None:
    assert parse_time(time_text(ns)) == ns


@pytest.mark.parametrize("text", ["soon", "", "2026-13-01", True, "12:00"])
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_time(text)


entries = st.lists(
    st.builds(
        Entry,
        file=st.just("f"),
        place=st.integers(1, 9).map(str),
        instance=st.sampled_from([None, "?", "diego_cell/1", "uaa/1", "api/2"]),
        group=st.sampled_from([None, "diego_cell", "uaa", "api", "odd"]),
        roles=st.sampled_from([(), ("nats",), ("diego_cell", "uaa")]),
        spans=st.sampled_from([((1, 1),), ((1, 1), (2, 2)), ((0, 7),), ((2, 3),)]),
        from_ns=st.none() | st.integers(0, 5),
        until_ns=st.none() | st.integers(6, 9),
        external=st.booleans(),
    ),
    max_size=6,
)


@given(found=entries, at_ns=st.integers(0, 10), data=st.data())
def test_the_naive_reading(tas_diego: Policy, found: list[Entry], at_ns: int, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(found))
    who, other = Inventory(tuple(found), tas_diego), Inventory(tuple(shuffled), tas_diego)
    for address in range(9):
        # The twin: all entries open at the time, exact ones first, else the narrowest network's.
        opened = [
            (last - first, entry)
            for entry in found
            for first, last in entry.spans
            if first <= address <= last
            and (entry.from_ns is None or entry.from_ns <= at_ns)
            and (entry.until_ns is None or at_ns < entry.until_ns)
        ]
        host = who.lookup(address, at_ns)
        assert (host is None) == (not opened)
        assert host == other.lookup(address, at_ns)
        if host is not None and min(width for width, _ in opened) == 0:
            roles = {held.role for width, entry in opened if width == 0 for held in who._held(entry)}
            assert set(host.roles) == roles


def test_no_inventory_is_an_error_only_where_a_file_is_named(tas_diego: Policy) -> None:
    assert load_inventory([], tas_diego).lookup(1) is None
    with pytest.raises(ConfigError, match="no such file"):
        load_inventory(["absent.yml"], tas_diego)
