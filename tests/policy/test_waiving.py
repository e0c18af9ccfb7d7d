"""A waiver put at the end of somebody's file: what was there stays as it was, letter for letter."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import ConfigError
from auditor.jobs.keep import rule_names
from auditor.policy.waivers import Known, load_waivers
from auditor.policy.waiving import appended, check, entry

RULES = Known(rule_names())
VALUES = {
    "rule": "undeclared-connection",
    "match": {"from": "diego_cell", "to": ["uaa", "10.0.0.0/8"], "port": 8443},
    "reason": 'token fetch: "agent" # until 6.0',
    "owner": "platform",
    "ticket": "OPS-1",
    "expires": date(2027, 3, 31),
    "max_findings": 2,
}
OLD = "rule: plaintext\n{0}  match: {{path: rep-to-cc}}\n{0}  reason: r\n{0}  owner: o\n{0}  ticket: t\n{0}  expires: 2027-01-01\n"


def models(text, tmp_path, name="w.yml"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return [each.model for each in load_waivers([str(tmp_path / name)], RULES).entries]


def test_an_empty_file_becomes_a_waiver_file(tmp_path):
    text = appended("", VALUES, RULES, "w.yml")
    assert text.startswith("schema: auditor.waivers/1\nwaivers:\n")
    [made] = models(text, tmp_path)
    assert made == check(VALUES, RULES, "w.yml").model
    assert (made.match.to, made.reason, made.expires) == (("uaa", "10.0.0.0/8"), VALUES["reason"], VALUES["expires"])


@pytest.mark.parametrize("indent", ["", "  ", "    "])
@pytest.mark.parametrize("end", ["", "\n", "\n\n# the end\n"])
def test_what_was_there_stays(tmp_path, indent, end):
    before = f"# ours\nschema: auditor.waivers/1\nwaivers:  # a list\n{indent}- {OLD.format(indent)}".rstrip("\n") + end
    text = appended(before, VALUES, RULES, "w.yml")
    assert text.startswith(before.rstrip("\n"))
    assert [each.rule for each in models(text, tmp_path)] == ["plaintext", "undeclared-connection"]
    again = appended(text, VALUES, RULES, "w.yml")
    assert len(models(again, tmp_path)) == 3


@pytest.mark.parametrize(
    "before",
    [
        "waivers: []\n",
        "waivers:\n",
        "schema: auditor.waivers/1\nwaivers:\n",
        "schema: auditor.waivers/1\n",
        "waivers: null\n",
    ],
)
def test_a_list_without_entries(tmp_path, before):
    assert len(models(appended(before, VALUES, RULES, "w.yml"), tmp_path)) == 1


@pytest.mark.parametrize(
    "before",
    [
        "waivers: [{rule: plaintext, match: {path: x}, reason: r, owner: o, ticket: t, expires: 2027-01-01}]\n",
        f"waivers:\n  - {OLD.format('  ')}schema: auditor.waivers/1\n",
    ],
)
def test_a_file_without_a_place_at_its_end_is_left_alone(before):
    with pytest.raises(ConfigError, match="by hand"):
        appended(before, VALUES, RULES, "w.yml")


def test_a_broken_file_is_told():
    with pytest.raises(ConfigError, match=r"w\.yml:2"):
        appended("waivers:\n  - {rule: nothing}\n", VALUES, RULES, "w.yml")


def test_json(tmp_path):
    text = appended("", VALUES, RULES, "w.json")
    assert json.loads(text)["schema"] == "auditor.waivers/1"
    again = appended(text, VALUES, RULES, "w.json")
    assert len(models(again, tmp_path, "w.json")) == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rule": "nothing"}, "unknown rule"),
        ({"match": {}}, "match is empty"),
        ({"match": {"from": "x", "port": "http"}}, "port"),
        ({"reason": ""}, "reason"),
        ({"expires": "soon"}, "date"),
        ({"max_findings": 0}, "max_findings"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_no_waiver_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        appended("", {**VALUES, **wrong}, RULES, "w.yml")


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).filter(
        str.strip
    )
)
def test_any_words_come_back(text):
    values = {**VALUES, "reason": text}
    try:
        made = check(values, RULES, "w.yml")
    except ConfigError:
        return  # a character that no YAML file may hold
    assert made.model.reason == text.strip()
    assert appended("", values, RULES, "w.yml").endswith(entry(values).splitlines()[-1] + "\n")
