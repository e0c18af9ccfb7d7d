"""A foundation with certificate names that no table has: nobody honest is accused, and who differs from its peers is."""

from __future__ import annotations

import ipaddress
import random
import tempfile
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from hypothesis import assume, given
from hypothesis import strategies as st

from auditor.model.judgement import CONVENTION, Fault
from auditor.policy.addresses import to_int
from auditor.policy.certificates import CertificateJudge, load_cas
from auditor.policy.classify import Classifier
from auditor.policy.inventory import load_inventory
from auditor.policy.learnt import Learnt, fold, learn
from auditor.policy.loader import load_policy
from tests.policy.scenes import Scene, table_of
from tests.policy.test_certificates import DAY, NOW, Made, key

VMS = {
    **{f"diego_cell/{k}": f"10.0.4.{20 + k}" for k in range(6)},
    **{f"diego_brain/{k}": f"10.0.4.{40 + k}" for k in range(3)},
    **{f"diego_database/{k}": f"10.0.4.{50 + k}" for k in range(3)},
    "cloud_controller/0": "10.0.4.60",
    "nats/0": "10.0.4.70",
}
BBS, LOCKET, REP, UPLOADER, CC = 8889, 8891, 1801, 9091, 9023


@cache
def paper(
    name: str,
    *sans: str,
    issuer: str = "ops-manager",
    signer: str = "",
    held: str = "",
    unit: str = "",
    root: bool = False,
    marks: bool = True,
) -> Made:
    """A certificate. signer: whose key, where it is not the issuer's; held: whose key is certified; marks: it names its authority's key."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if unit:
        subject.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    signs, mine = key(f"of {signer or issuer}", 0), key(f"of {held or name}", 0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(mine.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(each) for each in sans]), critical=False)
    if root:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(mine.public_key()), critical=False)
    if marks:
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key())
        builder = builder.add_extension(above, critical=False)
    cert = builder.sign(signs, hashes.SHA256())
    from cryptography.hazmat.primitives.serialization import Encoding

    return Made(cert.public_bytes(Encoding.DER), cert)


def _general(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@dataclass(frozen=True)
class Observation:
    """So many connections between two VMs, with the certificates that they show."""

    orig: str
    resp: str
    port: int
    client: tuple[Made, ...] = ()
    server: tuple[Made, ...] = ()
    times: int = 1


def shows(
    vm: str, port: int, *client: Made, times: int = 1, to: str = "", server: tuple[Made, ...] = ()
) -> Observation:
    homes = {
        BBS: "diego_database/0",
        LOCKET: "diego_database/0",
        UPLOADER: "diego_brain/0",
        CC: "cloud_controller/0",
        REP: "diego_cell/0",
    }
    return Observation(vm, to or homes[port], port, client, server, times)


class Lab:
    """The foundation, and what is learnt of connections in it."""

    def __init__(
        self, folder: Path, policies: tuple[str, ...] = (), origin: str = "", vms: dict[str, str] = VMS
    ) -> None:
        self.policy = load_policy(policies)
        file = folder / "vms.yml"
        told = f", origin: {origin}" if origin else ""
        file.write_text("vms:\n" + "".join(f"  - {{name: {name}, ips: [{ip}]{told}}}\n" for name, ip in vms.items()))
        self.vms = vms
        self.inventory = load_inventory([str(file)], self.policy)
        self.options: dict[str, Any] = {}
        self.rows: list[Observation] = []

    def learnt(self, *seen: Observation) -> Learnt:
        return learn(*self.told(*seen))

    def told(self, *seen: Observation) -> tuple[Any, ...]:
        """What ``learn`` is asked."""
        self.rows = [each for each in seen for _ in range(each.times)]
        classifier = Classifier(self.policy, self.inventory, "diego")
        addresses = sorted({self.vms[name] for each in seen for name in (each.orig, each.resp)})
        classes: list[Any] = []
        of_row, scenes = [], []
        from auditor.model.judgement import Flow, Outcome

        der: dict[str, bytes] = {}
        for k, each in enumerate(self.rows):
            flow = Flow(to_int(self.vms[each.orig]), to_int(self.vms[each.resp]), each.port, "tcp", "tls", Outcome.ESTABLISHED, True, 0)  # fmt: skip
            told = classifier.classify(flow)
            assert told.paths, (each.orig, each.resp, each.port)
            if told not in classes:
                classes.append(told)
            of_row.append(classes.index(told))
            facts: dict[str, Any] = {"tls.version": "TLS 1.2"}
            for side, chain in (("client", each.client), ("server", each.server)):
                if chain:
                    der.update({one.mark: one.der for one in chain})
                    facts[f"tls.{side}_certificates"] = tuple(one.mark for one in chain)
            ends = addresses.index(self.vms[each.orig]), addresses.index(self.vms[each.resp])
            scenes.append(Scene("tls", facts, told, start_s=k, ends=ends, port=each.port))
        table = replace(table_of(scenes), addresses=tuple(map(to_int, addresses)), ip_versions=(4,) * len(addresses))
        hosts = [self.inventory.lookup(address) for address in table.addresses]
        judge = CertificateJudge(der, self.policy, self.options.get("ca"))
        ends = table.orig_h.astype(np.int32), table.resp_h.astype(np.int32)
        return table, classes, np.array(of_row, np.int32), judge, self.inventory, (*ends, hosts)

    def faults(self, *seen: Observation) -> dict[tuple[str, str], Fault]:
        """Those that accuse, by who opened the connection and what it is about."""
        found = self.learnt(*seen)
        out: dict[tuple[str, str], Fault] = {}
        if found.of_row is None:
            return out
        for row, place in enumerate(found.of_row.tolist()):
            for fault in found.faults[place]:
                if fault.rule != CONVENTION:
                    out[self.rows[row].orig, fault.about] = fault
        return out

    def conventions(self, *seen: Observation) -> set[str]:
        found = self.learnt(*seen)
        return {fault.says for faults in found.faults for fault in faults if fault.rule == CONVENTION}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


CELLS = [f"diego_cell/{k}" for k in range(6)]
REP_PAPER, EMITTER = paper("rep.tas.example"), paper("emitter.tas.example")
BRAINS = [f"diego_brain/{k}" for k in range(3)]


def honest() -> list[Observation]:
    """A foundation of names of its own. Of the brains one holds the lock: its names nobody else shows."""
    return [
        *(shows(cell, BBS, REP_PAPER, times=2) for cell in CELLS),
        *(shows(cell, BBS, EMITTER) for cell in CELLS),
        *(shows(cell, LOCKET, REP_PAPER) for cell in CELLS),
        *(shows(cell, UPLOADER, REP_PAPER) for cell in CELLS[:3]),
        *(shows(brain, BBS, paper("sshproxy.tas.example"), times=2) for brain in BRAINS),
        shows("diego_brain/0", BBS, paper("auction.tas.example"), times=9),
        shows("diego_brain/0", CC, paper("watch.tas.example"), times=3),
        shows("diego_brain/1", CC, paper("upload.tas.example")),
        *(shows("diego_brain/0", REP, paper("auction.tas.example"), to=cell, server=(paper("cellrep.tas.example"),)) for cell in CELLS),
        shows("cloud_controller/0", BBS, paper("cc.tas.example"), times=4, server=(paper("bbs.tas.example"),)),
    ]  # fmt: skip


# Nobody honest is accused --------------------------------------------------------------------------------------------


def test_an_honest_foundation_of_other_names_has_no_fault(lab: Lab) -> None:
    assert lab.faults(*honest()) == {}
    assert "diego_cell calls itself rep.tas.example" in lab.conventions(*honest())
    assert "diego_database answers as bbs.tas.example" in lab.conventions(*honest())


def test_names_of_a_table_given_to_others_are_a_convention(lab: Lab) -> None:
    """One client certificate for each service, whoever calls: half of cf-deployment's names, in other hands."""
    seen = [
        *(shows(cell, BBS, paper("bbs-client")) for cell in CELLS),
        *(shows(cell, LOCKET, paper("locket-client"), times=2) for cell in CELLS),
        shows("diego_brain/0", BBS, paper("bbs-client"), times=3),
        shows("diego_brain/0", LOCKET, paper("locket-client"), times=3),
        shows("diego_brain/0", REP, paper("rep-client"), times=3),
        shows("diego_database/0", REP, paper("rep-client"), times=3),
        shows("diego_database/0", CC, paper("auctioneer-client")),
        shows("cloud_controller/0", BBS, paper("bbs-client"), times=3),
    ]
    found = lab.learnt(*seen)
    assert lab.faults(*seen) == {}
    assert found.confirmed == ()
    assert "cloud_controller calls itself bbs-client" in lab.conventions(*seen)


