"""Runs the cells of docs/notebook.ipynb in one process and keeps what they give: ``python docs/make_notebook.py``.

As Jupyter would, without its kernels and sockets: the last expression of a cell is shown as text and, where it can be, as HTML; figures as PNG. ``SOURCE``
below is what the notebook says; the file is made of it.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parent / "notebook.ipynb"
SOURCE = """
# # An audit in a notebook
#
# Made by `docs/make_notebook.py`; a test runs each cell again and compares. It needs `pip install '.[plots]'`, and Jupyter to be run by yourself. The capture is the
# sample that the README walks through: with your own, give file names, and an inventory with `inventory="vms.json"`.

import auditor

report = auditor.audit("sample:lab")
report

# ## What was found
#
# Tables are DataFrames; all columns are in [reports.md](reports.md). Severities and confidences are ordered.

grave = report.findings[report.findings["severity"] >= "high"].sort_values("severity", ascending=False)
grave[["id", "severity", "confidence", "rule", "title"]].reset_index(drop=True)

# ## The connections behind one of them

finding = report.findings[report.findings["rule"] == "plaintext"].iloc[0]
behind = report.connections[report.connections["id"].isin(finding["connections"])]
behind[
    ["start", "originator_instance", "responder_instance", "responder_port", "paths", "authentication_verdict"]
].reset_index(drop=True)

# The packets themselves: `auditor slice CAPTURE... --finding ID -w out.pcapng`.

print(finding["detail"])

# ## Who talks to whom
#
# `report.connections.auditor` has a table and a plot for each of the usual questions, of whatever the DataFrame holds: filter it first. A red frame: some of it is
# undeclared.

report.connections.auditor.pairs()

report.connections.auditor.plot_pairs();

undeclared = report.connections.query("disposition == 'undeclared'")
undeclared.auditor.pairs(by="instance")

# ## How each path authenticated

report.connections.auditor.plot_verdicts();

# ## When

report.connections.auditor.plot_timeline(every="1s");

# ## What each actor did
#
# Incidents tell a story of several findings, those that got farthest first.

for incident in report.incidents:
    print(incident["severity"], incident["title"])

# ## Your own inventory, and mistakes
#
# `inventory=` and `policy=` take files, DataFrames, lists of dicts, dicts and parsed objects; `since=` takes `"2h"`, RFC 3339 or a datetime. What is wrong is an
# `auditor.ConfigError` that says what to write instead.

import pandas as pd

vms = pd.DataFrame([{"name": "diego_cell/0", "ip": "10.0.8.20"}, {"name": "diego_cell/1", "ip": "10.0.8.21"}])
few = auditor.audit("sample:lab", inventory=vms, since="2026-11-22T20:52:10Z")
few.connections["originator_instance"].value_counts().head(2)

try:
    auditor.audit("sample:lab", fail_on="hihg")
except auditor.ConfigError as error:
    print(error)
"""


def cells() -> list[tuple[str, str]]:
    """(kind, text) of each cell: what stands together between empty lines."""
    found = []
    for block in SOURCE.strip().split("\n\n"):
        lines = block.split("\n")
        if all(line.startswith("#") for line in lines):
            text = "\n".join(line[2:] for line in lines)
            if found and found[-1][0] == "markdown":
                text = f"{found.pop()[1]}\n\n{text}"
            found.append(("markdown", text))
        elif found and found[-1][0] == "code" and lines[0].startswith((" ", "report = ", "vms = ")):
            found.append(("code", f"{found.pop()[1]}\n\n{block}"))
        else:
            found.append(("code", block))
    return found


def run(text: str, names: dict[str, Any], pictures: bool = True) -> list[dict[str, Any]]:
    """What a cell gives, as a notebook keeps it; without ``pictures`` figures by their titles alone."""
    import matplotlib.pyplot as plt
    import pandas as pd

    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) and not text.rstrip().endswith(";") else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)  # noqa: S102  # it is the notebook's own text
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307  # the same
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines(printed.getvalue())})
    if value is not None:
        with pd.option_context("display.width", 120, "display.max_columns", 20, "display.max_colwidth", 60):
            shown = {"text/plain": lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            shown["text/html"] = lines(value._repr_html_())
        outputs.append({"output_type": "execute_result", "data": shown, "metadata": {}, "execution_count": None})
    for number in plt.get_fignums():
        data: dict[str, Any] = {"text/plain": [f"<Figure: {plt.figure(number).axes[0].get_title()}>"]}
        if pictures:
            image = io.BytesIO()
            plt.figure(number).savefig(image, format="png", dpi=70, metadata={"Software": None})
            data["image/png"] = base64.b64encode(image.getvalue()).decode()
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    plt.close("all")
    return outputs


def lines(text: str) -> list[str]:
    """A text as a notebook keeps it."""
    return text.splitlines(keepends=True)


def made(pictures: bool = True) -> dict[str, Any]:
    """The notebook, run anew."""
    import matplotlib as mpl

    mpl.use("Agg")
    names: dict[str, Any] = {}
    found: list[dict[str, Any]] = []
    for number, (kind, text) in enumerate(cells(), 1):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": lines(text)}
        if kind == "code":
            count = sum(each["cell_type"] == "code" for each in found) + 1
            outputs = run(text, names, pictures)
            for each in outputs:
                if "execution_count" in each:
                    each["execution_count"] = count
            cell |= {"execution_count": count, "outputs": outputs}
        found.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": found,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


if __name__ == "__main__":
    NOTEBOOK.write_text(json.dumps(made(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
