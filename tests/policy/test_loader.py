"""Every mistake in a policy file is one line: file, line, what is wrong, and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import ConfigError
from auditor.policy.loader import check_policy, covers, load_policy, title_of
from auditor.policy.policy import Policy
from auditor.policy.policy_cache import overlays_beside

GOOD = """\
schema: auditor.policy/1
name: mine
version: "1"
title: Mine
overlay: true
ambient: true
origin: {title: our wiki}
paths:
  - id: cell-to-cache
    source: {vm: diego_cell, component: Rep}
    destination: {vm: uaa}
    ports: 6379
    application: TCP
    authentication: none
"""


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.yml"
    file.write_text(text)
    return str(file)


def test_a_file_of_ones_own_adds_to_tas_diego(tmp_path: Path) -> None:
    policy = load_policy([written(tmp_path, GOOD)])
    assert len(policy.paths) == 25
    (own,) = policy.ambient_paths
    assert (own.id, own.policy, own.origin.line, own.ports) == ("cell-to-cache", "mine", 9, ((6379, 6379),))
    assert [source["name"] for source in policy.sources] == ["tas-diego", "mine"]
    assert policy.overlays == {"mine"}


def test_order_and_repetition(tmp_path: Path) -> None:
    mine = written(tmp_path, GOOD)
    assert load_policy([mine, "tas-diego", mine]).all_paths[0].id == "cell-to-cache"
    assert (
        load_policy().sources == load_policy(["tas-diego"]).sources == load_policy(("tas-diego", "tas-diego")).sources
    )


MISTAKES = [
    # what is replaced, by what, the line, a word of what is said, a word of the mend
    ("    ports: 6379", "    prots: 6379", 12, "unknown key 'prots'", "did you mean ports?"),
    ("overlay: true", "overlays: true", 5, "unknown key 'overlays'", "did you mean overlay?"),
    ("{vm: uaa}", "{vmm: uaa}", 11, "unknown key 'vmm'", "did you mean vm?"),
    ("6379", "70000", 12, "port 70000 is outside 1-65535", "between 1 and 65535"),
    ("6379", "0", 12, "port 0 is outside", "between 1 and 65535"),
    ("6379", "-1", 12, "port -1 is outside", "write a port"),
    ("6379", "6400-6379", 12, "the range 6400-6379 is reversed", "write 6379-6400"),
    ("6379", "[6379, 6000-7000]", 12, "given twice", "keep one"),
    ("6379", "[]", 12, "no port", "write a port"),
    ("6379", "redis", 12, "'redis' is not a port", "write a port"),
    ("6379", "true", 12, "is not a port", "write a port"),
    ("    ports: 6379\n", "", 9, "no ports", "add ports"),
    ("{vm: uaa}", "{vm: uua}", 11, "unknown role 'uua'", "did you mean uaa?"),
    ("{vm: uaa}", "{vm: api}", 11, "unknown role 'api'", None),
    ("{vm: uaa}", "{vm: []}", 11, "vm", None),
    ("component: Rep", "component: Repp", 10, "unknown component 'Repp'", "did you mean Rep?"),
    ("authentication: none", "authentication: mutual-tls", 14, "not an authentication", "did you mean mutual_tls?"),
    ("authentication: none", "authentication: {any: [tls]}", 14, "neither a word nor a list of choices", "any: [a, b]"),
    ("authentication: none", "authentication: {some: [tls, none]}", 14, "neither a word", "any: [a, b]"),
    ("application: TCP", "application: HTPS", 13, "'HTPS' is not a valid application", "did you mean HTTPS?"),
    ("application: TCP", "application: TCP\n    transport: tpc", 14, "'tpc' is no", "did you mean tcp?"),
    ("application: TCP", "application: TCP\n    transport: icmp", 9, "icmp has no ports", "remove ports"),
    ("id: cell-to-cache", "id: Cell To Cache", 9, "is not a valid id", "lower case"),
    ("id: cell-to-cache", "id: auctioneer-to-rep", 9, "is already used by tas-diego.yml:", "choose another"),
    ('version: "1"', "version: 1.0", 3, "must be text, and 1.0 is a number", 'quote it: version: "1.0"'),
    ("overlay: true", "overlay: maybe", 5, "must be true or false", None),
    ("title: Mine\n", "", 1, "'title' is missing", "add title:"),
    ("auditor.policy/1", "auditor.policy/2", 1, "is not a valid schema", "auditor.policy/1"),
    ("title: Mine", "title: Mine\ntitle: Yours", 5, "'title' is there twice", "keep one"),
    ("title: Mine", "\ttitle: Mine", 4, "not valid YAML", None),
    ("title: Mine", "title: Mine: yours", 4, "not valid YAML", "quote text"),
    ("{title: our wiki}", "{title: our wiki", 8, "not valid YAML", None),
    ("title: Mine", "title: !!python/object/apply:os.getcwd []", 4, "'title'", None),
    ("title: Mine", "title: !secret x", 4, "tag !secret is not supported", "remove it"),
    ("title: Mine", "? [a, b]\n: c", 4, "a key must be text", "quote it"),
    ("title: Mine", "title: Mine\n<<: {a: b}", 5, "merge keys", "write the keys out"),
]


@pytest.mark.parametrize(("old", "new", "line", "says", "hint"), MISTAKES, ids=[f"{one[1]}"[:40] for one in MISTAKES])
def test_mistakes(tmp_path: Path, old: str, new: str, line: int, says: str, hint: str | None) -> None:
    assert old in GOOD
    file = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_policy([file])
    error = caught.value
    assert (error.path, error.line) == (file, line), str(error)
    assert says in error.says
    if hint is not None:
        assert error.hint is not None
        assert hint in error.hint
    assert str(error).startswith(f"{file}:{line}: ")
    assert "\n" not in str(error)
    assert check_policy(file), "check says so too"


def test_a_twin_in_one_file(tmp_path: Path) -> None:
    twin = GOOD + GOOD[GOOD.index("  - id") :]
    with pytest.raises(ConfigError, match=r"'cell-to-cache' is already used by .*mine\.yml:9") as caught:
        load_policy([written(tmp_path, twin)])
    assert caught.value.line == 15


def test_conditions_and_their_ports_agree(tmp_path: Path) -> None:
    text = GOOD + "    conditions:\n      - {kind: note, says: x, ports: 80}\n"
    with pytest.raises(ConfigError, match="do not agree"):
        load_policy([written(tmp_path, text)])
    text = GOOD + "    conditions:\n      - {kind: host_ports, says: x, ports: 80-90}\n"
    with pytest.raises(ConfigError, match="narrow ports that vary"):
        load_policy([written(tmp_path, text)])


def test_any_is_no_role(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'any' means every VM"):
        load_policy([written(tmp_path, GOOD.replace("paths:", "roles:\n  - {name: any}\npaths:"))])


def test_aliases_and_identities_name_what_there_is(tmp_path: Path) -> None:
    aliases = "aliases:\n  origin: {title: x}\n  entries:\n    - {group: cash, roles: [redis]}\npaths:"
    with pytest.raises(ConfigError, match="unknown role 'redis'") as caught:
        load_policy([written(tmp_path, GOOD.replace("paths:", aliases))])
    assert caught.value.line == 11
    names = "identities:\n  origin: {title: x}\n  entries:\n    - {name: a, components: [Bees], use: [client]}\npaths:"
    with pytest.raises(ConfigError, match="unknown component 'Bees'"):
        load_policy([written(tmp_path, GOOD.replace("paths:", names))])


def test_a_later_alias_and_later_settings_replace_earlier_ones(tmp_path: Path) -> None:
    more = (
        "settings:\n  origin: {title: ours}\n  tls: {minimum: '1.3'}\n  names: strict\n"
        "aliases:\n  origin: {title: ours}\n  entries:\n    - {group: api, roles: [cloud_controller]}\npaths:"
    )
    policy = load_policy([written(tmp_path, GOOD.replace("paths:", more))])
    assert (policy.settings.tls_minimum, policy.settings.names) == ("1.3", "strict")
    assert [held.role for held in policy.held_by("api") or ()] == ["cloud_controller"]


IDENTITIES = """\
identities:
  origin: {title: our wiki}
  declares: [tas-diego]
  entries:
    - {name: ours, components: [Rep], use: [client]}