def test_a_name_for_each_vm_is_a_pattern(lab: Lab) -> None:
    assert (
        lab.faults(
            *(shows(cell, UPLOADER, paper(f"rep-{k}.z{k % 2}.example", held=cell)) for k, cell in enumerate(CELLS))
        )
        == {}
    )
    odd = ["ab", "xq", "pl", "zz", "mo", "ki"]  # no two alike: nobody has peers that agree
    assert (
        lab.faults(
            *(shows(cell, UPLOADER, paper(f"rep-{name}.example")) for cell, name in zip(CELLS, odd, strict=True))
        )
        == {}
    )


def test_instance_identities_of_applications_are_left_out(lab: Lab) -> None:
    found = lab.learnt(
        *(
            shows(cell, CC, paper(f"c{k}a2b3c4-1111-2222-3333-aaaa", unit=f"app:{k}", issuer=f"identity {k}"))
            for k, cell in enumerate(CELLS)
        )
    )
    assert (found.of_row, found.names) == (None, ())


def test_another_component_is_no_deviation(lab: Lab) -> None:
    """Rep and route emitter call the BBS: of a short capture, one cell shows the one and two show the other."""
    assert (
        lab.faults(shows(CELLS[0], BBS, REP_PAPER), shows(CELLS[1], BBS, EMITTER), shows(CELLS[2], BBS, REP_PAPER))
        == {}
    )


