"""What one usually wants to see of a connection table: who talks to whom, verdicts by path, connections over time.

Each is a table first (``pairs``, ``verdicts``, ``timeline``), which needs nothing but pandas, and a drawing of that table, which needs matplotlib. As they are
methods of the DataFrame, they are of what it holds: ``report.connections.query("disposition == 'undeclared'").auditor.plot_pairs()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from auditor.errors import ConfigError, MissingToolError
from auditor.report._text import clip, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OTHERS = "(others)"
VERDICTS = {
    "verified": "#1a7f37",
    "inferred": "#6fbf73",
    "inherited": "#3b8ea5",
    "unverifiable": "#9a9a9a",
    "not_applicable": "#d5d5d5",
    "rejected": "#e08a00",
    "violated": "#c0182b",
}
"""Verdicts in the order of their bars, and their colours."""
DISPOSITIONS = {"documented": "#3b6ea5", "ambient": "#9dbcd9", "out_of_scope": "#d5d5d5", "undeclared": "#c0182b"}
NAME_CHARACTERS = 40
BINS = 60
"""Default number of time intervals of a timeline."""
_DARK = 0.6
"""Cells above this share of the colour scale take white digits."""

By = Literal["role", "instance", "ip"]


@pd.api.extensions.register_dataframe_accessor("auditor")
class Plots:
    """``report.connections.auditor``: tables and drawings of the usual questions."""

    def __init__(self, connections: pd.DataFrame) -> None:
        if not {"originator_ip", "responder_ip", "start"} <= set(connections.columns):
            raise AttributeError("it is not a table of connections: report.connections.auditor")
        self._table = connections

    def pairs(self, by: By = "role", most: int = 25) -> pd.DataFrame:
        """How many connections each originator (rows) opened to each responder (columns).

        Parameters
        ----------
        by : what names an end: its role, its VM or its address. Where an end has no such name, its address
        most : so many originators and responders, the busiest; what is left is one more, ``(others)``
        """
        if by not in ("role", "instance", "ip"):
            raise ConfigError("by", f"there is no {by!r}", hint="role, instance or ip")
        ends = {name: self._ends(name, by, most) for name in ("originator", "responder")}
        return pd.crosstab(ends["originator"], ends["responder"], rownames=["originator"], colnames=["responder"])

    def verdicts(self) -> pd.DataFrame:
        """How many connections of each path (rows) had each verdict of authentication (columns). One that may be on several paths counts on each."""
        table = self._judged("paths", "authentication_verdict")[["paths", "authentication_verdict"]]
        on = table[table["paths"].map(bool).astype(bool)].explode("paths")
        verdicts = pd.Categorical(on["authentication_verdict"].astype(object), categories=list(VERDICTS))
        counted = pd.crosstab(on["paths"].astype(str), verdicts, dropna=False, rownames=["path"], colnames=["verdict"])
        return counted.reindex(columns=list(VERDICTS), fill_value=0)

    def timeline(self, every: str | None = None) -> pd.DataFrame:
        """How many connections began in each stretch of time (rows), by what the policy calls them (columns).

        Parameters
        ----------
        every : how long a stretch is, as pandas writes it: ``"1min"``. Without: a sixtieth of the whole, at least a second
        """
        table = self._judged("disposition")
        words = list(DISPOSITIONS)
        if not len(table):
            return pd.DataFrame(columns=pd.Index(words, name="disposition"), dtype=np.int64)
        start = table["start"]
        step = (
            max((start.max() - start.min()) / BINS, pd.Timedelta("1s")).ceil("s") if every is None else _length(every)
        )
        at = start.dt.floor(step)
        kinds = pd.Categorical(table["disposition"].astype(object), categories=words)
        counted = pd.crosstab(at, kinds, dropna=False, rownames=["start"], colnames=["disposition"])
        whole = pd.date_range(at.min(), at.max(), freq=step, name="start")
        return counted.reindex(index=whole, columns=words, fill_value=0)

    def plot_pairs(self, by: By = "role", most: int = 25, ax: Axes | None = None) -> Axes:
        """Draw who talks to whom; a red frame: some of it is undeclared. Raises MissingToolError without matplotlib."""
        axes = _axes(ax, (8, 7))
        counted = self.pairs(by, most)
        _titled(axes, "Who talks to whom", "responder", "originator")
        if counted.empty:
            return axes
        shown = np.log1p(counted.to_numpy(dtype=float))
        axes.imshow(np.where(shown > 0, shown, np.nan), cmap="Blues", vmin=0, aspect="auto")
        axes.set_xticks(range(counted.shape[1]), [_name(each) for each in counted.columns], rotation=45, ha="right")
        axes.set_yticks(range(counted.shape[0]), [_name(each) for each in counted.index])
        wrong = self._undeclared(by, most, counted)
        for (row, column), number in np.ndenumerate(counted.to_numpy()):
            if number:
                color = "white" if shown[row, column] > _DARK * shown.max() else "black"
                axes.text(column, row, f"{number:,}", ha="center", va="center", color=color, fontsize="small")
            if wrong[row, column]:
                axes.add_patch(_frame(column, row))
        return axes

    def plot_verdicts(self, ax: Axes | None = None) -> Axes:
        """Draw the verdicts of each path as bars. Raises MissingToolError without matplotlib."""
        counted = self.verdicts()
        axes = _axes(ax, (8, 1.5 + 0.3 * max(len(counted), 1)))
        _titled(axes, "Authentication by path", "connections", "")
        _stacked(axes, counted.iloc[::-1], VERDICTS)
        return axes

    def plot_timeline(self, every: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw connections over time. Raises MissingToolError without matplotlib."""
        counted = self.timeline(every)
        axes = _axes(ax, (9, 3.5))
        _titled(axes, "Connections over time", "UTC", "connections begun")
        if counted.empty:
            return axes
        days = list(dict.fromkeys(str(each.date()) for each in (counted.index[0], counted.index[-1])))
        axes.set_xlabel(f"{' to '.join(days)}, UTC")
        width = (counted.index[1] - counted.index[0]) if len(counted) > 1 else pd.Timedelta("1s")
        below = np.zeros(len(counted))
        for word, color in DISPOSITIONS.items():
            heights = counted[word].to_numpy(dtype=float)
            if heights.any():
                label = word.replace("_", " ")
                axes.bar(
                    counted.index.to_numpy(), heights, width.to_numpy(), below, align="edge", color=color, label=label
                )
                below += heights
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        axes.figure.autofmt_xdate()
        return axes

    def _judged(self, *columns: str) -> pd.DataFrame:
        for column in columns:
            if column not in self._table.columns:
                raise ConfigError(
                    "report.connections", f"has no column {column!r}", hint="auditor.audit judges connections"
                )
        return self._table

    def _ends(self, end: str, by: By, most: int) -> pd.Series[str]:
        table = self._table
        names = table[f"{end}_ip"].astype(object)
        if f"{end}_{by}" in table.columns:
            named = table[f"{end}_{by}"].astype(object)
            names = named.where(named.notna(), names)
        # As text that any table takes: what is no UTF-8, or steers a terminal, is escaped.
        names = names.map(lambda name: escape(str(name)))
        busiest = names.value_counts().index[: max(most, 1)]
        return names.where(names.isin(busiest), OTHERS)

    def _undeclared(self, by: By, most: int, counted: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which cells hold an undeclared connection."""
        if "disposition" not in self._table.columns:
            return np.zeros(counted.shape, dtype=bool)
        which = (self._table["disposition"] == "undeclared").to_numpy()
        ends = [self._ends(name, by, most)[which] for name in ("originator", "responder")]
        found = pd.crosstab(ends[0], ends[1]).reindex(index=counted.index, columns=counted.columns, fill_value=0)
        return found.to_numpy() > 0


def _length(every: str) -> pd.Timedelta:
    try:
        step = pd.Timedelta(every)
    except ValueError:
        step = pd.Timedelta(0)
    if step <= pd.Timedelta(0):
        raise ConfigError("every", f"{every!r} is not a length of time", hint='write "1min"')
    return step


def _axes(ax: Axes | None, inches: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingToolError("plots need matplotlib (pip install 'diego-flow-auditor[plots]')") from None
    made: Axes = plt.subplots(figsize=inches, layout="constrained")[1]
    return made


def _titled(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def _stacked(axes: Axes, counted: pd.DataFrame, colors: dict[str, str]) -> None:
    left = np.zeros(len(counted))
    names = [_name(each) for each in counted.index]
    for word, color in colors.items():
        widths = counted[word].to_numpy(dtype=float)
        if widths.any():
            axes.barh(names, widths, left=left, color=color, label=word.replace("_", " "))
            left += widths
    if len(counted):
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _frame(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=DISPOSITIONS["undeclared"], lw=2)


def _name(value: object) -> str:
    """A name as text: what matplotlib takes for a formula is none here."""
    return clip(str(value), NAME_CHARACTERS).replace("$", r"\$")
