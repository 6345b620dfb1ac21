"""One version, for the command, for Python and for the wheel."""

import tomllib

import pytest

import hybridface
from hybridface.commands import main
from support.paths import ROOT


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    with pytest.raises(SystemExit) as leaving:
        main.main(["--version"])
    assert not leaving.value.code
    assert capsys.readouterr().out == f"hybridface {version}\n"
    assert hybridface.__version__ == version
