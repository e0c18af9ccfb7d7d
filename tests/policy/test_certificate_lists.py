"""Lists of certificates of Ops Manager and CredHub, and what is told by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from auditor.cli import main
from auditor.errors import ConfigError
from auditor.policy import certificate_lists
from auditor.policy.certificate_lists import draft
from auditor.policy.listed import Listed
from auditor.policy.loader import check_policy, load_policy
from auditor.policy.policy import Policy
from auditor.policy.times import parse_time, time_text
from tests.policy.scenes import MUTUAL12, MUTUAL13, Scene, documented, judge_all
from tests.policy.test_certificates import NOW_NS, make

BEFORE, AFTER = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


def deployed(reference: str | None, until: str, **more: Any) -> dict[str, Any]:
    """As Ops Manager's /api/v0/deployed/certificates has it."""
    return {
        "issuer": "/C=US/O=Pivotal", "valid_from": "2019-01-01T00:00:00Z", "valid_until": until, "configurable": False, "is_ca": False,
        "property_reference": reference, "property_type": "rsa_cert_credentials", "product_guid": "cf-1b2c", "location": "ops_manager",
        "variable_path": None, **more,
    }  # fmt: skip


def credential(name: str, *names: str) -> dict[str, Any]:
    pem = make(names[0], *names[1:]).pem.decode()
    return {
        "name": name,
        "type": "certificate",
        "value": {"ca": "", "certificate": pem, "private_key": "-----BEGIN KEY-----\nSECRET\n"},
    }


def written(tmp_path: Path, document: Any, name: str = "list.json") -> str:
    file = tmp_path / name
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(file)


def read(file: str) -> list[certificate_lists.ListedCertificate]:
    """All that a file lists, where nothing of it is wrong."""
    found, wrong = certificate_lists.read(file)
    assert not wrong
    return found


def loaded(tmp_path: Path, *documents: Any) -> Policy:
    base = load_policy(["tas"])
    listed = [each for number, one in enumerate(documents) for each in read(written(tmp_path, one, f"{number}.json"))]
    file = written(tmp_path, draft(listed, base), "ours.yml")
    assert check_policy(file) == []
    return load_policy(["tas", file])


OPS_MANAGER = {"certificates": [
    deployed(".properties.bbs_server_cert", BEFORE), deployed(".properties.rep_server_cert_v2", AFTER),
    deployed(None, AFTER, location="credhub", variable_path="/opsmgr/bosh_dns/tls_ca", is_ca=True), deployed(".smtp.cert", AFTER),
]}  # fmt: skip


def test_a_list_of_ops_manager(tmp_path: Path) -> None:
    one, other, authority, unknown = read(written(tmp_path, OPS_MANAGER))
    assert (one.key, one.owner, one.names) == ("bbs_server_cert", "cf-1b2c: .properties.bbs_server_cert", ())
    assert (time_text(one.until_ns or 0), other.authority, authority.authority) == (BEFORE, False, True)
    assert unknown.owner == "cf-1b2c: .smtp.cert"
    assert (
        len(read(written(tmp_path, "Getting certificates for cf...\n" + json.dumps(OPS_MANAGER["certificates"])))) == 4
    )


def test_an_export_of_credhub_and_no_key_of_it(tmp_path: Path) -> None:
    export = {"Credentials": [
        {key.capitalize(): value for key, value in credential("/bosh/cf/diego_bbs_server", "bbs.ours.internal", "bbs.ours.internal").items()},
        {"Name": "/bosh/cf/nats_password", "Type": "password", "Value": "SECRET"},
    ]}  # fmt: skip
    [one] = read(written(tmp_path, export))
    assert (one.key, one.names) == ("diego_bbs_server", ("bbs.ours.internal",))
    text = draft([one], load_policy(["tas"]))
    assert "SECRET" not in text
    assert "KEY" not in text
    [entry] = yaml.safe_load(text)["identities"]["entries"]
    assert (entry["name"], entry["components"], entry["owner"]) == (
        "bbs.ours.internal",
        ["BBS"],
        "/bosh/cf/diego_bbs_server",
    )
    as_yaml = yaml.safe_dump({"credentials": [credential("/bosh/cf/diego_bbs_server", "bbs.ours.internal")]})
    assert read(written(tmp_path, as_yaml, "export.yml"))[0].names == ("bbs.ours.internal",)


