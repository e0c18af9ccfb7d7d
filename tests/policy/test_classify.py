"""Each rule's firing and its nearest innocent neighbour; conversations as they are said."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.model.judgement import Breach, Disposition, Flow, Outcome
from auditor.policy.addresses import to_int
from auditor.policy.classify import Classifier
from auditor.policy.inventory import Entry, Inventory
from auditor.policy.loader import load_policy
from auditor.policy.policy import Policy
from tests.policy.conftest import ADDRESSES, VMS, Build, Foundation

DOCUMENTED, UNDECLARED = Disposition.DOCUMENTED, Disposition.UNDECLARED
AMBIENT, OUT_OF_SCOPE = Disposition.AMBIENT, Disposition.OUT_OF_SCOPE

# Documented ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orig", "resp", "port", "application", "paths"),
    [
        ("cc", "database", 8889, "tls", ["cc-to-bbs"]),
        ("cc", "database", 8891, "tls", ["routing-api-to-locket"]),
        ("brain", "cell", 1801, "tls", ["auctioneer-to-rep"]),
        ("brain", "database", 8889, "https", ["auctioneer-to-bbs", "ssh-proxy-to-bbs"]),
        ("brain", "database", 8891, "tls", ["auctioneer-to-locket", "tps-watcher-to-locket"]),
        ("brain", "cell", 61001, "ssh", ["ssh-proxy-to-app"]),
        ("brain", "cell", 65534, "tls", ["ssh-proxy-to-app"]),
        ("cell", "database", 8889, "tls", ["route-emitter-to-bbs", "rep-to-bbs"]),
        ("cell", "brain", 9091, "tls", ["rep-to-cc-uploader"]),
        ("cell", "brain", 8447, "tls", ["rep-to-file-server"]),
        ("cell", "database", 8891, "tls", ["rep-to-locket"]),
        ("database", "brain", 9016, "tls", ["bbs-to-auctioneer"]),
        ("database", "cell", 1801, "tls", ["bbs-to-rep"]),
        ("brain", "cc", 9023, "tls", ["brain-to-cc"]),
        ("brain", "cc", 9024, "tls", ["ssh-proxy-to-cc"]),
        ("brain", "uaa", 443, "tls", ["ssh-proxy-to-uaa"]),
        ("cell", "nats", 4222, "nats", ["route-emitter-to-nats"]),
        ("cell", "nats", 4225, "tls", ["route-emitter-to-nats"]),
        ("cell", "cc", 9023, "tls", ["rep-to-cc"]),
        ("cell", "blobstore", 4443, "tls", ["rep-to-blobstore"]),
        ("database", "cc", 9023, "tls", ["bbs-to-cc"]),
        ("database", "mysql", 3306, "mysql", ["bbs-to-mysql", "locket-to-mysql"]),
    ],
)
def test_documented_paths(
    foundation: Foundation, orig: str, resp: str, port: int, application: str, paths: list[str]
) -> None:
    told = foundation.says(orig, resp, port, application)
    assert (told.disposition, list(told.paths), told.breach, told.near_miss) == (DOCUMENTED, paths, None, None)
    assert told.orig_role == foundation.policy.path(paths[0]).orig_roles[0]
    assert told.required == foundation.policy.path(paths[0]).authentication


def test_components_are_named_where_all_candidates_name_the_same(foundation: Foundation) -> None:
    told = foundation.says("cell", "database", 8889)
    assert (told.orig_component, told.resp_component) == (None, "BBS")
    told = foundation.says("database", "cell", 1801)
    assert (told.orig_component, told.resp_component) == ("BBS", "Rep")


def test_refused_on_a_documented_port_is_documented(foundation: Foundation) -> None:
    told = foundation.says("cell", "database", 8889, attempt=True)
    assert (told.disposition, told.breach) == (DOCUMENTED, None)


# undeclared-connection, undeclared-port, undeclared-attempt ----------------------------------------------------------


def test_no_path_between_two_known_roles_is_an_undeclared_connection(foundation: Foundation) -> None:
    told = foundation.says("database", "uaa", 443)
    assert (told.disposition, told.breach) == (UNDECLARED, Breach.CONNECTION)
    assert told.near_miss is not None
    assert (told.near_miss.path, told.near_miss.differs) == ("ssh-proxy-to-uaa", "role")
    assert told.required is None
    assert told.paths == ()


def test_a_group_that_no_policy_knows_is_known_all_the_same(foundation: Foundation) -> None:
    told = foundation.says("cell", "mystery", 5672)
    assert (told.breach, told.resp_role) == (Breach.CONNECTION, "rabbitmq")


def test_a_documented_pair_on_another_port_is_an_undeclared_port(foundation: Foundation) -> None:
    told = foundation.says("cell", "database", 8890)
    assert (told.disposition, told.breach) == (UNDECLARED, Breach.PORT)
    assert told.near_miss is not None
    assert told.near_miss.differs == "port"
    assert told.near_miss.path in ("route-emitter-to-bbs", "rep-to-locket")


def test_a_documented_pair_on_another_transport_is_an_undeclared_port(foundation: Foundation) -> None:
    told = foundation.says("cell", "database", 8889, "unknown", transport="udp")
    assert told.breach is Breach.PORT
    assert told.near_miss is not None
    assert (told.near_miss.path, told.near_miss.differs) == ("route-emitter-to-bbs", "transport")


def test_icmp_between_a_documented_pair_has_the_other_transport(foundation: Foundation) -> None:
    told = foundation.says("brain", "cell", None, "none", transport="icmp")
    assert (told.breach, told.sibling) == (Breach.PORT, "bosh")
    assert told.near_miss is not None
    assert told.near_miss.differs == "transport"


def test_the_other_direction_is_no_path(foundation: Foundation) -> None:
    told = foundation.says("cell", "brain", 1801)
    assert told.disposition is UNDECLARED
    assert told.near_miss is not None
    assert (told.near_miss.path, told.near_miss.differs) == ("auctioneer-to-rep", "direction")
    assert (told.orig_role, told.resp_role) == ("diego_cell", "diego_brain")


def test_nothing_came_about_is_an_attempt_of_what_it_would_have_been(foundation: Foundation) -> None:
    for orig, resp, port, would_be in (
        ("database", "uaa", 443, Breach.CONNECTION),
        ("cell", "database", 8890, Breach.PORT),
        ("stranger", "cell", 22, Breach.UNKNOWN_HOST),
        ("brain", "cell", 22, Breach.PORT),
    ):
        told = foundation.says(orig, resp, port, attempt=True)
        assert (told.disposition, told.breach, told.would_be) == (UNDECLARED, Breach.ATTEMPT, would_be)


def test_the_near_miss_of_a_port_speaks_the_same_protocol(foundation: Foundation) -> None:
    told = foundation.says("brain", "cell", 61000, "ssh")
    assert told.near_miss is not None
    assert told.near_miss.path == "ssh-proxy-to-app"


# ssh-port-out-of-range -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [22, 2222, 61000, 65535])
def test_ssh_to_a_cell_outside_the_host_ports(foundation: Foundation, port: int) -> None:
    told = foundation.says("brain", "cell", port, "ssh")
    assert (told.disposition, told.breach) == (UNDECLARED, Breach.SSH_PORT)
    assert told.near_miss is not None
    assert (told.near_miss.path, told.near_miss.differs) == ("ssh-proxy-to-app", "port")


def test_its_neighbours(foundation: Foundation) -> None:
    assert foundation.says("brain", "cell", 61001, "ssh").breach is None
    assert foundation.says("brain", "cell", 2222, "tls").breach is Breach.PORT
    assert foundation.says("database", "cell", 2222, "ssh").breach is Breach.PORT
    assert foundation.says("cc", "cell", 2222, "ssh").breach is Breach.CONNECTION


# wrong-application ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orig", "resp", "port", "application"),
    [
        ("cell", "database", 8889, "ssh"), ("cell", "database", 8889, "mysql"), ("cell", "database", 8889, "unknown"),
        ("cell", "nats", 4222, "http"), ("cell", "nats", 4222, "https"), ("database", "mysql", 3306, "ssh"),
        ("brain", "cell", 61005, "http"), ("brain", "cell", 61005, "https"), ("brain", "cell", 61005, "unknown"),
        ("cell", "blobstore", 8080, "ssh"),
    ],
)  # fmt: skip
def test_another_protocol_than_the_documented(
    foundation: Foundation, orig: str, resp: str, port: int, application: str
) -> None:
    told = foundation.says(orig, resp, port, application)
    assert (told.disposition, told.breach) == (DOCUMENTED, Breach.APPLICATION)
    assert told.paths
    assert application not in told.expected_applications


@pytest.mark.parametrize(
    ("orig", "resp", "port", "application"),
    [
        ("cell", "nats", 4224, "tls"), ("database", "mysql", 3306, "tls"), ("brain", "cell", 61005, "tls"),
        ("cell", "blobstore", 4443, "http"), ("cell", "database", 8889, "https"), ("cell", "database", 8889, "none"),
    ],
)  # fmt: skip
def test_tls_around_it_is_the_documented_protocol_still(
    foundation: Foundation, orig: str, resp: str, port: int, application: str
) -> None:
    assert foundation.says(orig, resp, port, application).breach is None


def test_http_where_https_is_documented_lacks_protection_and_is_no_other_protocol(foundation: Foundation) -> None:
    told = foundation.says("cell", "database", 8889, "http")
    assert (told.disposition, told.breach) == (DOCUMENTED, None)
    assert told.expected_applications == {"tls", "https"}


def test_unrecognised_bytes_midstream_show_nothing(foundation: Foundation) -> None:
    assert foundation.says("cell", "database", 8889, "unknown", first_bytes=False).breach is None
    assert foundation.says("cell", "database", 8889, "ssh", first_bytes=False).breach is Breach.APPLICATION


# "Varies" ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [80, 8080, 8081, 50000])
@pytest.mark.parametrize("application", ["http", "https", "tls"])
def test_the_blobstore_on_any_port_by_its_content(foundation: Foundation, port: int, application: str) -> None:
    told = foundation.says("cell", "blobstore", port, application)
    assert (told.disposition, told.paths) == (DOCUMENTED, ("rep-to-blobstore",))


def test_without_content_the_port_is_undeclared(foundation: Foundation) -> None:
    for application in ("unknown", "none"):
        told = foundation.says("cell", "blobstore", 8080, application)
        assert (told.disposition, told.breach) == (UNDECLARED, Breach.PORT)
        assert told.near_miss is not None
        assert (told.near_miss.path, told.near_miss.differs) == ("rep-to-blobstore", "port")


def test_without_a_connection_it_is_an_attempt(foundation: Foundation) -> None:
    told = foundation.says("cell", "blobstore", 8080, attempt=True)
    assert (told.disposition, told.breach, told.would_be) == (UNDECLARED, Breach.ATTEMPT, Breach.PORT)


def test_the_internal_blobstores_own_port_is_documented_all_the_same(foundation: Foundation) -> None:
    assert foundation.says("cell", "blobstore", 4443, "none").disposition is DOCUMENTED
    assert foundation.says("cell", "blobstore", 4443, attempt=True).disposition is DOCUMENTED


def test_varies_is_any_tcp_port_and_no_udp_port(foundation: Foundation) -> None:
    told = foundation.says("cell", "blobstore", 8080, "unknown", transport="udp")
    assert told.breach is Breach.PORT


def test_another_blobstore_is_one_that_the_inventory_names(foundation: Foundation) -> None:
    told = foundation.says("cell", "s3", 443, "tls")
    assert (told.disposition, told.resp_role) == (DOCUMENTED, "blobstore")
    assert foundation.says("cell", "internet", 443, "tls").disposition is AMBIENT


def test_a_single_port_beats_a_range_beats_varies(build: Build) -> None:
    both = build("vms:\n  - {name: b/1, ips: [10.0.4.21], roles: [diego_brain]}\n"
                 "  - {name: x/1, ips: [10.0.4.20], roles: [diego_cell, nfs_server, nats]}\n"
                 "  - {name: c/1, ips: [10.0.4.30], roles: [diego_cell]}\n")  # fmt: skip
    assert both.says("brain", "cell", 1801).paths == ("auctioneer-to-rep",)
    assert both.says("cell2", "cell", 4222, "nats").paths == ("route-emitter-to-nats",)
    assert both.says("cell2", "cell", 4221, "http").paths == ("rep-to-blobstore",)


# unknown-host, cell-egress -------------------------------------------------------------------------------------------


def test_a_stranger_that_calls_a_diego_vm(foundation: Foundation) -> None:
    for who in ("stranger", "internet"):
        told = foundation.says(who, "cell", 61005, "tls")
        assert (told.disposition, told.breach) == (UNDECLARED, Breach.UNKNOWN_HOST)
        assert (told.orig_role, told.resp_role) == (None, "diego_cell")


def test_a_stranger_in_a_platform_network_that_is_called(foundation: Foundation) -> None:
    for who in ("cell", "brain", "database"):
        assert foundation.says(who, "stranger", 80, "http").breach is Breach.UNKNOWN_HOST


def test_a_cell_that_calls_out_is_ambient(foundation: Foundation) -> None:
    for transport, port in (("tcp", 443), ("udp", 53), ("icmp", None)):
        told = foundation.says("cell", "internet", port, "unknown", transport=transport)
        assert (told.disposition, told.breach) == (AMBIENT, Breach.CELL_EGRESS)
    assert foundation.says("cell", "internet", 443, attempt=True).breach is Breach.CELL_EGRESS
    assert foundation.says("cell", "ldap", 636, "tls").breach is Breach.CELL_EGRESS, "named, and outside all the same"


def test_a_cell_at_the_metadata_service_or_the_director_is_told_apart(foundation: Foundation, build: Build) -> None:
    told = foundation.says("cell", "metadata", 80, "http")
    assert (told.disposition, told.breach) == (AMBIENT, Breach.CELL_TO_METADATA)
    assert foundation.says("cell", "metadata", 53, "dns", transport="udp").breach is Breach.CELL_EGRESS, "its resolver"
    assert foundation.says("brain", "metadata", 80, "http").disposition is AMBIENT, "the BOSH agent's"
    assert foundation.says("cell", "internet", 25555, "tls").breach is Breach.CELL_TO_DIRECTOR
    named = build(VMS + "  - {name: bosh, ip: 172.16.0.6, role: bosh_director}\n")
    told = named.says("cell", "172.16.0.6", 25555, "tls")
    assert (told.disposition, told.breach) == (UNDECLARED, Breach.CONNECTION)


def test_a_platform_vm_that_is_no_cell_and_calls_out(foundation: Foundation, build: Build) -> None:
    for who in ("brain", "database"):
        told = foundation.says(who, "internet", 443)
        assert (told.disposition, told.breach) == (UNDECLARED, Breach.CONTROL_PLANE_EGRESS)
        tried = foundation.says(who, "internet", 443, attempt=True)
        assert (tried.breach, tried.would_be) == (Breach.ATTEMPT, Breach.CONTROL_PLANE_EGRESS)
    everything = build(scope="all")
    assert everything.says("uaa", "internet", 443).breach is Breach.CONTROL_PLANE_EGRESS
    assert everything.says("internet", "lb", 443).disposition is OUT_OF_SCOPE, "neither is a VM of the platform"


def test_services_that_every_bosh_vm_calls_and_no_list_of_vms_names(foundation: Foundation) -> None:
    outside = "172.16.9.9"
    for port, application, transport in (
        (53, "dns", "udp"), (123, "unknown", "udp"), (4222, "nats", "tcp"), (6514, "tls", "tcp"),
    ):  # fmt: skip
        told = foundation.says("brain", outside, port, application, transport=transport)
        assert (told.disposition, told.breach) == (UNDECLARED, Breach.INFRASTRUCTURE_EGRESS)
    assert foundation.says("brain", "internet", 4222, "nats").breach is Breach.CONTROL_PLANE_EGRESS, (
        "not on the internet"
    )
    assert foundation.says("brain", outside, 4222, "ssh").breach is Breach.CONTROL_PLANE_EGRESS, "not another protocol"


def test_whatever_is_undeclared_has_a_breach(build: Build) -> None:
    """Each breach is a rule's business, so nothing undeclared is without a finding."""
    hosts = ["cell", "brain", "database", "uaa", "nats", "lb", "stranger", "internet", "metadata", "ldap", "router"]
    for scope in ("diego", "all"):
        foundation = build(scope=scope)
        for one in hosts:
            for other in hosts:
                for port, application in (
                    (443, "tls"),
                    (53, "dns"),
                    (4222, "none"),
                    (61005, "unknown"),
                    (1801, "http"),
                ):
                    told = foundation.says(one, other, port, application)
                    assert told.disposition is not UNDECLARED or told.breach is not None, (scope, one, other, port)


