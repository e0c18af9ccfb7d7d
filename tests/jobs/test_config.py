"""The configuration: every key typed, every mistake told with file, line and mend, and the example true."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from auditor.errors import ConfigError
from auditor.jobs.config import RunConfig, load_config, toml_lines
from tests.conftest import ROOT

EXAMPLE = ROOT / "docs" / "deploy" / "auditor.toml"
LEAST = 'store = "history"\n[spool]\nfolders = ["in"]\n'


def loaded(tmp_path, text):
    file = tmp_path / "run.toml"
    file.write_text(text)
    return load_config(file)


def test_paths_are_relative_to_the_file_and_names_of_policies_stay(tmp_path):
    config = loaded(
        tmp_path,
        LEAST
        + '[audit]\npolicies = ["tas-diego", "mine.yml"]\nca = ["nats=ca.pem", "other.pem"]\nwaivers = ["/etc/w.yml"]\n',
    )
    assert config.store == str(tmp_path / "history")
    assert config.spool.folders == [str(tmp_path / "in")]
    assert config.audit.policies == ["tas-diego", str(tmp_path / "mine.yml")]
    assert config.audit.ca == [f"nats={tmp_path / 'ca.pem'}", str(tmp_path / "other.pem")]
    assert config.audit.waivers == ["/etc/w.yml"]
    assert (config.spool.settle, config.limits.bytes, config.audit.fail_on) == (30_000_000_000, 8 << 30, "medium")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[spool]\nfolders = ["in"]\n', "run.toml:1: 'store' is missing"),
        ('store = "h"\n[spool]\nfolders = []\n', "run.toml:3: 'folders'"),
        (LEAST + 'setle = "1s"\n', "run.toml:4: unknown key 'setle' (did you mean settle?)"),
        (LEAST + 'settle = "1 fortnight"\n', """run.toml:4: '1 fortnight' is not a duration (write "30s", "15m", "2h" or "7d")"""),
        (LEAST + "settle = 30\n", "run.toml:4: 30 is not a duration"),
        (LEAST + '[limits]\nbytes = "lots"\n', """run.toml:5: 'lots' is not a size (write "500MiB" or "10GiB")"""),
        (LEAST + 'after = "move"\n', 'after = "move" needs a folder (add done = "/folder")'),
        (LEAST + '[audit]\nfail_on = "hihg"\n', "run.toml:5: 'hihg' is not a valid fail_on (did you mean high?)"),
        (LEAST + "[audit]\nmax_undecided = 101\n", "run.toml:5: 'max_undecided'"),
        (LEAST + '[[inventory]]\nfile = "a"\n[[inventory]]\n', "run.toml:6: an inventory is a file or a command"),
        (LEAST + '[[notify]]\nname = "a"\nurl = "x"\nurl_env = "Y"\n', "run.toml:4: one address is needed"),
        (LEAST + '[[notify]]\nname = "a"\nurl = "x"\n[[notify]]\nname = "a"\nurl = "y"\n', "run.toml:8: 'a' is there twice"),
        (LEAST + '[metrics]\nlisten = "9465"\n', """'9465' is not an address (write "127.0.0.1:9465")"""),
        ("store = \n", "run.toml:1: is not valid TOML"),
        ('store = "a"\nstore = "b"\n', "run.toml:2: is not valid TOML: Cannot overwrite a value"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_line_and_mend(tmp_path, text, says):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert says in str(caught.value)


def test_lines_of_keys_and_tables():
    lines = toml_lines('a = 1\n[b]\nc.d = 2 # x\n[[e]]\n[[e]]\n"f g" = 3\n')
    assert lines[("a",)] == 1
    assert lines["b", "c", "d"] == 3
    assert (lines["e", 0], lines["e", 1], lines["e", 1, "f g"]) == (4, 5, 6)


def _keys(model: type[BaseModel], before: str = "") -> set[str]:
    found = set()
    for name, info in model.model_fields.items():
        found.add(name)
        for part in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= _keys(part)
    return found


def test_a_number_without_end_is_told(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('name = "a"\n[limits]\nconnections = ' + "1" * 5_000 + "\n")
    with pytest.raises(ConfigError, match=r"run.toml:3: a number has too many digits"):
        load_config(file)
    file.write_text("a = " + "[" * 5_000)
    with pytest.raises(ConfigError, match=r"run.toml: is nested too deeply|is not valid TOML"):
        load_config(file)


def test_the_example_is_valid_and_names_every_key():
    assert load_config(EXAMPLE).name == "tas-production"
    text = EXAMPLE.read_text()
    # What is commented out must be right, too.
    whole = re.sub(r"^# (?=\[\[|[a-z_]+ = )", "", text, flags=re.MULTILINE).replace(
        'after = "keep"', 'after = "move"', 1
    )
    told = set(re.findall(r"^\[*([a-z_]+)(?:\]|\s*=)", whole, flags=re.MULTILINE))
    left = _keys(RunConfig) - told - {"url", "url_env", "table", "linktype"}
    assert not left, f"the example does not name {left}"