def test_names_of_variables_with_their_ends(tmp_path: Path) -> None:
    versions = [
        {"id": "1", "expiry_date": BEFORE, "transitional": True},
        {"id": "2", "expiry_date": AFTER, "transitional": False},
    ]
    [one] = read(
        written(tmp_path, {"certificates": [{"name": "/cf/diego_rep_client", "id": "3", "versions": versions}]})
    )
    assert (one.key, time_text(one.until_ns or 0)) == ("diego_rep_client", AFTER)


def test_names_of_the_list_accuse_and_those_it_does_not_have_do_not(tmp_path: Path) -> None:
    policy = loaded(tmp_path, {"Credentials": [credential("/cf/diego_bbs_server", "bbs.ours.internal")]}, OPS_MANAGER)
    assert [each.slugs for each in policy.identify("bbs.ours.internal") if each.declared] == [{"bbs"}]
    assert not any(each.declared for each in policy.identify("bbs.service.cf.internal"))
    assert policy.identify("no name") == ()


def judged(policy: Policy, path: str, facts: dict[str, Any], **more: Any) -> list[str]:
    found = documented(
        policy, path, resp_component="BBS", resp_role="diego_database", orig_component="Rep", orig_role="diego_cell"
    )
    [told] = judge_all(policy, Scene("tls", facts, found, start_s=NOW_NS / 1e9, **more))
    return [fault.says for fault in told.faults if fault.rule == "certificate-expired"]


def test_one_that_has_expired_is_told_under_tls_1_3(tmp_path: Path) -> None:
    policy = loaded(tmp_path, OPS_MANAGER)
    [says] = judged(policy, "rep-to-bbs", MUTUAL13)
    assert "that of BBS (cf-1b2c: .properties.bbs_server_cert) expired on 2020-01-01" in says
    assert judged(policy, "rep-to-bbs", MUTUAL12) == [], "TLS 1.2 shows certificates"
    assert judged(load_policy(["tas"]), "rep-to-bbs", MUTUAL13) == []


def test_one_in_force_may_be_the_one_that_was_shown(tmp_path: Path) -> None:
    renewed = {"certificates": [deployed(".properties.bbs_server_cert", AFTER)]}
    assert judged(loaded(tmp_path, OPS_MANAGER, renewed), "rep-to-bbs", MUTUAL13) == []


def test_an_unknown_component_accuses_nobody(tmp_path: Path) -> None:
    policy = loaded(tmp_path, OPS_MANAGER)
    several = documented(policy, "rep-to-bbs", resp_role="diego_database")
    assert Listed(policy).faults(several, NOW_NS, client=True) == ()


def test_what_nobody_knows_and_authorities_are_comments(tmp_path: Path) -> None:
    text = draft(read(written(tmp_path, OPS_MANAGER)), load_policy(["tas"]))
    assert "# 1 authorities were left out: pass them with --ca" in text
    assert "# No component is known for cf-1b2c: .smtp.cert, until 2099-01-01T00:00:00Z" in text


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "no list of certificates"), ({"certificates": [deployed("x", "soon")]}, "'soon' is not a time"),
        ([{"name": "/a", "type": "certificate", "value": {"certificate": "nonsense"}}], "not PEM"), ("[1, 2]", "no list of certificates"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, document: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(written(tmp_path, document))


def test_times_are_checked_in_policies(tmp_path: Path) -> None:
    text = draft(read(written(tmp_path, OPS_MANAGER)), load_policy(["tas"])).replace(f"'{BEFORE}'", "soon")
    [mistake] = check_policy(written(tmp_path, text, "ours.yml"))
    assert "'soon' is not a time" in str(mistake)
    assert parse_time(AFTER) > NOW_NS


def test_a_variable_that_names_one_side_is_of_that_side(tmp_path: Path) -> None:
    listed = {"certificates": [deployed(".properties.rep_server_cert_v2", AFTER)]}
    text = draft(read(written(tmp_path, listed)), load_policy(["tas"]))
    assert "use:\n      - server\n" in text
    assert "- client\n" not in text


def test_one_bad_entry_is_told_and_the_others_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "certificates": [
            deployed(".properties.bbs_server_cert", BEFORE),
            deployed(".properties.rep_server_cert_v2", "soon"),
        ]
    }
    found, wrong = certificate_lists.read(written(tmp_path, document))
    assert [each.variable for each in found] == [".properties.bbs_server_cert"]
    assert ["rep_server_cert_v2" in str(each) for each in wrong] == [True]
    assert main(["policy", "certificates", str(tmp_path / "list.json")]) == 3
    said = capsys.readouterr()
    assert said.err.startswith("auditor: left out: ") and said.err.count("\n") == 1
    assert "bbs_server_cert" in said.out
