"""A small foundation: who is where, and a way to write flows as they are said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.model.judgement import Classification, Flow, Outcome
from auditor.policy.addresses import to_int
from auditor.policy.classify import Classifier
from auditor.policy.inventory import Inventory, load_inventory
from auditor.policy.loader import load_policy
from auditor.policy.policy import Policy

ADDRESSES = {
    "cell": "10.0.4.20", "cell2": "10.0.4.30", "brain": "10.0.4.21", "database": "10.0.4.22", "uaa": "10.0.4.23",
    "nats": "10.0.4.24", "router": "10.0.4.25", "cc": "10.0.4.26", "blobstore": "10.0.4.27", "mysql": "10.0.4.28",
    "mystery": "10.0.4.29", "lb": "192.0.2.10", "s3": "198.51.100.7", "ldap": "192.0.2.20",
    "stranger": "10.0.9.99", "internet": "203.0.113.5", "metadata": "169.254.169.254",
}  # fmt: skip

VMS = """
networks: [10.0.0.0/16]
vms:
  - {name: diego_cell/c1, ips: [10.0.4.20]}
  - {name: diego_cell/c2, ips: [10.0.4.30]}
  - {name: diego_brain/b1, ips: [10.0.4.21]}
  - {name: diego_database/d1, ips: [10.0.4.22]}
  - {name: uaa/u1, ips: [10.0.4.23]}
  - {name: nats/n1, ips: [10.0.4.24]}
  - {name: router/r1, ips: [10.0.4.25]}
  - {name: cloud_controller/cc1, ips: [10.0.4.26]}
  - {name: nfs_server/nfs1, ips: [10.0.4.27]}
  - {name: mysql_proxy/m1, ips: [10.0.4.28]}
  - {name: rabbitmq/q1, ips: [10.0.4.29]}
externals:
  - {name: edge, ips: [192.0.2.10], role: load_balancer, fronts: uaa}
  - {name: s3, cidrs: [198.51.100.0/24], role: blobstore}
  - {name: directory, ips: [192.0.2.20], role: ldap}
"""


class Foundation:
    """Policy, inventory and classifier, and flows in words."""

    def __init__(self, policy: Policy, inventory: Inventory, scope: str = "diego") -> None:
        self.policy, self.inventory = policy, inventory
        self.classifier = Classifier(policy, inventory, "all" if scope == "all" else "diego")

    def flow(
        self,
        orig: str,
        resp: str,
        port: int | None,
        application: str = "tls",
        *,
        transport: str = "tcp",
        attempt: bool = False,
        guessed_from: int | None = None,
        first_bytes: bool = True,
        at_ns: int = 0,
    ) -> Flow:
        """``guessed_from``: nobody knows who opened it, and this is the port at the end that is called originator."""
        outcome = Outcome.ATTEMPT if attempt else Outcome.ESTABLISHED
        return Flow(
            to_int(ADDRESSES.get(orig, orig)), to_int(ADDRESSES.get(resp, resp)), port, transport,
            "none" if attempt else application, outcome, guessed_from is None, at_ns, first_bytes, guessed_from,
        )  # fmt: skip

    def says(self, orig: str, resp: str, port: int | None, application: str = "tls", **more: object) -> Classification:
        return self.classifier.classify(self.flow(orig, resp, port, application, **more))  # type: ignore[arg-type]


Build = Callable[..., Foundation]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A foundation from inventory text, policies and scope."""

    def make(
        vms: str = VMS, policies: tuple[str, ...] = (), scope: str = "diego", release: str | None = None
    ) -> Foundation:
        policy = load_policy(policies, release=release)
        file = tmp_path / "vms.yml"
        file.write_text(vms)
        return Foundation(policy, load_inventory([str(file)], policy), scope)

    return make


@pytest.fixture
def foundation(build: Build) -> Foundation:
    """TAS: one of each."""
    return build()


@pytest.fixture(scope="session")
def tas_diego() -> Policy:
    return load_policy()