"""


def test_whose_names_are_declared(tmp_path: Path) -> None:
    def declared(text: str) -> set[str]:
        return {each.table for each in load_policy([written(tmp_path, GOOD + text)]).identities if each.declared}

    assert declared("") == set()
    assert declared(IDENTITIES) == {"mine", "tas-diego"}
    assert declared(IDENTITIES.replace("  declares: [tas-diego]\n", "")) == {"mine"}
    assert declared(IDENTITIES.replace("declares: [tas-diego]", "names: presumed")) == set()
    assert declared("settings: {origin: {title: us}, names: strict}\n") == {"tas-diego"}
    with pytest.raises(ConfigError) as caught:
        declared(IDENTITIES.replace("[tas-diego]", "[tas-digo]"))
    assert "mine.yml:17: no policy loaded here has identities and the name 'tas-digo'" in str(caught.value)


def test_a_base_may_borrow_words_and_not_paths(tmp_path: Path) -> None:
    text = GOOD.replace("overlay: true\nambient: true\n", "vocabulary: tas-diego\n")
    policy = load_policy([written(tmp_path, text)])
    assert [path.id for path in policy.paths] == ["cell-to-cache"]
    assert policy.held_by("scheduler") is not None
    with pytest.raises(ConfigError, match="unknown role 'diego_cell'"):
        load_policy([written(tmp_path, text.replace("vocabulary: tas-diego\n", ""))])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a policy"), ("- a\n- b\n", "is not a policy"), ("just words", "is not a policy"), ("{}", "is missing"),
        ("a: *b", "not valid YAML"), ("\x00", "forbids"), ("a: b\n---\nc: d\n", "not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_no_policy(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_policy([written(tmp_path, text)])


def test_aliases_that_multiply_are_bounded(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]\n" for at in range(1, 10))
    with pytest.raises(ConfigError, match="too many values"):
        load_policy([written(tmp_path, bomb)])
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_policy([written(tmp_path, "a: &a [*a]\n")])
    with pytest.raises(ConfigError, match=r"nested too deeply|not valid YAML"):
        load_policy([written(tmp_path, "[" * 5000)])


def test_large_unreadable_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than"):
        load_policy([written(tmp_path, "# " + "x" * (4 * 1024 * 1024))])
    with pytest.raises(ConfigError, match="is a folder"):
        load_policy([f"{tmp_path}/"])
    with pytest.raises(ConfigError, match="no such file"):
        load_policy([str(tmp_path / "absent.yml")])
    (tmp_path / "latin.yml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        load_policy([str(tmp_path / "latin.yml")])
    assert caught.value.line == 1


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(ConfigError, match=r"tas-deigo: no such policy \(did you mean tas-diego\?\)"):
        load_policy(["tas-deigo"])
    with pytest.raises(ConfigError, match="shipped: tas-diego, "):
        load_policy(["zebra"])


def test_check_tells_all_mistakes(tmp_path: Path) -> None:
    text = GOOD.replace("6379", "70000").replace("TCP", "HTPS").replace('"1"', "1")
    assert [error.line for error in check_policy(written(tmp_path, text))] == [3, 12, 13]
    assert check_policy(written(tmp_path, GOOD)) == []
    assert len(check_policy("no-such-policy")) == 1


# Releases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("releases", "release", "inside"),
    [
        ("TAS 2.7, TAS 2.10..TPCF 10", "TAS 2.7", True), ("TAS 2.7, TAS 2.10..TPCF 10", "2.8", False),
        ("TAS 2.7, TAS 2.10..TPCF 10", "TAS 2.13", True), ("TAS 2.7, TAS 2.10..TPCF 10", "4.0", True),
        ("TAS 2.7, TAS 2.10..TPCF 10", "TPCF 10", True), ("TAS 2.7, TAS 2.10..TPCF 10", "TPCF 10.2", True),
        ("TAS 2.7, TAS 2.10..TAS 2.12", "TAS 2.12", True), ("TAS 2.7, TAS 2.10..TAS 2.12", "TAS 2.13", False),
        ("TAS 2.13..TAS 4.0", "4.0.5", True), ("TAS 2.13..TAS 4.0", "5.0", False), (None, "4.0", True),
    ],
)  # fmt: skip
def test_releases(releases: str | None, release: str, inside: bool) -> None:
    assert covers(releases, release) is inside


def test_the_release_keeps_what_is_documented_for_it() -> None:
    old, new = load_policy(["loggregator"], release="TAS 2.11"), load_policy(["loggregator"], release="TPCF 10")
    assert len(old.paths) == len(new.paths) == 25
    assert "trafficcontroller-to-log-cache" in old.by_id
    assert "trafficcontroller-to-log-cache" not in new.by_id
    assert "nozzle-to-reverse-log-proxy" in new.by_id
    assert new.release == "TPCF 10"


@pytest.mark.parametrize(
    ("release", "says"), [("newest", "is not a release"), ("TAS 1.0", "no path is documented for")]
)
def test_a_release_that_is_none(release: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_policy(release=release)


def test_overlays_beside(tas_diego: Policy) -> None:
    names = [name for name, _ in overlays_beside(tas_diego)]
    assert "bosh-dns" in names
    assert "tas-diego" not in names
    assert "bosh-dns" not in [name for name, _ in overlays_beside(load_policy(["bosh-dns"]))]


def test_titles() -> None:
    assert title_of("tas-diego") == "Diego network communications"


def test_a_profile_stands_for_the_shipped_policies_that_it_names(tmp_path: Path) -> None:
    head = "schema: auditor.policy/1\nname: ours\nversion: '1'\ntitle: Ours\norigin: {title: us}\n"
    policy = load_policy([written(tmp_path, head + "includes: [tas-diego, nats]\n")])
    assert policy.all_paths == load_policy(["nats"]).all_paths
    assert [(each["name"], each.get("profile")) for each in policy.sources] == [
        ("ours", None), ("tas-diego", "ours"), ("nats", "ours"),
    ]  # fmt: skip
    for text, says in (
        ("includes: [tas-deigo]", "no shipped policy is named 'tas-deigo'"),
        ("includes: [tas]", "'tas' is itself a profile"),
        ("paths: []", "no paths are declared"),
        ("includes: [nats]\npaths:\n" + GOOD.split("paths:\n")[1], "a profile has no paths of its own"),
    ):
        with pytest.raises(ConfigError, match=says):
            load_policy([written(tmp_path, head + text + "\n")])


def test_check_tells_all_unknown_roles_at_once(tmp_path: Path) -> None:
    ends = [("diego_cel", "uaa"), ("diego_cell", "uua"), ("nobody", "somebody")]
    paths = "".join(
        f"  - {{id: p{number}, source: {{vm: {orig}}}, destination: {{vm: {resp}}}, ports: {number}, transport: tcp, application: HTTPS, authentication: tls}}\n"
        for number, (orig, resp) in enumerate(ends, 1)
    )
    file = tmp_path / "ours.yml"
    file.write_text(
        f"schema: auditor.policy/1\nname: ours\nversion: '1'\ntitle: Ours\noverlay: true\norigin: {{title: us}}\npaths:\n{paths}"
    )
    told = [str(error) for error in check_policy(str(file))]
    assert len(told) == 4
    for each, says in zip(
        told,
        ("'diego_cel' (did you mean diego_cell?)", "'uua' (did you mean uaa?)", "'nobody'", "'somebody'"),
        strict=True,
    ):
        assert f"unknown role {says}" in each


WRONG_THROUGHOUT = """\
schema: auditor.policy/1
name: our-services
title: Services
overlay: true
colour: blue
origin: {title: t}
roles:
  - name: redis
    components: [Redis]
  - name: any
  - name: Bad-Role
    diego: maybe
