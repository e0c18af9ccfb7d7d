"""What paths, roles and names answer."""

from __future__ import annotations

import pytest

from auditor.policy.loader import load_policy
from auditor.policy.policy import Fit, Held, Policy, authentication_text, canonical, ports_text, slug


@pytest.mark.parametrize(
    ("path", "port", "transport", "fit"),
    [
        ("auctioneer-to-rep", 1801, "tcp", Fit.SINGLE), ("auctioneer-to-rep", 1802, "tcp", None),
        ("auctioneer-to-rep", 1801, "udp", None), ("ssh-proxy-to-app", 61001, "tcp", Fit.RANGE),
        ("ssh-proxy-to-app", 61000, "tcp", None), ("rep-to-blobstore", 4443, "tcp", Fit.SINGLE),
        ("rep-to-blobstore", 1, "tcp", Fit.VARIES), ("rep-to-blobstore", 1, "udp", None),
        ("route-emitter-to-nats", 4224, "tcp", Fit.SINGLE), ("route-emitter-to-nats", 4226, "tcp", None),
    ],
)  # fmt: skip
def test_how_closely_a_path_names_a_port(
    tas_diego: Policy, path: str, port: int, transport: str, fit: Fit | None
) -> None:
    assert tas_diego.path(path).fit(port, transport) is fit


def test_transports_without_ports() -> None:
    path = load_policy(["bosh"]).path("icmp-between-vms")
    assert path.fit(None, "icmp6") is Fit.SINGLE
    assert path.fit(None, "tcp") is None
    assert path.transport == "icmp and icmp6"


def test_a_part_of_a_role_plays_only_its_components() -> None:
    part = Held("diego_brain", frozenset({"file_server"}))
    assert part.plays("diego_brain", "file_server")
    assert part.plays("diego_brain", None)
    assert not part.plays("diego_brain", "auctioneer")
    assert not part.plays("diego_cell", None)
    assert Held("diego_brain").plays("diego_brain", "auctioneer")


def test_components_that_a_vm_can_hold(tas_diego: Policy) -> None:
    api = tas_diego.held_by("api") or ()
    components = tas_diego.components_of(api)
    assert {"cloud_controller", "routing_api", "cc_uploader", "policy_server"} <= components
    assert not {"auctioneer", "bbs"} & components


def test_names_and_texts() -> None:
    assert slug("local Route Emitter") == "route_emitter"
    assert slug("CC Uploader") == "cc_uploader"
    assert canonical(" Diego-Cell ") == "diego_cell"
    assert ports_text([(1, 1), (5, 9)]) == "1, 5-9"
    assert authentication_text({"all": ["tls", {"any": ["basic", "signed_url"]}]}) == (
        "TLS and (Basic authentication or Signed URLs)"
    )


def test_an_unknown_path(tas_diego: Policy) -> None:
    with pytest.raises(KeyError):
        tas_diego.path("rep-to-moon")
