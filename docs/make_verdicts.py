"""Writes the tables of docs/verdicts.md from the corpus of TLS handshakes: ``python docs/make_verdicts.py``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "verdicts.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def load(name: str) -> ModuleType:
    """A module of captures/tls, which is no package."""
    spec = importlib.util.spec_from_file_location(f"tls_corpus_{name}", ROOT / "captures" / "tls" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def tables() -> str:
    """Both measures, in Markdown."""
    confusion, fit = load("confusion"), load("fit")
    judged = confusion.judged(confusion.read.corpus())
    return "\n".join(
        [
            "### Stacks learnt from",
            "",
            confusion.matrix(judged),
            "",
            "### Stacks never learnt from: each left out, and the numbers learnt again",
            "",
            fit.table(fit.leave_one_out(judged)),
            "",
            "A connection with two stacks is counted for both. `unknown` is a refusal to claim: records padded to blocks, lone records that padding could make.",
        ]
    )


def page() -> str:
    """The page with its tables anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