def test_a_stranger_at_a_documented_responder_is_the_platforms_business(foundation: Foundation) -> None:
    told = foundation.says("stranger", "nats", 4222, "nats")
    assert (told.disposition, told.breach, told.resp_role) == (UNDECLARED, Breach.UNKNOWN_HOST, "nats")
    assert told.near_miss is not None
    assert (told.near_miss.path, told.near_miss.differs) == ("route-emitter-to-nats", "role")
    assert foundation.says("internet", "mysql", 3306, "mysql").breach is Breach.UNKNOWN_HOST


def test_a_stranger_elsewhere_is_not(foundation: Foundation) -> None:
    assert foundation.says("stranger", "nats", 22, "ssh").disposition is OUT_OF_SCOPE
    assert foundation.says("nats", "stranger", 4222, "nats").disposition is OUT_OF_SCOPE
    assert foundation.says("internet", "lb", 443, "tls").disposition is OUT_OF_SCOPE, "fronts are there for strangers"
    assert foundation.says("stranger", "internet", 443).disposition is OUT_OF_SCOPE


def test_where_no_network_is_named_the_neighbourhood_of_vms_counts(build: Build) -> None:
    near = build(VMS.replace("networks: [10.0.0.0/16]\n", ""))
    assert near.says("cell", "10.0.4.200", 80, "http").breach is Breach.UNKNOWN_HOST
    assert near.says("cell", "10.0.9.99", 80, "http").breach is Breach.CELL_EGRESS
    assert near.says("cell", "192.0.2.99", 80, "http").breach is Breach.CELL_EGRESS, "externals make no network"