aliases:
  origin: {title: a}
  entries:
    - {group: x, roles: [rediss]}
    - {group: y, roles: [diego_cel, {role: redis, components: [Rediss]}]}
    - {group: z, rolez: [redis]}
settings:
  origin: {title: s}
  tls: {minimum: "1.4"}
identities:
  origin: {title: i}
  declares: [tas-dieg]
  entries:
    - {name: a, components: [Repp], use: [client]}
    - {name: b, components: [Rep], use: [clients]}
    - {name: c, components: [Auctioner], use: [client]}
foundation:
  origin: {title: f}
  require_tls: [rep-to-bb, xyzzy]
  ports: {bbs-to-mysq: 1}
paths:
  - id: a
    source: {vm: [diego_cel, z]}
    destination: {vm: redis, component: Rediss}
    ports: 1
    application: TCP
    authentication: none
  - id: b
    source: {vm: diego_cell}
    destination: {vm: Bad-Role}
    application: TCPP
    authentication: none
  - id: c
    source: {vm: diego_cell}
    destination: {vm: Bad-Role}
    ports: 1
    application: TCP
    authentication: none
  - id: a
    source: {vm: diego_cell}
    destination: {vm: rediss}
    ports: 1
    application: TCP
    authentication: none
  - id: rep-to-bbs
    source: {vm: diego_cell}
    destination: {vm: redis}
    ports: 1
    application: TCP
    authentication: none
