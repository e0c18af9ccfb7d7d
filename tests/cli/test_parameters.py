"""What is plain is taken as it is, without pydantic; what is not is told by typer as ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from auditor.cli import COMMANDS
from auditor.cli._parameters import spare_pydantic

ROOT = Path(__file__).resolve().parents[2]
Files = Annotated[list[str] | None, typer.Option("--file")]


def told(
    words: Annotated[list[str], typer.Argument()],
    name: Annotated[str | None, typer.Option("--name")] = None,
    files: Files = None,
    place: Annotated[Path | None, typer.Option("--place")] = None,
    there: Annotated[Path | None, typer.Option("--there", exists=True)] = None,
    count: Annotated[int, typer.Option("--count")] = 1,
    least: Annotated[int, typer.Option("--least", min=3)] = 5,
    share: Annotated[float, typer.Option("--share")] = 2.5,
    flag: Annotated[bool, typer.Option("--flag")] = False,
    loud: Annotated[str, typer.Option("--loud", callback=lambda text: text.upper())] = "a",
) -> None:
    print([words, name, files, place, there, count, least, share, flag, loud])


def said(given: list[str], spared: bool, capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command()(told)
    command = typer.main.get_command(app)
    if spared:
        spare_pydantic(command)
    with pytest.raises(SystemExit) as ended:
        command.main(args=given, prog_name="told")
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.mark.parametrize(
    "given",
    [
        ["x"],
        ["x", "y", "--name", "n", "--file", "a", "--file", "b", "--flag"],
        ["x", "--place", "/dev/null", "--count", "12", "--share", "12", "--loud", "hello"],
        ["x", "--place", "", "--name", "", "--share", "0.125"],
        ["x", "--count", " 12 ", "--share", "1e3"],
        ["x", "--count", "-4", "--share", "-0.5", "--least", "3"],
        ["x", "--count", "12.0", "--there", "/dev/null"],
        [],
        ["x", "--count", "twelve"],
        ["x", "--count", ""],
        ["x", "--share", "nothing"],
        ["x", "--least", "2"],
        ["x", "--there", "/no/such/place"],
        ["x", "--flag=maybe"],
        ["x", "--unknown"],
        ["--help"],
    ],
)
def test_the_same_comes_of_every_argument(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert said(given, True, capsys) == said(given, False, capsys)


def test_a_place_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    place = tmp_path / "closed"
    place.touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    found = said(["x", "--place", str(place)], True, capsys)
    assert found == said(["x", "--place", str(place)], False, capsys)
    assert found[0] == 2


@pytest.mark.parametrize(
    "given",
    [
        *([name, "--help"] for name in COMMANDS),
        ["connections", "no/such.pcap", "--format", "csv", "--output", "/dev/null", "--workers", "2"],
        [
            "audit",
            "no/such.pcap",
            "--max-undecided",
            "7.5",
            "--keylog",
            "no/keys.txt",
            "--policy",
            "a",
            "--policy",
            "b",
        ],
        ["explain"],
    ],
)
def test_no_command_needs_pydantic_for_its_arguments(given: list[str]) -> None:
    script = (
        "import sys\n"
        "from auditor import cli\n"
        "class Refused:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer._adapters':\n"
        "            print('typer asks pydantic', file=sys.stderr)\n"
        "sys.meta_path.insert(0, Refused())\n"
        "cli.main(sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *given], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "typer asks pydantic" not in done.stderr