# Addresses that are no hosts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resp", "kind"),
    [
        ("169.254.0.2", "link-local"), ("127.0.0.1", "loopback"), ("224.0.0.251", "multicast"), ("ff02::1", "multicast"),
        ("fe80::1", "link-local"), ("255.255.255.255", "broadcast"), ("10.0.255.255", "broadcast"), ("::", "unspecified"),
    ],
)  # fmt: skip
def test_nobody_unknown_stands_behind_them(foundation: Foundation, resp: str, kind: str) -> None:
    told = foundation.says("cell", resp, 53, "dns", transport="udp")
    assert (told.disposition, told.breach) == (AMBIENT, None)
    assert kind in told.says
    assert foundation.says("uaa", resp, 53, "dns", transport="udp").disposition is OUT_OF_SCOPE


def test_one_address_at_both_ends_stays_inside_one_vm(foundation: Foundation) -> None:
    told = foundation.says("cell", "cell", 1801)
    assert (told.disposition, told.breach) == (AMBIENT, None)
    assert foundation.says("cell", "cell2", 1801).breach is Breach.CONNECTION


# Scope ---------------------------------------------------------------------------------------------------------------


def test_two_known_vms_that_are_not_diegos(foundation: Foundation, build: Build) -> None:
    assert foundation.says("router", "uaa", 8443).disposition is OUT_OF_SCOPE
    told = build(scope="all").says("router", "uaa", 8443)
    assert (told.disposition, told.breach, told.sibling) == (UNDECLARED, Breach.CONNECTION, "routing")


