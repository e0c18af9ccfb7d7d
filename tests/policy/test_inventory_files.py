"""The forms an inventory comes in, and what is wrong with one that does not parse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import ConfigError
from auditor.policy.addresses import to_int, to_text
from auditor.policy.inventory import load_inventory
from auditor.policy.inventory_files import Read, read, read_text_as
from auditor.policy.policy import Policy

VMS: dict[str, Any] = {
    "Tables": [
        {
            "Content": "vms",
            "Header": {"instance": "Instance", "ips": "IPs", "az": "AZ"},
            "Rows": [
                {
                    "active": "true", "az": "z1", "instance": "diego_cell/2b0c4f6e-0000-4000-8000-000000000001",
                    "ips": "10.0.4.20\nfd00::20", "process_state": "running", "vm_cid": "vm-1", "vm_type": "xlarge",
                },
                {"active": "-", "az": "", "instance": "?", "ips": "10.0.4.99", "process_state": "unresponsive agent"},
                {"active": "true", "az": "z1", "instance": "diego_brain", "ips": "10.0.4.21", "process_state": "failing"},
                {"active": "true", "az": "z1", "instance": "uaa/u1", "ips": "", "process_state": "starting"},
            ],
            "Notes": None,
        },
        {"Content": "vms", "Header": {}, "Rows": [{"instance": "redis/r1", "ips": "10.0.8.4"}], "Notes": []},
        {"Content": "vms", "Header": {}, "Rows": None, "Notes": None},
    ],
    "Blocks": None,
    "Lines": ["Using environment '10.0.0.6' as client 'admin'", "Task 86. Done", "Succeeded"],
}  # fmt: skip

RECORDS: dict[str, Any] = {
    "record_keys": [
        "id", "num_id", "instance_group", "group_ids", "az", "az_id", "network", "network_id", "deployment", "ip", "domain",
        "agent_id", "instance_index",
    ],
    "record_infos": [
        ["03d941fa", "97", "diego-cell", ["4"], "z2", "2", "net", "16", "cf-1", "10.0.1.4", "bosh", "e32d", 3],
        ["03d941fa", "97", "diego-cell", ["4"], None, None, "other", "17", "cf-1", "10.0.2.4", "bosh", "e32d", 3],
        ["0aaaaaaa", "98", "ig-38585486", ["5"], "z2", "2", "net", "16", "dep", "10.0.1.5", "bosh", "e32e", 0],
        ["0bbbbbbb", "99", "router", ["6"], "z2", "2", "net", "16", "service-instance_77", "10.0.9.5", "bosh", "e32f", 0],
    ],
}  # fmt: skip


def parse(text: str | dict[str, Any], policy: Policy) -> Read:
    return read_text_as("vms", text if isinstance(text, str) else json.dumps(text), policy)


def told(found: Read) -> list[tuple[str | None, str | None, list[str]]]:
    return [(one.instance, one.group, [to_text(first) for first, _ in one.spans]) for one in found.entries]


def test_bosh_vms(tas_diego: Policy) -> None:
    found = parse(VMS, tas_diego)
    assert found.form == "bosh"
    guid = "2b0c4f6e-0000-4000-8000-000000000001"
    assert told(found) == [
        (f"diego_cell/{guid}", "diego_cell", ["10.0.4.20", "fd00::20"]),
        ("?", None, ["10.0.4.99"]),
        ("diego_brain", "diego_brain", ["10.0.4.21"]),
        ("redis/r1", "redis", ["10.0.8.4"]),
    ]


def test_bosh_instances_with_a_row_for_each_process(tas_diego: Policy) -> None:
    rows = [
        {"instance": "diego_cell/1", "process": process, "ips": "10.0.4.20", "deployment": "cf-1", "index": "0"}
        for process in ("", "rep", "garden")
    ]
    service = {"instance": "mysql/1", "ips": "10.0.9.20", "deployment": "service-instance_0a", "process": ""}
    found = parse(
        {"Tables": [{"Content": "instances", "Rows": [*rows, service]}], "Blocks": [], "Lines": None}, tas_diego
    )
    assert told(found) == [("diego_cell/1", "diego_cell", ["10.0.4.20"]), ("mysql/1", "mysql", ["10.0.9.20"])]
    assert [one.deployment for one in found.entries] == ["cf-1", "service-instance_0a"]


def test_bosh_dns_records(tas_diego: Policy) -> None:
    found = parse(RECORDS, tas_diego)
    assert found.form == "bosh-dns"
    assert told(found) == [
        ("diego-cell/03d941fa", "diego-cell", ["10.0.1.4", "10.0.2.4"]),
        ("ig-38585486/0aaaaaaa", "ig-38585486", ["10.0.1.5"]),
        ("router/0bbbbbbb", "router", ["10.0.9.5"]),
    ]
    assert [one.deployment for one in found.entries] == ["cf-1", "dep", "service-instance_77"]


def test_record_keys_give_the_order(tas_diego: Policy) -> None:
    turned = {
        "record_keys": RECORDS["record_keys"][::-1], "record_infos": [row[::-1] for row in RECORDS["record_infos"]],
        "version": 3, "records": [["10.0.1.4", "03d941fa.diego-cell.net.cf-1.bosh"]], "aliases": {},
    }  # fmt: skip
    assert told(parse(turned, tas_diego)) == told(parse(RECORDS, tas_diego))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tas_diego: Policy, delimiter: str) -> None:
    rows = [
        ["IP Address", "Name", "Role", "From", "Fronts", "AZ"],
        ["10.0.4.20", "diego_cell/1", "", "2026-01-01", "", "z1"],
        ["10.0.4.21 fd00::1", "edge", "router|uaa", "", "uaa", ""],
    ]
    text = "# written by hand\n" + "\r\n".join(delimiter.join(row) for row in rows) + "\r\n\r\n"
    found = parse(text, tas_diego)
    assert found.form == "csv"
    assert told(found) == [("diego_cell/1", "diego_cell", ["10.0.4.20"]), ("edge", None, ["10.0.4.21", "fd00::1"])]
    assert found.entries[0].from_ns is not None
    assert found.entries[1].roles == ("router", "uaa")
    assert found.entries[1].fronts[0].role == "uaa"


def test_csv_with_quoted_cells(tas_diego: Policy) -> None:
    found = parse('name,ips,roles\n"x, the first","10.0.0.1,10.0.0.2","uaa,nats"\n', tas_diego)
    assert told(found) == [("x, the first", None, ["10.0.0.1", "10.0.0.2"])]
    assert found.entries[0].roles == ("uaa", "nats")


@pytest.mark.parametrize(
    "text",
    [
        "- {ip: 10.0.4.20, name: diego_cell/1, role: diego_cell}\n",
        "- ip: 10.0.4.20\n  name: diego_cell/1\n  role: diego_cell\n",
        '[{"ip": "10.0.4.20", "name": "diego_cell/1", "role": "diego_cell"}]',
        "[{ip: 10.0.4.20, name: diego_cell/1, role: diego_cell}]",
        '{"vms": [{"ips": ["10.0.4.20"], "instance": "diego_cell/1", "roles": ["diego_cell"]}]}',
        "\ufeffschema: auditor.inventory/1\nvms:\n  - {ips: 10.0.4.20, name: diego_cell/1, roles: diego_cell}\n",
    ],
)
def test_our_own_in_many_spellings(tas_diego: Policy, tmp_path: Path, text: str) -> None:
    file = tmp_path / "whatever.txt"
    file.write_text(text, encoding="utf-8")
    found = read(str(file), tas_diego)
    assert (found.form, told(found)) == ("auditor", [("diego_cell/1", "diego_cell", ["10.0.4.20"])])
    assert found.entries[0].roles == ("diego_cell",)


MISTAKES: list[tuple[str | dict[str, Any], str, str]] = [
    ("", "vms: is empty", "list at least one VM"),
    ("   \n", "vms: is empty", ""),
    ("# nothing\n", "vms: is not an inventory", "write a list such as"),
    ("hello\n", "vms: is not an inventory", "write a list such as"),
    ("vms: []\n", "vms: names no address", "list at least one VM"),
    ("- {ip: 10.0.4.300, name: a}\n", "vms:1: '10.0.4.300' is not an address or network", "write 10.0.4.20"),
    ("- {ip: 10.0.4.20, name: a}\n- {ip: '10.0.4.2O', name: b}\n", "vms:2: '10.0.4.2O' is not an address", "did you mean 10.0.4.2?"),
    ("vms:\n  - name: a\n    cidrs:\n      - 10.0.0.0/33\n", "vms:3: '10.0.0.0/33' is not an address", ""),
    ("- {name: a}\n", "vms:1: an entry has no address", "add ips: or cidrs:"),
    ("- {ip: 10.0.0.1, rol: uaa}\n", "vms:1: unknown key 'rol'", "did you mean role?"),
    ("vm:\n  - {ip: 10.0.0.1}\n", "vms:1: unknown key 'vm'", "did you mean vms?"),
    ("networks: [ten]\nvms:\n  - {ip: 10.0.0.1}\n", "vms:1: 'ten' is not an address or network", ""),
    ("- {ip: 10.0.0.1, from: soon}\n", "vms:1: from: 'soon' is not a time", "write 2026-01-31"),
    ("- {ip: 10.0.0.1, from: 2026-02-01, until: 2026-01-01}\n", "vms:1: until is not after from", "swap"),
    ("- {ip: 10.0.0.1, fronts: uua}\n", "vms:1: fronts: no policy knows the role 'uua'", "did you mean uaa?"),
    ("- {ip: 10.0.0.1, fronts: {role: uaa, ports: 99999}}\n", "vms:1: port 99999 is outside", ""),
    ("- {ip: 10.0.0.1, name: a, name: b}\n", "vms:1: key 'name' is there twice", "keep one"),
    ("- {ip: 10.0.0.1, name: a, instance: b}\n", "vms:1: name and instance differ", "keep one"),
    ("- {ip: 10.0.0.1\n", "vms:2: is not valid YAML", ""),
    ("- 10.0.0.1\n", "vms:1: an item of 'vms' must be a mapping", ""),
    ('{"vms": [', "vms:1: is not valid JSON", "complete"),
    ('[{"ip": "10.0.0.1"},\n {"ip": "10.0.0"}]', "vms:2: '10.0.0' is not an address", ""),
    ('[{"ip": "10.0.0.1"}, {"ip": "10.0.0"}]', "vms:1: vms[1]: '10.0.0' is not an address", ""),
    ('{"a": 1}', "vms: is not an inventory", "bosh vms --json"),
    ("ip: 10.0.0.1\nname: a\n", "vms:1: is one VM, not a list of VMs", "begin it with '- '"),
    ("schema: auditor.policy/1\nname: a\n", "vms: is a policy, not an inventory", "--policy FILE"),
    ("waivers: []\n", "vms: is a file of waivers, not an inventory", "--waivers FILE"),
    ("# Notes\n\nOur cells: see below.\n\tx: y: z\n", "vms: is not an inventory", "write a list such as"),
    ("ip,name\n10.0.0.1,a\n10.0.0.256,b\n", "vms:3: '10.0.0.256' is not an address", ""),
    ("ip,nam\n10.0.0.1,a\n", "vms:1: unknown column 'nam'", "did you mean name?"),
    ("ip,name\n,a\n", "vms:2: a row has no address", "fill in"),
    ("ip,name\n10.0.0.1,a,b\n", "vms:2: a row has more cells", "quote"),
    ("ip,name,vm\n10.0.0.1,a,b\n", "vms:1: column 'vm' is there twice", "keep one"),
    ("ip,name\n", "vms: names no address", ""),
    ({"Tables": None}, "vms: 'Tables' is not a list", "bosh vms --json"),
    ({"Tables": []}, "vms: no table has the columns instance and ips", "bosh vms --json"),
    ({"Tables": [{"Content": "stemcells", "Rows": [{"name": "x"}]}]}, "no table has the columns", "bosh vms"),
    ({"Tables": [{"Rows": ["x"]}]}, "Tables[0].Rows[0] is not a row of texts", ""),
    ({"Tables": [{"Rows": [{"instance": "a/1", "ips": 7}]}]}, "Tables[0].Rows[0] is not a row of texts", ""),
    ({"Tables": [{"Rows": [{"instance": "a/1", "ips": "ten"}]}]}, "Tables[0].Rows[0]: 'ten' is not an address", ""),
    ({"Tables": [{"Rows": [{"instance": "a/1", "ips": ""}]}]}, "vms: names no address", ""),
    ({"record_keys": ["ip"]}, "record_keys and record_infos are not both lists", "records.json"),
    ({"record_keys": ["ip"], "record_infos": []}, "record_keys lack ip or instance_group", ""),
    ({**RECORDS, "record_infos": [["x"]]}, "record_infos[0] does not match record_keys", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says", "hint"), MISTAKES, ids=[str(one[1])[:50] for one in MISTAKES])
def test_mistakes(tas_diego: Policy, text: str | dict[str, Any], says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, tas_diego)
    assert says in str(caught.value)
    assert hint in (caught.value.hint or "")
    assert "\n" not in str(caught.value)


@given(text=st.text(max_size=120) | st.from_regex(r"(ip|name|role|vms|- |\{|\}|:|,|\n| |10\.0\.0\.1|\[|\]|\"){0,25}"))
def test_any_text_is_an_inventory_or_one_clear_error(tas_diego: Policy, text: str) -> None:
    try:
        found = parse(text, tas_diego)
    except ConfigError as error:
        assert str(error).startswith("vms")
    else:
        assert found.entries


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from(["10.0.0.1", "a/1"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["Tables", "Rows", "instance", "ips", "record_keys", "record_infos", "vms", "ip", "fronts"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)  # fmt: skip


@given(value=json_values)
def test_any_json_is_an_inventory_or_one_clear_error(tas_diego: Policy, value: object) -> None:
    try:
        found = parse(json.dumps(value), tas_diego)
    except ConfigError as error:
        assert str(error).startswith("vms")
    else:
        assert found.entries


@given(address=st.ip_addresses())
def test_addresses_of_both_kinds(tas_diego: Policy, address: object) -> None:
    (entry,) = parse(f"ip,name\n{address},a\n", tas_diego).entries
    assert entry.spans == ((to_int(str(address)), to_int(str(address))),)


def test_a_large_foundation_is_read_once_through(tas_diego: Policy) -> None:
    keys = ["id", "instance_group", "ip"]
    rows = [[f"id{at}", "diego-cell", f"10.0.{at // 250}.{at % 250 + 1}"] for at in range(20_000)]
    assert len(parse({"record_keys": keys, "record_infos": rows}, tas_diego).entries) == 20_000


@pytest.mark.parametrize(
    ("header", "says"),
    [("vm_name,adress,job", "adress (did you mean address"), ("who;where;why", "rename that column to ip")],
)
def test_a_table_with_an_unknown_header_is_told_as_such(
    tmp_path: Path, tas_diego: Policy, header: str, says: str
) -> None:
    file = tmp_path / "who.csv"
    file.write_text(f"# ours\n{header}\n" + header.replace("adress", "10.0.4.20").replace("where", "10.0.4.20") + "\n")
    with pytest.raises(ConfigError) as caught:
        read(str(file), tas_diego)
    assert "the table header has no column of addresses" in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.line == 2


ALL: dict[str, tuple[str, list[str]]] = {
    "yaml": (
        """networks: [10.0.0.0/33]