def test_who_holds_the_lock_is_no_deviation(lab: Lab) -> None:
    seen = [shows(brain, BBS, paper("sshproxy.tas.example"), times=5) for brain in BRAINS]
    assert lab.faults(*seen, shows("diego_brain/2", BBS, paper("auction.tas.example"), times=9)) == {}


def test_two_authorities_in_a_rotation_are_none(lab: Lab) -> None:
    old, new = paper("rep.tas.example"), paper("rep.tas.example", issuer="ops-manager-2")
    assert lab.faults(*(shows(cell, UPLOADER, new if k < 2 else old) for k, cell in enumerate(CELLS))) == {}


def test_an_intermediate_leads_to_the_same_authority(lab: Lab) -> None:
    between = paper("between", root=True)
    deep = paper("rep.tas.example", issuer="between")
    chains = [(deep, between), *[(REP_PAPER,)] * 5]
    assert lab.faults(*(shows(cell, UPLOADER, *chain) for cell, chain in zip(CELLS, chains, strict=True))) == {}


def test_authorities_that_name_no_key_are_one(lab: Lab) -> None:
    bare = paper("rep.tas.example", marks=False)
    assert lab.faults(*(shows(cell, UPLOADER, bare if k == 2 else REP_PAPER) for k, cell in enumerate(CELLS))) == {}


def test_one_key_for_all_is_a_convention(lab: Lab) -> None:
    assert lab.faults(*(shows(cell, UPLOADER, paper(f"rep-{k}", held="all")) for k, cell in enumerate(CELLS))) == {}


