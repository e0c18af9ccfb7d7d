"""Writes docs/rules/ from the docstrings of auditor/rules/: ``python docs/make_rules.py``."""

from pathlib import Path

from auditor.rules._pages import documents

HERE = Path(__file__).resolve().parent / "rules"


def main() -> None:
    """Write every page, and remove those of rules that are no more."""
    made = documents()
    HERE.mkdir(exist_ok=True)
    for old in HERE.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
