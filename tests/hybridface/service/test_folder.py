"""A server's folder: made once, with settings that can be read; clients come and go."""

from pathlib import Path

import pytest

from hybridface.errors import ConfigurationError
from hybridface.models import DEFAULT_MODEL
from hybridface.service.address import Address
from hybridface.service.configuration import read_configuration
from hybridface.service.folder import allow_client, create_server_folder, deny_client

ANN, BEN = "ed25519-" + "a" * 64, "ed25519-" + "b" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = create_server_folder(tmp_path / "server", 'a "b" \\ c', Address("::1", 80))
    (path.parent / "staff.gallery").touch()
    with path.open("a") as file:
        file.write(f'[galleries.staff]\nfile = "staff.gallery"\nmodel = "{DEFAULT_MODEL}"\n')
    return path.parent


def test_new_settings_can_be_read(folder: Path) -> None:
    found = read_configuration(folder)
    assert (found.name, found.listen, found.operations) == ('a "b" \\ c', Address("::1", 80), ("127.0.0.1", 7462))
    assert (list(found.models), found.max_sessions) == ([DEFAULT_MODEL], 4)
    assert (folder / "server.toml").stat().st_mode & 0o777 == 0o600
    before = (folder / "server.toml").read_bytes()
    with pytest.raises(ConfigurationError, match="there is one already"):
        create_server_folder(folder, "other", Address("::1", 81))
    assert (folder / "server.toml").read_bytes() == before


def test_what_the_settings_show_are_the_defaults(folder: Path) -> None:
    before = read_configuration(folder)
    text = (folder / "server.toml").read_text()
    for key in ("max_sessions", "drain_seconds", "idle_seconds", "timeout_seconds", "log_level", "modes"):
        assert text.count(f"# {key} = ") == 1
        text = text.replace(f"# {key} = ", f"{key} = ")
    (folder / "server.toml").write_text(text)
    assert read_configuration(folder) == before


def test_clients_come_change_and_go(folder: Path) -> None:
    allowed = allow_client(folder, "ann", ANN, [DEFAULT_MODEL], {"staff": ["verify"]})
    assert allowed == read_configuration(folder).clients["ann"]
    assert (allowed.fingerprint, allowed.models, allowed.galleries) == (ANN, (DEFAULT_MODEL,), {"staff": ("verify",)})
    assert allow_client(folder, "ann", ANN, [], {}).galleries == {}
    with pytest.raises(ConfigurationError, match="cannot allow ann: that is ed25519-aa.* already; deny it first"):
        allow_client(folder, "ann", BEN, [], {})
    with pytest.raises(ConfigurationError, match="cannot deny ben: there is no such client; allowed are ann"):
        deny_client(folder, "ben")
    deny_client(folder, "ann")
    assert read_configuration(folder).clients == {}


def test_rights_that_are_none_change_nothing(folder: Path) -> None:
    allow_client(folder, "ann", ANN, [DEFAULT_MODEL], {})
    before = read_configuration(folder).clients
    for name, peer, models, galleries in (
        ("ann", ANN, ["vgg"], {}),
        ("ben", BEN, [], {"guests": ["verify"]}),
        ("ben", BEN, [], {"staff": ["all"]}),
        ("ben", ANN, [], {}),
        ("ben", "ed25519-00", [], {}),
        ("ben", "subject:ben", [], {}),
        ("../ben", BEN, [], {}),
        ("", BEN, [], {}),
    ):
        with pytest.raises(ConfigurationError):
            allow_client(folder, name, peer, models, galleries)
        assert read_configuration(folder).clients == before


def test_a_subject_is_written_with_any_characters(folder: Path) -> None:
    (folder / "ca.pem").touch()
    settings = (folder / "server.toml").read_text().replace("[models", 'client_ca = "ca.pem"\n[models', 1)
    (folder / "server.toml").write_text(settings)
    assert allow_client(folder, "ann", 'subject:a "b" \\ \u00e9', [], {}).subject == 'a "b" \\ \u00e9'