def test_too_few_have_no_peers(lab: Lab) -> None:
    assert lab.faults(shows(CELLS[0], UPLOADER, REP_PAPER), shows(CELLS[1], UPLOADER, paper("other.example"))) == {}
    assert (
        lab.faults(
            shows(CELLS[0], UPLOADER, REP_PAPER, times=9), shows(CELLS[1], UPLOADER, paper("other.example"), times=9)
        )
        == {}
    )


def test_nothing_is_learnt_of_nothing(lab: Lab) -> None:
    found = lab.learnt(shows(CELLS[0], BBS), shows(CELLS[1], BBS))
    assert (found.of_row, found.names, found.confirmed) == (None, (), ())


# Who differs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cells", "confidence"), [(3, "medium"), (4, "medium"), (5, "high")])
def test_one_vm_that_shows_another_name(lab: Lab, cells: int, confidence: str) -> None:
    seen = [shows(cell, UPLOADER, REP_PAPER) for cell in CELLS[1:cells]]
    found = lab.faults(*seen, shows(CELLS[0], UPLOADER, paper("somebody.example")))
    [((who, about), fault)] = found.items()
    assert (who, about, fault.confidence) == (CELLS[0], "client peers somebody.example", confidence)
    assert "is shown only by diego_cell/0; diego_cell/1" in fault.says
    assert "show rep.tas.example there" in fault.says
    assert fault.kinds == ("tls.client_certificates",)
    assert fault.beside
    assert set(fault.beside) <= {f"{k:020d}" for k in range(cells - 1)}


def test_one_more_name_where_all_components_are_accounted_for(lab: Lab) -> None:
    seen = [shows(cell, BBS, each) for cell in CELLS for each in (REP_PAPER, EMITTER)]
    found = lab.faults(*seen, shows(CELLS[4], BBS, paper("stolen.example")))
    assert set(found) == {(CELLS[4], "client peers stolen.example")}


def test_a_name_that_moves_between_roles(lab: Lab) -> None:
    seen = [shows(cell, UPLOADER, REP_PAPER) for cell in CELLS[:3]]
    stolen = paper("watch.tas.example")
    found = lab.faults(*seen, shows("diego_brain/0", CC, stolen, times=3), shows(CELLS[3], UPLOADER, stolen))
    [((who, _), fault)] = found.items()
    assert (who, fault.confidence) == (CELLS[3], "high")
    assert "diego_brain/0 shows watch.tas.example" in fault.says


def test_of_two_vms_the_one_whose_name_is_at_home_elsewhere(lab: Lab) -> None:
    stolen = paper("watch.tas.example")
    home = shows("diego_brain/0", CC, stolen, times=3)
    found = lab.faults(home, shows(CELLS[0], UPLOADER, REP_PAPER, times=3), shows(CELLS[1], UPLOADER, stolen, times=3))
    [((who, _), fault)] = found.items()
    assert (who, fault.confidence) == (CELLS[1], "low")
    assert (
        lab.faults(home, shows(CELLS[0], UPLOADER, REP_PAPER, times=3), shows(CELLS[1], UPLOADER, stolen, times=2))
        == {}
    )


def test_a_server_that_answers_by_another_name(lab: Lab) -> None:
    seen = [
        shows("diego_brain/0", REP, paper("auction.tas.example"), to=cell, server=(paper("x" if k == 2 else "cellrep.tas.example"),))
        for k, cell in enumerate(CELLS)
    ]  # fmt: skip
    [((_, about), fault)] = lab.faults(*seen).items()
    assert about == "server peers x"
    assert "the server's certificate x" in fault.says
    assert "is shown only by diego_cell/2" in fault.says


def test_many_that_differ_are_no_deviation(lab: Lab) -> None:
    names = ["a", "a", "b", "c", "d", "e"]
    assert (
        lab.faults(*(shows(cell, UPLOADER, paper(f"{name}.example")) for cell, name in zip(CELLS, names, strict=True)))
        == {}
    )