vms:
  - {name: diego_cell/0, ip: 10.0.4.20x, roel: diego_cell}
  - {name: diego_cell/1, ip: 10.0.4.300, from: yesterday}
  - {name: diego_brain/1}
  - {name: lb, ip: 10.0.4.25, fronts: uua}
  - {name: x, ip: 10.0.4.26, from: 2026-02-01, until: 2026-01-01}
""",
        [
            "vms:1: '10.0.0.0/33' is not an address or network",
            "vms:3: unknown key 'roel' (did you mean role?)",
            "vms:3: '10.0.4.20x' is not an address or network (did you mean 10.0.4.20?)",
            "vms:4: '10.0.4.300' is not an address or network",
            "vms:4: from: 'yesterday' is not a time",
            "vms:5: an entry has no address (add ips: or cidrs:)",
            "vms:6: fronts: no policy knows the role 'uua' (did you mean uaa?)",
            "vms:7: until is not after from",
        ],
    ),
    "json": (
        '[{"ip": "10.0.0.x", "rol": "a"},\n {"ip": "10.0.0"}, {"name": "y"}]',
        [
            "vms:1: unknown key 'rol' (did you mean role?)",
            "vms:1: '10.0.0.x' is not an address",
            "vms:2: an entry has no address",
            "vms:2: '10.0.0' is not an address",
        ],
    ),
    "json in one line": (
        '[{"ip": "10.0.0.1", "rol": "a"}, {"ip": ["10.0.0"]}]',
        ["vms: vms[0]: unknown key 'rol'", "vms:1: vms[1]: '10.0.0' is not an address"],
    ),
    "csv": (
        "ip,name,rolle,until\n10.0.4.20x,a,,\n10.0.4.21,b,,,x\n,c,,\n10.0.4.22,d,,soon\n",
        [
            "vms:1: unknown column 'rolle' (did you mean role?)",
            "vms:2: '10.0.4.20x' is not an address or network (did you mean 10.0.4.20?)",
            "vms:3: a row has more cells than the header",
            "vms:4: a row has no address",
            "vms:5: until: 'soon' is not a time",
        ],
    ),
    "bosh": (
        json.dumps({"Tables": [{"Rows": [{"instance": "a/1", "ips": at} for at in ("ten", "10.0.0.1", 7, "x")]}]}),
        [
            "vms: Tables[0].Rows[2] is not a row of texts",
            "vms:1: Tables[0].Rows[0]: 'ten' is not an address",
            "vms:1: Tables[0].Rows[3]: 'x' is not an address",
        ],
    ),
    "records": (
        json.dumps({**RECORDS, "record_infos": [["x"], ["y"], *RECORDS["record_infos"]]}),
        ["vms: record_infos[0] does not match record_keys", "vms: record_infos[1] does not match record_keys"],
    ),
}


@pytest.mark.parametrize("form", ALL)
def test_all_mistakes_are_told_at_once(tas_diego: Policy, form: str) -> None:
    text, expected = ALL[form]
    with pytest.raises(ConfigError) as caught:
        parse(text, tas_diego)
    told_all = [str(each) for each in caught.value.all]
    assert len(told_all) == len(expected), told_all
    for line, says in zip(told_all, expected, strict=True):
        assert line.startswith(says)


def test_a_mistake_in_every_row_is_not_told_a_thousand_times(tas_diego: Policy) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("ip,name\n" + "ten,a\n" * 1_000, tas_diego)
    assert len(caught.value.all) == 101
    assert str(caught.value.all[-1]) == "vms: has more than 100 mistakes (correct these first)"


def test_mistakes_of_several_inventories_are_told_at_once(tmp_path: Path, tas_diego: Policy) -> None:
    files = []
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("ip,name\nten,a\n")
        files.append(tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        load_inventory([*files, tmp_path / "none.yml"], tas_diego)
    assert [Path(each.path).name for each in caught.value.all] == ["a.csv", "b.csv", "none.yml"]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\xd4\xc3\xb2\xa1\x02\x00", "is a packet capture"),
        (b"\x0a\x0d\x0d\x0a\xff\xff", "is a packet capture"),
        (b"\x1f\x8b\x08\x00", "is compressed (gzip)"),
        (b"ip,name\n\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_text_is_told_as_what_it_is(tmp_path: Path, tas_diego: Policy, raw: bytes, says: str) -> None:
    file = tmp_path / "vms"
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match=re.escape(says)):
        read(str(file), tas_diego)
