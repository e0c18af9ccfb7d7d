"""``python -m auditor``."""

from auditor.cli import start

if __name__ == "__main__":
    start()