def test_an_authority_that_one_vm_alone_has(lab: Lab) -> None:
    mine = paper("rep.tas.example", issuer="my own", signer="me")
    seen = [shows(cell, UPLOADER, mine if k == 3 else REP_PAPER) for k, cell in enumerate(CELLS)]
    [((who, about), fault)] = lab.faults(*seen).items()
    assert (who, about, fault.confidence) == (CELLS[3], "client authority", "high")
    assert "chains to an authority that no other VM has, my own" in fault.says


def test_another_component_may_have_an_authority_of_its_own(lab: Lab) -> None:
    emitter = paper("emitter.tas.example", issuer="emitters' own", signer="emitters' own")
    seen = [shows(cell, BBS, REP_PAPER, times=2) for cell in CELLS[1:]]
    assert lab.faults(*seen, shows(CELLS[0], BBS, emitter)) == {}
    both = [shows(cell, BBS, EMITTER) for cell in CELLS[1:]]
    [(key, _)] = lab.faults(*seen, *both, shows(CELLS[0], BBS, paper("x", issuer="x", signer="x"))).items()
    assert key == (CELLS[0], "client authority")


def test_a_component_of_every_vm_is_one_more_that_may_call(tmp_path: Path) -> None:
    """Where a policy lets any VM call NATS, one name more is no deviation."""
    own = tmp_path / "any.yml"
    own.write_text(
        "schema: auditor.policy/1\nname: any\nversion: '1'\ntitle: t\noverlay: true\nambient: true\norigin: {title: us}\npaths:\n"
        "  - {id: any-to-uploads, source: {vm: any}, destination: {vm: diego_brain}, ports: 9091, application: HTTPS, authentication: tls}\n"
    )
    seen = [*(shows(cell, UPLOADER, REP_PAPER) for cell in CELLS[1:]), shows(CELLS[0], UPLOADER, paper("registrar"))]
    assert Lab(tmp_path).faults(*seen) != {}
    assert Lab(tmp_path, (str(own),)).faults(*seen) == {}


def test_who_shows_many_foreign_names_does_not_take_a_table_its_weight(lab: Lab) -> None:
    stolen = ("tps_watcher", "cc_uploader", "ssh_proxy_backends_tls", "gorouter_backend_tls")
    seen = [*named_as_cf_deployment(), *(shows(CELLS[0], BBS, paper(name)) for name in stolen)]
    assert {about for _, about in lab.faults(*seen)} == {f"client {name}" for name in stolen}


def test_an_authority_that_took_the_others_name(lab: Lab) -> None:
    mine = paper("rep.tas.example", signer="me")
    seen = [shows(cell, UPLOADER, mine if k == 3 else REP_PAPER) for k, cell in enumerate(CELLS)]
    [((who, _), fault)] = lab.faults(*seen).items()
    assert who == CELLS[3]
    assert "chain to another of the same name" in fault.says


def test_one_connection_with_an_authority_that_nobody_else_has(lab: Lab) -> None:
    odd = paper("cc.tas.example", issuer="somebody", signer="somebody")
    others = [shows(cell, BBS, REP_PAPER, times=3) for cell in CELLS[:2]] + [
        shows("diego_brain/0", BBS, EMITTER, times=3)
    ]
    found = lab.faults(*others, shows("cloud_controller/0", BBS, odd))
    assert [(*key, fault.confidence) for key, fault in found.items()] == [
        ("cloud_controller/0", "client authority", "medium")
    ]
    assert lab.faults(*others, shows("cloud_controller/0", BBS, odd, times=2)) == {}
    assert lab.faults(*others[:2], shows("cloud_controller/0", BBS, odd)) == {}


