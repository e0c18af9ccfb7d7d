"""Pages: the docstring is the page, in the terminal and in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import close_names
from auditor.model.roles import Rule, Severity
from auditor.policy.loader import load_policy
from auditor.rules import _pages

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("rule", _pages.rules(), ids=lambda rule: rule.name)
def test_every_rule_has_a_whole_page(rule):
    page = _pages.rule_page(rule)
    assert [title for title, _ in page.sections] == list(_pages.SECTIONS)
    assert all(len(text) > 40 and text.endswith((".", "!")) for _, text in page.sections)
    assert max(map(len, page.as_text().splitlines())) <= 80


def test_the_documentation_is_not_stale():
    """Mend: python docs/make_rules.py."""
    written = {each.name: each.read_text(encoding="utf-8") for each in (ROOT / "docs" / "rules").glob("*.md")}
    assert written == _pages.documents()


def test_a_docstring_that_is_no_page_is_refused():
    def check(judged):
        return iter(())

    with pytest.raises(ValueError, match="does not begin with 'no-such-rule: '"):
        _pages.rule_page(Rule("no-such-rule", Severity.LOW, check))


def test_a_path_says_who_what_where_and_which_look_alike():
    policy = load_policy(["tas-diego"])
    text = _pages.path_text(policy.path("rep-to-bbs"), policy)
    assert text.startswith("rep-to-bbs: documented path of policy tas-diego, row 12 of its page\n")
    for expected in (
        "diego_cell (Rep)",
        "diego_database (BBS)",
        "8889 (tcp)",
        "HTTPS",
        "Mutual TLS",
        "route-emitter-to-bbs",
    ):
        assert expected in text
    assert "host-side ports that map to container port 2222" in " ".join(
        _pages.path_text(policy.path("ssh-proxy-to-app"), policy).split()
    )


def test_every_path_of_the_policy_has_a_page():
    policy = load_policy(["tas-diego"])
    for path in policy.all_paths:
        assert _pages.path_text(path, policy).startswith(f"{path.id}: ")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("undeclared-conection", "undeclared-connection"), ("Port_Sweep", "port-sweep"), ("sweep", "port-sweep")],
)
def test_close_names(wrong, right):
    assert right in close_names(wrong, [rule.name for rule in _pages.rules()])


def test_nothing_is_close_to_nonsense():
    assert close_names("zzzzzz", [rule.name for rule in _pages.rules()]) == []