def test_scope_all_judges_strangers_too_and_finds_no_more_than_the_rule_says(build: Build) -> None:
    everything = build(scope="all")
    told = everything.says("internet", "router", 443)
    assert (told.disposition, told.breach) == (AMBIENT, None), "the platform's front door"
    assert everything.says("stranger", "router", 443).breach is Breach.UNKNOWN_HOST


def test_cf_deployments_names(build: Build) -> None:
    cf = build("""
- {ip: 10.0.4.20, name: diego-cell/1}
- {ip: 10.0.4.21, name: scheduler/1}
- {ip: 10.0.4.22, name: diego-api/1}
- {ip: 10.0.4.23, name: uaa/1}
- {ip: 10.0.4.26, name: api/1}
- {ip: 10.0.4.36, name: api/2}
- {ip: 10.0.4.27, name: singleton-blobstore/1}
- {ip: 10.0.4.28, name: database/1}
""")
    assert cf.says("brain", "cell", 1801).paths == ("auctioneer-to-rep",)
    assert cf.says("cell", "cc", 9091).paths == ("rep-to-cc-uploader",), "CC Uploader is on api"
    assert cf.says("cell", "brain", 9091).paths == ("rep-to-cc-uploader",)
    assert cf.says("cell", "blobstore", 4443).paths == ("rep-to-blobstore",)
    assert cf.says("database", "mysql", 3306, "mysql").paths == ("bbs-to-mysql", "locket-to-mysql")
    assert cf.says("cc", "10.0.4.36", 9023).paths == ("brain-to-cc",), "CC Uploader calls the Cloud Controller"
    api_to_rep = cf.says("cc", "cell", 1801)
    assert (api_to_rep.breach, api_to_rep.orig_role) == (Breach.CONNECTION, "cloud_controller"), "no Auctioneer there"
    assert cf.says("cc", "uaa", 8443).disposition is OUT_OF_SCOPE, "the Cloud Controller's own business"
    assert cf.says("uaa", "cc", 9091).breach is Breach.CONNECTION, "a Diego component's port is Diego's business"
    assert cf.says("uaa", "cc", 9024).disposition is OUT_OF_SCOPE