def test_where_authorities_were_given_nothing_is_learnt_of_them(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(paper("ops-manager", root=True).pem)
    lab.options["ca"] = load_cas([str(file)], lab.policy)
    mine = paper("rep.tas.example", issuer="my own", signer="me")
    assert lab.faults(*(shows(cell, UPLOADER, mine if k == 3 else REP_PAPER) for k, cell in enumerate(CELLS))) == {}


def test_a_key_that_two_vms_share_where_each_has_its_own(lab: Lab) -> None:
    seen = [
        shows(cell, UPLOADER, paper(f"rep-{k}", held="shared" if k in (1, 4) else cell)) for k, cell in enumerate(CELLS)
    ]
    found = lab.faults(*seen)
    assert set(found) == {(CELLS[1], "client key"), (CELLS[4], "client key")}
    assert "which diego_cell/1 shows, is also the key of diego_cell/4" in found[CELLS[1], "client key"].says


def test_a_personal_key_in_the_hands_of_another_role(lab: Lab) -> None:
    seen = [shows(cell, UPLOADER, paper(f"rep-{k}", held=cell)) for k, cell in enumerate(CELLS)]
    found = lab.faults(*seen, shows("cloud_controller/0", BBS, paper("rep-2", held=CELLS[2])))
    [((who, about), fault)] = found.items()
    assert (who, about, fault.confidence) == ("cloud_controller/0", "client key", "high")
    assert "is diego_cell/2's" in fault.says


def test_a_certificate_that_names_another_vm(lab: Lab) -> None:
    seen = [
        shows(cell, UPLOADER, paper("rep", VMS[CELLS[5] if k == 1 else cell], held=cell))
        for k, cell in enumerate(CELLS)
    ]
    [((who, about), fault)] = lab.faults(*seen).items()
    assert (who, about) == (CELLS[1], "client address")
    assert "names 10.0.4.25, the address of diego_cell/5, and diego_cell/1 shows it" in fault.says
    named = [shows(cell, UPLOADER, paper(f"rep-{VMS[cell].replace('.', '-')}", held=cell)) for cell in CELLS]
    assert lab.faults(*named) == {}


# Tables --------------------------------------------------------------------------------------------------------------


def named_as_cf_deployment() -> list[Observation]:
    return [
        shows(CELLS[0], BBS, paper("cell.service.cf.internal"), times=2),
        shows(CELLS[1], BBS, paper("cell.service.cf.internal")),
        shows(CELLS[1], BBS, paper("bbs-client")),
        shows("diego_brain/0", REP, paper("rep-client")),
        shows("diego_brain/0", CC, paper("tps_watcher")),
    ]


def test_a_table_that_the_captures_confirm_accuses(lab: Lab) -> None:
    seen = [*named_as_cf_deployment(), shows(CELLS[0], BBS, paper("tps_watcher"))]
    found = lab.learnt(*seen)
    assert [(each.table, each.side, each.names, each.authority) for each in found.confirmed] == [
        ("tas-diego", "client", 4, "ops-manager")
    ]
    [((who, about), fault)] = lab.faults(*seen).items()
    assert (who, about, fault.confidence) == (CELLS[0], "client tps_watcher", "high")
    assert "belongs to TPS Watcher, and the originator is diego_cell, where this component does not run" in fault.says
    assert "the captures show 4 names of tas-diego from ops-manager where they belong" in fault.says
    assert lab.conventions(*seen) == set()


@pytest.mark.parametrize(
    "seen",
    [
        [shows(CELLS[1], BBS, paper("cell.service.cf.internal")), shows(CELLS[1], BBS, paper("bbs-client"))],
        [
            shows(CELLS[1], BBS, paper("cell.service.cf.internal", issuer="a")),
            shows(CELLS[1], BBS, paper("bbs-client", issuer="b")),
            shows("diego_brain/0", REP, paper("rep-client", issuer="c")),
        ],
    ],
)
def test_too_few_names_or_of_different_authorities_confirm_nothing(lab: Lab, seen: list[Observation]) -> None:
    whole = [*seen, shows(CELLS[0], BBS, paper("tps_watcher", issuer="a"))]
    assert lab.learnt(*whole).confirmed == ()
    assert not any(about == "client tps_watcher" for _, about in lab.faults(*whole))


def test_what_all_of_a_role_show_is_a_convention_though_a_table_has_it_elsewhere(lab: Lab) -> None:
    seen = [*named_as_cf_deployment(), *(shows(cell, UPLOADER, paper("cc_uploader")) for cell in CELLS)]
    assert lab.learnt(*seen).confirmed != ()
    assert lab.faults(*seen) == {}


def test_a_declared_table_is_not_learnt_of(tmp_path: Path) -> None:
    found = Lab(tmp_path, ("cf-deployment-names",)).learnt(*named_as_cf_deployment())
    assert (found.confirmed, found.names, found.of_row) == ((), (), None)


def test_where_everything_runs_everywhere_no_place_confirms(tmp_path: Path) -> None:
    """Small Footprint: nearly all names are in their place on its one VM."""
    vms = {**VMS, "control/0": "10.0.4.80"}
    lab = Lab(tmp_path, vms=vms)
    names = ("bbs-client", "rep-client", "auctioneer-client", "tps_watcher", "cc_uploader")
    seen = [shows("control/0", REP, paper(name), to=CELLS[0]) for name in names]
    assert lab.learnt(*seen).confirmed == ()


def test_an_inferred_inventory_makes_less_sure(tmp_path: Path) -> None:
    lab = Lab(tmp_path, origin="inferred")
    seen = [shows(cell, UPLOADER, REP_PAPER) for cell in CELLS[1:]]
    [fault] = lab.faults(*seen, shows(CELLS[0], UPLOADER, paper("somebody.example"))).values()
    assert fault.confidence == "medium"


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("BBS Client", "bbs_client"),
        ("rep-12.z1.example.", "rep_#.z#.example"),
        ("0a1b2c3d-4444-4444-8888-aaaaaaaaaaaa", "<guid>"),
        ("0a1b2c3d-4444-4444-8888-aaaa.cell", "<guid>.cell"),
        ("cell-10-0-4-20", "cell_<address>"),
        ("10.0.4.20", "<address>"),
        ("fd00::14", "<address>"),
        ("vm-deadbeef00112233", "vm_<hex>"),
        ("accessedface", "accessedface"),
    ],
)
def test_names_fold_into_patterns(name: str, pattern: str) -> None:
    assert fold(name) == pattern


