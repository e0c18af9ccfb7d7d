"""Tables and drawings of a DataFrame of connections."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

import auditor
from auditor.errors import ConfigError, MissingToolError
from auditor.report import _plots as plots
from tests.conftest import absent
from tests.report import make


@pytest.fixture(scope="module")
def table():
    return auditor.Report(make.audit()).connections


@pytest.fixture
def axes():
    try:
        import matplotlib as mpl
    except ImportError:
        absent("matplotlib is not installed (pip install '.[plots]')")
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    yield lambda: plt.subplots()[1]
    plt.close("all")


def test_who_talks_to_whom_counts_every_connection(table):
    for by in ("role", "instance", "ip"):
        assert table.auditor.pairs(by).to_numpy().sum() == len(table)
    first = table.iloc[0]
    assert table.auditor.pairs("ip").loc[first["originator_ip"], first["responder_ip"]] >= 1
    few = table.auditor.pairs("ip", most=1)
    assert few.shape <= (2, 2)
    assert few.to_numpy().sum() == len(table)
    assert plots.OTHERS in (*few.index, *few.columns)
    with pytest.raises(ConfigError, match="there is no 'rolle'"):
        table.auditor.pairs("rolle")


def test_verdicts_by_path_agree_with_the_table(table):
    counted = table.auditor.verdicts()
    on = table[table["paths"].map(bool)]
    assert list(counted.columns) == list(plots.VERDICTS)
    assert set(counted.index) == {path for held in on["paths"] for path in held}
    assert set(on["authentication_verdict"]) <= set(plots.VERDICTS), "each verdict has its colour"
    for path in counted.index:
        mine = on[[path in held for held in on["paths"]]]
        assert counted.loc[path].to_dict() == {
            word: (mine["authentication_verdict"] == word).sum() for word in plots.VERDICTS
        }


def test_a_timeline_has_every_stretch_and_every_connection(table):
    counted = table.auditor.timeline("1min")
    assert counted.to_numpy().sum() == len(table)
    assert set(table["disposition"]) <= set(counted.columns)
    assert (counted.index[1:] - counted.index[:-1] == pd.Timedelta("1min")).all()
    assert 1 <= len(table.auditor.timeline()) <= plots.BINS + 1
    with pytest.raises(ConfigError, match="is not a length of time"):
        table.auditor.timeline("-1min")
    with pytest.raises(ConfigError, match="'soon' is not a length of time"):
        table.auditor.timeline("soon")


def test_a_filtered_and_an_empty_table_are_tables_too(table):
    some = table[table["disposition"] == "undeclared"]
    assert some.auditor.pairs().to_numpy().sum() == len(some)
    none = table.iloc[:0]
    assert none.auditor.pairs().empty
    assert none.auditor.verdicts().empty
    assert none.auditor.timeline().empty


def test_what_is_no_table_of_connections_says_so(table):
    with pytest.raises(AttributeError, match="not a table of connections"):
        _ = pd.DataFrame({"a": [1]}).auditor
    bare = table.drop(columns=["paths", "disposition"])
    assert len(bare.auditor.pairs())
    with pytest.raises(ConfigError, match=r"has no column 'paths' \(auditor.audit judges"):
        bare.auditor.verdicts()


def test_drawings_hold_what_the_tables_hold(table, axes):
    counted = table.auditor.pairs()
    drawn = table.auditor.plot_pairs(ax=axes())
    assert [each.get_text() for each in drawn.get_yticklabels()] == list(counted.index)
    assert sorted(int(each.get_text().replace(",", "")) for each in drawn.texts) == sorted(
        each for each in counted.to_numpy().ravel() if each
    )
    framed = {
        (row["originator_role"] or row["originator_ip"], row["responder_role"] or row["responder_ip"])
        for _, row in table[table["disposition"] == "undeclared"]
        .astype(object)
        .where(lambda each: each.notna(), None)
        .iterrows()
    }
    assert len(drawn.patches) == len(framed) > 0
    bars = table.auditor.plot_verdicts(ax=axes())
    assert sum(each.get_width() for each in bars.patches) == table.auditor.verdicts().to_numpy().sum()
    over_time = table.auditor.plot_timeline(ax=axes())
    assert sum(each.get_height() for each in over_time.patches) == len(table)
    for draw in ("plot_pairs", "plot_verdicts", "plot_timeline"):
        assert getattr(table.iloc[:0].auditor, draw)(ax=axes()).get_title()
    assert table.auditor.plot_timeline().figure is not over_time.figure


def test_a_name_from_the_wire_is_text_and_no_formula(table, axes):
    odd = table.iloc[:1].assign(originator_role="$x^2$\x1b[31m" + "n" * 200)
    drawn = odd.auditor.plot_pairs(ax=axes())
    drawn.figure.canvas.draw()
    [label] = [each.get_text() for each in drawn.get_yticklabels()]
    assert label.startswith(r"\$x^2\$")
    assert "\x1b" not in label
    assert len(label) < 60


def test_without_matplotlib_the_error_says_what_to_install(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingToolError, match=r"plots need matplotlib \(pip install 'diego-flow-auditor\[plots\]'\)"):
        table.auditor.plot_pairs()