def test_small_footprint(build: Build) -> None:
    small = build("""
- {ip: 10.0.4.20, name: compute/1}
- {ip: 10.0.4.21, name: control/1}
- {ip: 10.0.4.31, name: control/2}
- {ip: 10.0.4.28, name: database/1}
""")
    told = small.says("brain", "cell", 1801)
    assert told.paths == ("auctioneer-to-rep", "bbs-to-rep")
    assert (told.orig_role, told.orig_component, told.resp_component) == ("diego_brain", None, "Rep")
    assert small.says("brain", "10.0.4.31", 8889).paths == ("cc-to-bbs", "auctioneer-to-bbs", "ssh-proxy-to-bbs")
    assert small.says("brain", "10.0.4.31", 9024).required == "oauth2"
    assert small.says("cell", "mysql", 4222, "nats").paths == ("route-emitter-to-nats",)
    assert small.says("brain", "mysql", 3306, "mysql").resp_role == "mysql_proxy"
    assert small.says("brain", "cell", 22, "ssh").breach is Breach.SSH_PORT
    undeclared = small.says("brain", "mysql", 4222, "nats")
    assert (undeclared.disposition, undeclared.sibling) == (UNDECLARED, "c2c"), "judged by the union of eleven roles"


def test_candidates_that_ask_for_different_things(build: Build) -> None:
    small = build("- {ip: 10.0.4.21, roles: [diego_brain]}\n- {ip: 10.0.4.30, roles: [diego_cell, nfs_server]}\n"
                  "- {ip: 10.0.4.20, roles: [diego_cell, diego_brain]}\n- {ip: 10.0.4.22, roles: [cloud_controller, nats]}\n")  # fmt: skip
    told = small.says("cell", "10.0.4.22", 9023)
    assert told.required == "mutual_tls"
    assert told.paths == ("brain-to-cc", "rep-to-cc")


# Fronts --------------------------------------------------------------------------------------------------------------