@given(st.text(max_size=80))
def test_any_name_has_a_pattern_that_folds_to_itself(name: str) -> None:
    assert fold(fold(name)) == fold(name)


def test_what_is_drafted_says_where_a_name_belongs(lab: Lab) -> None:
    found = {(one.side, one.role, one.names): one for one in lab.learnt(*honest()).names}
    rep = found["client", "diego_cell", ("rep.tas.example",)]
    assert (rep.components, rep.known, rep.vms, rep.issuer) == (("Rep",), False, 6, "ops-manager")
    assert rep.connections == 12 + 6 + 3
    emitter = found["client", "diego_cell", ("emitter.tas.example",)]
    assert set(emitter.components) == {"Rep", "local Route Emitter"}
    assert found["server", "diego_database", ("bbs.tas.example",)].components == ("BBS",)


def test_much_is_learnt_fast(lab: Lab) -> None:
    """28,000 connections of the honest foundation: 1 us for each, wherever this runs."""
    told = lab.told(*(replace(each, times=each.times * 500) for each in honest()))
    rows = len(lab.rows)
    assert rows > 25_000
    before = time.perf_counter()
    found = learn(*told)
    spent_us = (time.perf_counter() - before) / rows * 1e6
    assert found.of_row is not None
    assert spent_us < 20  # room for a busy machine


# Any honest foundation ------------------------------------------------------------------------------------------------