"""


def test_every_mistake_of_a_file_is_told_at_once_whatever_kind_it_is(tmp_path):
    file = written(tmp_path, WRONG_THROUGHOUT)
    told = check_policy(file)
    says = {(each.line, each.says) for each in told}
    assert [each.line for each in told] == [
        1,
        5,
        10,
        11,
        12,
        16,
        17,
        17,
        18,
        18,
        21,
        24,
        26,
        27,
        28,
        31,
        31,
        32,
        35,
        36,
        43,
        51,
        53,
        57,
    ]
    assert {
        (5, "unknown key 'colour'"),
        (10, "'any' means every VM and is not a role"),
        (16, "unknown role 'rediss'"),
        (17, "unknown component 'Rediss'"),
        (21, "'1.4' is not a valid minimum"),
        (24, "no policy loaded here has identities and the name 'tas-dieg'"),
        (27, "'clients' is not a valid use"),
        (28, "unknown component 'Auctioner'"),
        (31, "unknown path 'rep-to-bb'"),
        (32, "unknown path 'bbs-to-mysq'"),
        (53, "unknown role 'rediss'"),
    } <= says
    # What stands in a part that is wrong itself is not called unknown: the group z, the role Bad-Role.
    assert not any("'z'" in each or "unknown role 'Bad-Role'" in each for _, each in says)
    other = tmp_path / "other.yml"
    other.write_text("schema: auditor.policy/1\n")
    with pytest.raises(ConfigError) as caught:
        load_policy([file, str(other)])
    assert {(each.path, each.line) for each in caught.value.all} == {(file, each.line) for each in told} | {
        (str(other), 1)
    }