def test_an_address_that_fronts_uaa_passes_for_it_on_its_port(foundation: Foundation) -> None:
    told = foundation.says("brain", "lb", 443)
    assert (told.disposition, told.paths, told.resp_role) == (DOCUMENTED, ("ssh-proxy-to-uaa",), "uaa")
    other = foundation.says("brain", "lb", 444)
    assert other.breach is Breach.PORT
    assert other.near_miss is not None
    assert other.near_miss.differs == "port"


def test_fronted_ports_may_be_named(build: Build) -> None:
    own = build(VMS.replace("fronts: uaa", "fronts: {role: uaa, ports: 8443}"))
    assert own.says("brain", "lb", 443).disposition is UNDECLARED


def test_a_router_is_no_uaa_by_itself(foundation: Foundation) -> None:
    told = foundation.says("brain", "router", 443)
    assert told.breach is Breach.CONNECTION
    assert told.near_miss is not None
    assert (told.near_miss.path, told.near_miss.differs) == ("ssh-proxy-to-uaa", "role")


# Direction -----------------------------------------------------------------------------------------------------------


def test_a_documented_listener_turns_a_guess(foundation: Foundation) -> None:
    told = foundation.says("cell", "brain", 40000, guessed_from=1801)
    assert (told.disposition, told.paths) == (DOCUMENTED, ("auctioneer-to-rep",))
    assert (told.flipped, told.decided_by_policy) == (True, True)
    assert (told.orig_role, told.resp_role) == ("diego_brain", "diego_cell")


def test_a_documented_listener_confirms_a_guess(foundation: Foundation) -> None:
    told = foundation.says("brain", "cell", 1801, guessed_from=40000)
    assert (told.flipped, told.decided_by_policy, told.disposition) == (False, True, DOCUMENTED)


def test_a_range_never_makes_an_end_a_listener(foundation: Foundation) -> None:
    told = foundation.says("cell", "brain", 40000, "ssh", guessed_from=61005)
    assert (told.flipped, told.decided_by_policy, told.disposition) == (False, False, UNDECLARED)
    assert told.near_miss is not None
    assert (told.near_miss.path, told.near_miss.differs) == ("ssh-proxy-to-app", "direction")


def test_varies_never_makes_an_end_a_listener(foundation: Foundation) -> None:
    told = foundation.says("blobstore", "cell", 50000, "http", guessed_from=8080)
    assert (told.flipped, told.decided_by_policy) == (False, False)


def test_the_lower_port_decides_nothing(foundation: Foundation) -> None:
    told = foundation.says("brain", "database", 50000, guessed_from=22)
    assert (told.flipped, told.decided_by_policy) == (False, False)


def test_two_possible_listeners_decide_nothing(foundation: Foundation) -> None:
    told = foundation.says("brain", "cell", 1801, guessed_from=9091)
    assert (told.flipped, told.decided_by_policy) == (False, False)


def test_a_path_between_the_roles_weighs_more_than_a_port_alone(foundation: Foundation) -> None:
    # A router's source port may be 8889; here it is the database's, and a cell's is its rep's.
    told = foundation.says("router", "database", 8889, guessed_from=443)
    assert (told.flipped, told.decided_by_policy) == (False, True)
    told = foundation.says("database", "cell", 40000, guessed_from=8889)
    assert (told.flipped, told.paths) == (True, ("route-emitter-to-bbs", "rep-to-bbs"))


def test_an_app_that_calls_out_is_not_called(foundation: Foundation) -> None:
    told = foundation.says("internet", "cell", 43210, guessed_from=443)
    assert (told.disposition, told.breach, told.flipped) == (AMBIENT, Breach.CELL_EGRESS, True)
    told = foundation.says("internet", "cell", 1801, guessed_from=443)
    assert (told.breach, told.flipped) == (Breach.UNKNOWN_HOST, False)


def test_what_was_seen_to_open_is_not_turned(foundation: Foundation) -> None:
    told = foundation.says("cell", "brain", 40000)
    assert (told.flipped, told.decided_by_policy, told.disposition) == (False, False, UNDECLARED)


# Overlays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orig", "resp", "port", "application", "transport", "sibling"),
    [
        ("cell", "uaa", 8853, "tls", "tcp", "bosh-dns"), ("cell", "cell2", 4789, "unknown", "udp", "c2c"),
        ("router", "cell", 61005, "http", "tcp", "routing"), ("cell", "uaa", 8443, "tls", "tcp", "routing"),
        ("cell", "brain", 8443, "tls", "tcp", "cf-deployment"), ("cell", "uaa", 8853, "ssh", "tcp", None),
        ("database", "uaa", 12345, "tls", "tcp", None),
    ],
)  # fmt: skip
def test_undeclared_traffic_names_the_overlay_that_would_explain_it(
    foundation: Foundation, orig: str, resp: str, port: int, application: str, transport: str, sibling: str | None
) -> None:
    told = foundation.says(orig, resp, port, application, transport=transport)
    assert (told.disposition, told.sibling) == (UNDECLARED, sibling)


