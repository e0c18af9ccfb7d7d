"""Waivers: what they cover, what they must not, and what is told of them."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from auditor.errors import ConfigError
from auditor.policy.policy_cache import load_policy
from auditor.policy.waivers import Known, apply, load_waivers, today_of, warnings

RULES = Known(("undeclared-connection", "plaintext", "weak-tls"))
TODAY = date(2026, 11, 22)


def written(tmp_path, text):
    file = tmp_path / "waivers.yml"
    file.write_text(text)
    return str(file)


def entry(match, *, rule="undeclared-connection", expires="2027-01-31", more=""):
    return f"""
  - rule: {rule}
    match: {match}
    reason: known
    owner: platform
    ticket: OPS-1
    expires: {expires}
{more}"""


def connection(name, originator, responder, port=8443, transport="tcp", paths=()):
    """``originator`` and ``responder``: (address, role or None)."""
    row = {"id": name, "responder_port": port, "transport": transport, "paths": paths}
    for end, (ip, role) in (("originator", originator), ("responder", responder)):
        row |= {f"{end}_ip": ip, f"{end}_role": role, f"{end}_roles": (role,) if role else (), f"{end}_instance": None}
    return row


CELL, OTHER, UAA, NATS = ("10.0.4.20", "diego_cell"), ("10.0.4.66", None), ("10.0.5.9", "uaa"), ("10.0.5.7", "nats")
CONNECTIONS = pd.DataFrame(
    [
        connection("c1", CELL, UAA),
        connection("c2", CELL, UAA),
        connection("c3", OTHER, NATS, 4222),
        connection("c4", ("10.0.4.67", None), NATS, 4222),
    ]
)
CONNECTIONS["responder_port"] = CONNECTIONS["responder_port"].astype("Int64")
FINDINGS = pd.DataFrame(
    [
        {
            "fingerprint": "a" * 32,
            "rule": "undeclared-connection",
            "path": None,
            "connections": ("c1", "c2"),
            "count": 2,
        },
        {
            "fingerprint": "b" * 32,
            "rule": "undeclared-connection",
            "path": "x-to-nats",
            "connections": ("c3",),
            "count": 1,
        },
        {
            "fingerprint": "c" * 32,
            "rule": "undeclared-connection",
            "path": "x-to-nats",
            "connections": ("c4",),
            "count": 1,
        },
        {"fingerprint": "d" * 32, "rule": "plaintext", "path": None, "connections": ("c1", "c3"), "count": 2},
    ]
)


def judged(tmp_path, *entries, today=TODAY):
    loaded = load_waivers([written(tmp_path, "schema: auditor.waivers/1\nwaivers:" + "".join(entries))], RULES)
    waived, applied = apply(loaded, FINDINGS, CONNECTIONS, today)
    return [k for k, each in enumerate(waived) if each], applied


@pytest.mark.parametrize(
    ("match", "covered"),
    [
        ("{from: diego-cell, to: uaa, port: 8443}", [0]),
        ("{from: 10.0.4.0/26}", [0]),
        ("{from: 10.0.4.66}", [1]),
        ("{to: [uaa, nats], from: 10.0.4.66}", [1]),
        ("{fingerprint: cccccccc}", [2]),
        ("{from: diego_cell, transport: udp}", []),
        ("{port: 8000-8999}", [0]),
        ("{path: other}", []),
    ],
)
def test_a_waiver_covers_what_it_names(tmp_path, match, covered):
    found, applied = judged(tmp_path, entry(match))
    assert found == covered
    assert len(applied.unused) == (not covered)


def test_a_second_intruder_is_not_hidden_by_the_waiver_of_the_first(tmp_path):
    found, applied = judged(tmp_path, entry("{to: nats}"))
    assert found == []
    assert applied.over[0]["says"] == "covers 2 findings, more than its max_findings of 1"
    found, applied = judged(tmp_path, entry("{to: nats}", more="    max_findings: 2\n"))
    assert (found, applied.over) == ([1, 2], ())
    found, applied = judged(tmp_path, entry("{to: uaa}", more="    max_connections: 1\n"))
    assert found == []
    assert "covers 2 connections" in applied.over[0]["says"]


def test_nor_is_one_that_comes_an_hour_later(tmp_path):
    file = written(tmp_path, "schema: auditor.waivers/1\nwaivers:" + entry("{to: nats}"))
    loaded = load_waivers([file], RULES)
    first, second = FINDINGS.drop(index=2).reset_index(drop=True), FINDINGS.drop(index=1).reset_index(drop=True)
    waived, applied = apply(loaded, first, CONNECTIONS, TODAY)
    assert [k for k, each in enumerate(waived) if each] == [1]
    waived, applied = apply(loaded, second, CONNECTIONS, TODAY, applied.matched)
    assert waived == [None, None, None]
    assert applied.over[0]["says"] == "covers 2 findings (1 of them seen earlier), more than its max_findings of 1"
    # Whichever of the two is alone in an audit: they are two.
    waived, applied = apply(loaded, first, CONNECTIONS, TODAY, applied.matched)
    assert waived == [None, None, None]
    # With neither it is not unused: what it is for goes on.
    assert apply(loaded, FINDINGS.iloc[:1], CONNECTIONS, TODAY, applied.matched)[1].unused == ()
    assert len(apply(loaded, FINDINGS.iloc[:1], CONNECTIONS, TODAY)[1].unused) == 1


def test_what_a_waiver_covers_is_its_key_not_where_it_stands(tmp_path):
    keys = []
    for head, match in (("", "{to: nats}"), ("# moved\n\n", "{to: nats}"), ("", "{to: uaa}")):
        text = f"{head}schema: auditor.waivers/1\nwaivers:" + entry(match)
        keys.append(load_waivers([written(tmp_path, text)], RULES).entries[0].key)
    assert keys[0] == keys[1] != keys[2]


def test_a_finding_is_waived_only_where_all_its_connections_match(tmp_path):
    assert judged(tmp_path, entry("{from: diego_cell}", rule="plaintext"))[0] == []
    assert judged(tmp_path, entry("{from: [diego_cell, 10.0.4.66]}", rule="plaintext"))[0] == [3]


def test_a_waiver_holds_through_its_last_day_and_then_fails(tmp_path):
    day = entry("{to: uaa}", expires="2026-11-22")
    assert judged(tmp_path, day)[0] == [0]
    found, applied = judged(tmp_path, day, today=date(2026, 11, 23))
    assert found == []
    assert [each["until"] for each in applied.expired] == ["2026-11-22"]
    [line] = warnings(applied)
    assert "waivers.yml:3: waiver of undeclared-connection expired on 2026-11-22 (platform, OPS-1)" in line


def test_the_mark_is_that_of_the_contract(tmp_path):
    loaded = load_waivers([written(tmp_path, "waivers:" + entry("{to: uaa}"))], RULES)
    waived, applied = apply(loaded, FINDINGS, CONNECTIONS, TODAY)
    assert waived[0] == {"reason": "known", "owner": "platform", "ticket": "OPS-1", "until": "2027-01-31"}
    assert applied.as_dict()["entries"] == 1
    assert applied.as_dict()["files"][0]["sha256"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "waivers:" + entry("{to: uaa}").replace("    expires: 2027-01-31\n", ""),
            ":2: 'expires' is missing (add expires:)",
        ),
        ("waivers:" + entry("{to: uaa}", expires="soon"), ":7: 'soon' is not a date (write 2027-01-31)"),
        ("waivers:" + entry("{to: uaa}", rule="plaintxt"), ":2: unknown rule 'plaintxt' (did you mean plaintext?)"),
        ("waivers:" + entry("{}"), "match is empty (add from, to, port"),
        ("waivers:" + entry("{fingerprint: abc}"), "a fingerprint is too short"),
        ("waivers:" + entry("{too: uaa}"), "unknown key 'too' (did you mean to?)"),
        ("waivers:" + entry("{to: uaa}", more="    max_findings: 0\n"), ":8: 'max_findings'"),
        ("- a\n", "must be a mapping"),
        ("waivers: [", "is not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_mend(tmp_path, text, says):
    with pytest.raises(ConfigError) as caught:
        load_waivers([written(tmp_path, text)], RULES)
    assert says in str(caught.value)
    assert "waivers.yml" in str(caught.value)


TAS = Known(RULES.rules, load_policy(("tas",)), hosts=frozenset({"diego_cell/0", "jumpbox"}))
UNKNOWN_INVENTORY = Known(RULES.rules, load_policy(("tas",)))


@pytest.mark.parametrize(
    ("match", "line", "says"),
    [
        ("{from: diego_cel}", 3, "unknown role or instance 'diego_cel' (did you mean diego_cell"),
        ("{to: [uaa, jumpboxx]}", 3, "unknown role or instance 'jumpboxx' (did you mean jumpbox?)"),
        ("{to: xyzzy}", 3, "'xyzzy' (auditor policy show and auditor inventory show list them)"),
        ("{to: compute}", 3, "'compute' is the name of a group, and no role (write diego_cell)"),
        ("{from: 10.0.4.300}", 3, "'10.0.4.300' is not an address or network (write 10.0.8.20 or 10.0.8.0/24)"),
        ("{from: 10.0.4.0/33}", 3, "'10.0.4.0/33' is not an address or network"),
        ("{path: rep-to-bb}", 3, "unknown path 'rep-to-bb' (did you mean rep-to-bbs"),
        ("{path: [rep-to-bbs, xyzzy]}", 3, "unknown path 'xyzzy' (auditor policy show tas lists them"),
        ("{from: diego_cell/0, to: jumpbox, path: rep-to-bbs}", 0, ""),
        ("{from: diego_cell/77, to: 10.0.0.0/8}", 0, ""),
        ("{from: DIEGO-CELL, to: fd00::1}", 0, ""),
    ],
)
def test_roles_paths_and_addresses_that_there_are_not_are_told_with_the_nearest_name(tmp_path, match, line, says):
    file = written(tmp_path, "waivers:" + entry(match))
    if not says:
        assert len(load_waivers([file], TAS).entries) == 1
        return
    with pytest.raises(ConfigError) as caught:
        load_waivers([file], TAS)
    assert f"waivers.yml:{line}: " in str(caught.value)
    assert says in str(caught.value)


def test_without_an_inventory_only_what_is_nearly_a_role_is_told(tmp_path):
    assert load_waivers([written(tmp_path, "waivers:" + entry("{from: jumpbox, to: splunk/0}"))], UNKNOWN_INVENTORY)
    for wrong, meant in (("diego_cel", "diego_cell"), ("dieg_cell/3", "diego_cell/3")):
        with pytest.raises(ConfigError, match=rf"did you mean {meant}\?"):
            load_waivers([written(tmp_path, "waivers:" + entry(f"{{from: {wrong}}}"))], UNKNOWN_INVENTORY)


def test_all_mistakes_are_told_at_once_with_their_files_and_lines(tmp_path):
    first = written(tmp_path, "waivers:" + entry("{from: diego_cel}", rule="plaintxt") + entry("{path: rep-to-bb}"))
    second = tmp_path / "second.json"
    second.write_text(
        '{"waivers": [\n{"rule": "plaintext", "match": {\n"to": "uua"}, "reason": "r", "owner": "o", "expires": "2027-01-31"}]}'
    )
    with pytest.raises(ConfigError) as caught:
        load_waivers([first, str(second)], TAS)
    told = [caught.value, *caught.value.others]
    assert [(each.path, each.line) for each in told] == [(first, 2), (first, 3), (first, 10), (str(second), 3)]
    assert caught.value.__notes__ == [str(each) for each in told[1:]]


def test_what_is_missing_hides_no_misspelt_name(tmp_path):
    text = "waivers:\n  - {rule: plaintxt, match: {from: 10.0.8.999, path: rep-to-bb}, reason: r, expires: soon}\n"
    with pytest.raises(ConfigError) as caught:
        load_waivers([written(tmp_path, text)], TAS)
    told = " ".join(str(each) for each in caught.value.all)
    for says in ("'owner' is missing", "'soon' is not a date", "'plaintxt'", "'10.0.8.999'", "'rep-to-bb'"):
        assert says in told


def test_json_and_an_empty_file_are_understood(tmp_path):
    empty = written(tmp_path, "# nothing waived\n")
    other = tmp_path / "w.json"
    other.write_text(
        '{"waivers": [{"rule": "plaintext", "match": {"to": "uaa"}, "reason": "r", "owner": "o", "ticket": "t", "expires": "2027-01-31"}]}'
    )
    loaded = load_waivers([empty, str(other)], RULES)
    assert len(loaded.entries) == 1
    assert len(loaded.sources) == 2


def test_the_day_is_that_of_utc():
    assert today_of(1_795_305_599_999_999_999) == date(2026, 11, 21)
    assert today_of(1_795_305_600_000_000_000) == date(2026, 11, 22)


@pytest.mark.parametrize(
    ("path", "covered"), [("auctioneer-to-bbs", True), ("ssh-proxy-to-bbs", True), ("tps-to-bbs", False)]
)
def test_where_components_are_not_told_apart_a_waiver_may_name_any_of_the_paths(tmp_path, path, covered):
    both = ("auctioneer-to-bbs", "ssh-proxy-to-bbs")
    brain, database = ("10.0.4.1", "diego_brain"), ("10.0.4.2", "diego_database")
    table = pd.DataFrame(
        [
            connection("c1", brain, database, 8889, paths=both),
            connection("c2", brain, database, 8889, paths=(*both, "tps-to-bbs")),
        ]
    )
    finding = {
        "fingerprint": "a" * 32,
        "rule": "weak-tls",
        "path": both[0],
        "connections": ("c1", "c2"),
        "count": 2,
    }
    file = written(tmp_path, "waivers:" + entry(f"{{path: {path}}}", rule="weak-tls"))
    waived, _ = apply(load_waivers([file], RULES), pd.DataFrame([finding]), table, TODAY)
    assert (waived[0] is not None) == covered


def test_a_ticket_may_be_missing(tmp_path):
    text = "waivers:" + entry("{from: diego-cell}").replace("    ticket: OPS-1\n", "")
    [one] = load_waivers([written(tmp_path, text)], RULES).entries
    assert one.model.ticket is None
    _, applied = apply(load_waivers([written(tmp_path, text)], RULES), FINDINGS, CONNECTIONS, date(2028, 1, 1))
    assert any("(platform)" in line for line in warnings(applied))