COMPONENTS: dict[str, tuple[str, bool, tuple[tuple[str, int], ...]]] = {
    "rep": ("diego_cell", False, (("diego_database", BBS), ("diego_database", LOCKET), ("diego_brain", UPLOADER), ("cloud_controller", CC))),
    "emitter": ("diego_cell", False, (("diego_database", BBS), ("nats", 4224))),
    "auctioneer": ("diego_brain", True, (("diego_database", BBS), ("diego_database", LOCKET), ("diego_cell", REP))),
    "sshproxy": ("diego_brain", False, (("diego_database", BBS),)),
    "tps": ("diego_brain", True, (("diego_database", LOCKET), ("cloud_controller", CC))),
    "uploader": ("diego_brain", False, (("cloud_controller", CC),)),
    "bbs": ("diego_database", True, (("diego_cell", REP), ("diego_brain", 9016), ("diego_database", LOCKET), ("cloud_controller", CC))),
    "cc": ("cloud_controller", False, (("diego_database", BBS),)),
    "routingapi": ("cloud_controller", True, (("diego_database", LOCKET),)),
}  # fmt: skip
"""Role, whether one VM at a time holds a lock, and what it calls."""

TABLE_NAMES = ("bbs-client", "rep-client", "auctioneer-client", "locket-client", "tps_watcher", "cc_uploader", "cell.service.cf.internal",
               "ssh_proxy_backends_tls", "nats_client", "cloud-controller-ng.service.cf.internal", "locket.service.cf.internal")  # fmt: skip


def foundation_of(naming: str, keys: str, issuing: str, numbered: bool, share: float, seed: int) -> list[Observation]:
    """What a capture of an honest foundation may hold: names, keys and authorities by one rule each, and any part of its connections."""
    rng = random.Random(seed)
    tabled = dict(zip(COMPONENTS, rng.sample(TABLE_NAMES, len(COMPONENTS)), strict=True))

    def shown(component: str, vm: str, port: int) -> Made:
        role, number = COMPONENTS[component][0], vm.rpartition("/")[2]
        name = {"component": component, "service": f"client-of-{port}", "role": role, "tables": tabled[component]}[
            naming
        ]
        issuer = {"one": "one", "component": component, "service": str(port), "rotation": f"{int(number) % 2}"}[issuing]
        named = f"{name}-{number}" if numbered else name
        return paper(named, issuer=f"ca {issuer}", held={"name": f"{role} {named}", "vm": vm, "all": "all"}[keys])

    seen = []
    for component, (role, locked, services) in COMPONENTS.items():
        vms = [name for name in VMS if name.startswith(role)]
        for vm in [rng.choice(vms)] if locked else vms:
            for called, port in services:
                resp = rng.choice([name for name in VMS if name.startswith(called)])
                seen.append(Observation(vm, resp, port, (shown(component, vm, port),), (), rng.randint(1, 6)))
    return [each for each in seen if rng.random() <= share] or seen[:1]


HONEST: list[Lab] = []


@given(
    st.sampled_from([
        (naming, issuing)
        for naming in ("component", "service", "role", "tables")
        for issuing in ("one", "component", "service", "rotation")
        if issuing != "component" or naming in ("component", "tables")
    ]),
    st.sampled_from(["name", "vm", "all"]), st.booleans(), st.sampled_from([1.0, 0.7, 0.3]), st.integers(0, 10_000),
)  # fmt: skip
def test_no_honest_foundation_is_accused(
    scheme: tuple[str, str], keys: str, numbered: bool, share: float, seed: int
) -> None:
    """Only not one where components of one VM have the same name from different authorities, nor the first VM of a rotation."""
    if not HONEST:
        HONEST.append(Lab(Path(tempfile.mkdtemp(prefix="learnt-"))))
    naming, issuing = scheme
    seen = foundation_of(naming, keys, issuing, numbered, share, seed)
    # Names of a table dealt out at random may confirm it by chance.
    assume(not HONEST[0].learnt(*seen).confirmed)
    assert HONEST[0].faults(*seen) == {}