def test_loaded_overlays_make_it_ambient(build: Build) -> None:
    more = build(policies=("bosh-dns", "c2c", "routing"))
    told = more.says("cell", "uaa", 8853)
    assert (told.disposition, told.paths, told.required) == (AMBIENT, ("bosh-dns-health",), "mutual_tls")
    assert more.says("cell", "cell2", 4789, "unknown", transport="udp").disposition is AMBIENT
    assert more.says("router", "cell", 61005, "http").paths == ("gorouter-to-app-instances",)
    assert more.says("cell", "database", 8889).disposition is DOCUMENTED, "documented beats ambient"
    assert more.says("router", "uaa", 8443).disposition is OUT_OF_SCOPE
    assert more.says("cell", "uaa", 8853, "ssh").breach is Breach.APPLICATION, "judged like a documented path"


def test_a_path_open_to_any_vm_documents_no_pair(build: Build) -> None:
    more = build(policies=("bosh-dns", "bosh"))
    assert more.says("database", "uaa", 443).breach is Breach.CONNECTION
    assert more.says("stranger", "cell", 8853).breach is Breach.UNKNOWN_HOST, "any VM is any VM of the inventory"


# Leases --------------------------------------------------------------------------------------------------------------


def test_the_lease_at_the_packets_time_counts(build: Build) -> None:
    moved = build("""
- {ip: 10.0.4.20, name: diego_cell/1, until: 1970-01-01T01:00:00Z}
- {ip: 10.0.4.20, name: uaa/1, from: 1970-01-01T02:00:00Z}
- {ip: 10.0.4.21, name: diego_brain/1}
""")
    hour = 3_600_000_000_000
    assert moved.says("brain", "cell", 1801, at_ns=0).disposition is DOCUMENTED
    assert moved.says("brain", "cell", 1801, at_ns=hour).breach is Breach.UNKNOWN_HOST
    assert moved.says("brain", "cell", 443, at_ns=2 * hour).paths == ("ssh-proxy-to-uaa",)


# Properties ----------------------------------------------------------------------------------------------------------

_POLICY = load_policy()
_NAMES = sorted(ADDRESSES)
_PORTS = [None, 22, 53, 443, 1801, 3306, 4222, 4443, 8080, 8447, 8889, 8891, 9016, 9023, 9091, 61001, 65535]
_APPLICATIONS = ["tls", "https", "http", "ssh", "mysql", "nats", "dns", "unknown", "none"]
_SPECIAL = [
    "127.0.0.1",
    "169.254.0.2",
    "224.0.0.1",
    "0.0.0.1",
    "255.255.255.255",
    "ff02::1",
    "fe80::9",
    "::1",
    "2001:db8::1",
]

flows = st.builds(
    Flow,
    orig_h=st.sampled_from([to_int(ADDRESSES.get(name, name)) for name in [*_NAMES, *_SPECIAL]])
    | st.integers(0, 2**128 - 1),
    resp_h=st.sampled_from([to_int(ADDRESSES.get(name, name)) for name in [*_NAMES, *_SPECIAL]]),
    resp_p=st.sampled_from(_PORTS) | st.integers(0, 65535),
    transport=st.sampled_from(["tcp", "udp", "icmp", "icmp6", "sctp", "esp", "ip-200"]),
    application=st.sampled_from(_APPLICATIONS),
    outcome=st.sampled_from(Outcome),
    directed=st.booleans(),
    start_ns=st.sampled_from([0, 10**18]),
    first_bytes=st.booleans(),
    orig_p=st.none() | st.sampled_from(_PORTS),
)


@pytest.fixture(params=["diego", "all"])
def scoped(request: pytest.FixtureRequest, build: Build) -> Foundation:
    return build(scope=request.param)


@given(flow=flows)
def test_any_flow_has_an_answer(scoped: Foundation, flow: Flow) -> None:
    told = scoped.classifier.classify(flow)
    assert (told.disposition is DOCUMENTED) <= bool(told.paths)
    assert bool(told.paths) <= (told.disposition in (DOCUMENTED, AMBIENT))
    assert (told.required is None) == (not told.paths)
    assert (told.near_miss is not None) <= (told.disposition is UNDECLARED)
    assert (told.breach is Breach.ATTEMPT) == (told.would_be is not None)
    assert (told.breach is Breach.APPLICATION) <= bool(told.paths)
    assert told.flipped <= (not flow.directed)
    assert told.says
    assert told == Classifier(scoped.policy, scoped.inventory, scoped.classifier.scope).classify(flow), "pure"


@given(flow=flows)
def test_a_directed_flow_is_documented_only_along_a_path(scoped: Foundation, flow: Flow) -> None:
    if not flow.directed:
        return
    told = scoped.classifier.classify(flow)
    orig, resp = scoped.inventory.lookup(flow.orig_h), scoped.inventory.lookup(flow.resp_h)
    for name in told.paths:
        path = scoped.policy.path(name)
        assert orig is not None
        assert resp is not None
        assert set(path.orig_roles) & set(orig.roles)
        assert set(path.resp_roles) & ({*resp.roles} | {front.role for front in resp.fronts})
        assert path.fit(flow.resp_p, flow.transport) is not None


@pytest.mark.parametrize("port", [1801, 8889, 8891, 9016, 9091, 8447, 9023, 4222, 3306])
def test_a_reversed_path_is_never_documented_unless_it_is_one(foundation: Foundation, port: int) -> None:
    everyone = ("cell", "brain", "database", "uaa", "nats", "cc", "mysql", "blobstore")
    for orig, resp in itertools.permutations(everyone, 2):
        there, back = foundation.says(orig, resp, port, "tls"), foundation.says(resp, orig, port, "tls")
        if there.disposition is DOCUMENTED and back.disposition is DOCUMENTED:
            assert set(there.paths).isdisjoint(back.paths)
        if there.paths not in ((), ("rep-to-blobstore",)) and back.disposition is UNDECLARED:
            assert back.near_miss is not None
            assert back.near_miss.differs == "direction"


_ENTRIES = [
    Entry("f", str(at), name, name.split("/")[0], (), ((to_int(address),) * 2,), *lease)
    for at, (name, address, lease) in enumerate(
        [
            ("diego_cell/1", "10.0.4.20", (None, 100)), ("uaa/1", "10.0.4.20", (50, None)), ("api/1", "10.0.4.26", (None, None)),
            ("diego_brain/1", "10.0.4.21", (None, None)), ("control/1", "10.0.4.21", (10, 20)), ("nats/1", "10.0.4.24", (None, None)),
        ]
    )
]  # fmt: skip


@given(order=st.permutations(_ENTRIES), flow=flows, at_ns=st.integers(0, 120))
def test_the_order_of_entries_decides_nothing(tas_diego: Policy, order: list[Entry], flow: Flow, at_ns: int) -> None:
    one, other = Inventory(tuple(_ENTRIES), tas_diego), Inventory(tuple(order), tas_diego)
    assert one.conflicts == other.conflicts
    timed = Flow(flow.orig_h, flow.resp_h, flow.resp_p, flow.transport, flow.application, flow.outcome, True, at_ns)
    assert Classifier(tas_diego, one).classify(timed) == Classifier(tas_diego, other).classify(timed)


def test_scope_is_one_of_two(foundation: Foundation) -> None:
    with pytest.raises(ValueError, match="scope"):
        Classifier(foundation.policy, foundation.inventory, "some")  # type: ignore[arg-type]


@given(port=st.integers(0, 65_535) | st.sampled_from([None, 443, 444, 8889, 61_000, 61_001, 65_534, 65_535]))
def test_ports_of_one_stretch_fit_alike(port: int | None) -> None:
    """What is remembered of a stretch of ports is what each path says of the port."""
    policy = load_policy()
    asked = Classifier(policy, Inventory([], policy))
    for transport in ("tcp", "udp", "icmp"):
        # The ports that were asked for first stand for their stretch.
        for other in (1, 9_000, 62_000, port):
            found = asked._fitting(policy.paths, other, transport)
            told = [(path, path.fit(other, transport)) for path in policy.paths]
            assert found == [(path, fit) for path, fit in told if fit is not None]


# Stretches of ports ---------------------------------------------------------------------------------------------------


@given(
    ends=st.tuples(*(st.sampled_from(sorted(ADDRESSES.values())) for _ in range(2))),
    application=st.sampled_from(["tls", "http", "ssh", "mysql", "none", "unknown"]),
    transport=st.sampled_from(["tcp", "udp"]),
    outcome=st.sampled_from(Outcome),
    stretch=st.integers(0, 10_000),
    share=st.floats(0, 1),
)
def test_an_answer_that_ports_share_is_the_one_that_each_would_have(
    foundation: Foundation, ends: tuple[str, str], application: str, transport: str, outcome: Outcome, stretch: int, share: float
) -> None:  # fmt: skip
    shared, alone = (Classifier(foundation.policy, foundation.inventory) for _ in range(2))
    alone._bounds = EACH_PORT
    bounds = [*(edge for edge in shared.bounds if edge <= 65_535), 65_536]
    first, after = list(itertools.pairwise(bounds))[stretch % (len(bounds) - 1)]
    for port in (first, first + round(share * (after - 1 - first)), after - 1):
        flow = Flow(to_int(ends[0]), to_int(ends[1]), port, transport, application, outcome, True, 0)
        assert shared.classify(flow) == alone.classify(flow)


EACH_PORT = list(range(65_536))


def test_the_near_miss_of_a_port_is_the_nearest_one(foundation: Foundation) -> None:
    """9022 is the Cloud Controller's port without TLS: its neighbour is 9023, not the Routing API's 3000."""
    told = foundation.says("cell", "cc", 9022, "http")
    assert told.near_miss is not None
    assert (told.near_miss.path, told.near_miss.differs) == ("rep-to-cc", "port")
