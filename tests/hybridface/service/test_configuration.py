"""The server's settings: all of them, the defaults, and one clear line for each mistake."""

from pathlib import Path

import pytest

from hybridface.errors import ConfigurationError
from hybridface.modes import Mode
from hybridface.service.address import Address
from hybridface.service.configuration import ClientSettings, GallerySettings, ModelSettings, read_configuration

ANN, BEN = "ed25519-" + "a" * 64, "ed25519-" + "b" * 64
LEAST = 'name = "match.example.org"\n[models.tiny-test]\n'
ALL = """
name = "match.example.org"
listen = "[::1]:9000"
operations = "127.0.0.1:9001"
max_sessions = 9
drain_seconds = 1.5
idle_seconds = 10
timeout_seconds = 20
log_level = "debug"
client_ca = "ca.pem"
[models.tiny-test]
weights = "weights.dat"
threshold = 0.5
[models.patchnet]
modes = ["pure-he", "hybrid"]
[galleries.staff]
file = "staff.gallery"
model = "tiny-test"
"""


def written(folder: Path, settings: str, **clients: str) -> Path:
    (folder / "clients").mkdir(exist_ok=True)
    for name in ("ca.pem", "weights.dat", "staff.gallery"):
        (folder / name).touch()
    for name, content in clients.items():
        (folder / "clients" / f"{name}.toml").write_text(content)
    (folder / "server.toml").write_text(settings)
    return folder / "server.toml"


def test_the_defaults(tmp_path: Path) -> None:
    found = read_configuration(written(tmp_path, LEAST))
    assert found == read_configuration(tmp_path)
    assert (found.listen, found.operations) == (Address("0.0.0.0", 7461), None)  # noqa: S104
    assert (found.max_sessions, found.drain_seconds, found.idle_seconds, found.timeout_seconds) == (4, 60, 3600, 120)
    assert found.models == {"tiny-test": ModelSettings("tiny-test", None, None, (Mode.HYBRID,))}
    assert (found.log_level, found.client_ca, found.galleries, found.clients) == ("info", None, {}, {})


def test_all_settings(tmp_path: Path) -> None:
    ann = f'fingerprint = "{ANN}"\nmodels = ["patchnet"]\n[galleries]\nstaff = ["verify", "identify"]\n'
    found = read_configuration(written(tmp_path, ALL, ann=ann, ben='subject = "ben"\n'))
    assert (found.listen, found.operations) == (Address("::1", 9000), Address("127.0.0.1", 9001))
    assert (found.max_sessions, found.drain_seconds, found.idle_seconds, found.timeout_seconds) == (9, 1.5, 10, 20)
    assert (found.log_level, found.client_ca, found.folder) == ("debug", tmp_path / "ca.pem", tmp_path)
    assert found.models["tiny-test"] == ModelSettings("tiny-test", tmp_path / "weights.dat", 0.5, (Mode.HYBRID,))
    assert found.models["patchnet"].modes == (Mode.PURE_HE, Mode.HYBRID)
    assert found.galleries == {"staff": GallerySettings("staff", tmp_path / "staff.gallery", "tiny-test")}
    assert found.clients == {
        "ann": ClientSettings("ann", ANN, None, ("patchnet",), {"staff": ("verify", "identify")}),
        "ben": ClientSettings("ben", None, "ben", (), {}),
    }
    assert [one.peer for one in found.clients.values()] == [ANN, "subject:ben"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "match', 'nam = "match', "expected name = a text of 1 to 64 characters, found no such key"),
        ("max_sessions = 9", "max_session = 9", "unknown key max_session; the keys here are"),
        ("max_sessions = 9", 'max_sessions = "9"', "expected max_sessions to be a whole number of 1 to 1000, got '9'"),
        ("max_sessions = 9", "max_sessions = true", "expected max_sessions to be a whole number"),
        ("idle_seconds = 10", "idle_seconds = nan", "expected idle_seconds to be a number of 1 to 86400, got nan"),
        ("[::1]:9000", "::1:9000", "expected listen to be HOST or HOST:PORT"),
        ("debug", "loud", "expected log_level to be one of debug, info, warning, error, got 'loud'"),
        ("ca.pem", "missing.pem", "expected client_ca to be the name of a file that exists, got 'missing.pem'"),
        ("weights.dat", "missing", "expected models.tiny-test.weights to be the name of a file that exists"),
        ("threshold", "treshold", "unknown key models.tiny-test.treshold; the keys here are weights, threshold, modes"),
        ("[models.patchnet]", "[models.vgg]", "expected a network named dlib-resnet29 or patchnet or tiny-test"),
        ('"hybrid"]', '"fast"]', "expected models.patchnet.modes to be one of hybrid, pure-he"),
        ("threshold = 0.5", 'modes = ["pure-he"]', "tiny-test cannot run in pure-he mode"),
        ('model = "tiny-test"', 'model = "vgg"', "expected galleries.staff.model to be one of patchnet, tiny-test"),
        ("[galleries.staff]", '[galleries."a/b"]', "expected a name of a gallery"),
        ("[galleries.staff]", "[galleries]", "expected galleries.file to be a table, got 'staff.gallery'"),
        ("staff.gallery", "../missing", "expected galleries.staff.file to be the name of a file that exists"),
        ("[galleries.staff]", "[galleries.staff", "expected TOML"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert ALL.count(old) == 1
    path = written(tmp_path, ALL.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ("", "expected either a fingerprint or a subject"),
        (f'fingerprint = "{BEN}"\nsubject = "ben"', "expected either a fingerprint or a subject"),
        ('fingerprint = "ed25519-00"', "expected fingerprint to be a fingerprint, ed25519- and 64 hexadecimal digits"),
        (f'fingerprint = "{ANN}"', "is the client ann already"),
        (f'fingerprint = "{BEN}"\nmodels = ["vgg"]', "expected models to be one of patchnet, tiny-test, got ['vgg']"),
        (f'fingerprint = "{BEN}"\n[galleries]\nguests = []', "one of the server's galleries (staff), got 'guests'"),
        (f'fingerprint = "{BEN}"\n[galleries]\nstaff = ["all"]', "expected galleries.staff to be one of verify, ident"),
        (f'fingerprint = "{BEN}"\nmodel = "x"', "unknown key model; the keys here are fingerprint, subject, models"),
    ],
)
def test_mistakes_in_a_clients_file(tmp_path: Path, client: str, said: str) -> None:
    path = written(tmp_path, ALL, ann=f'fingerprint = "{ANN}"', ben=client)
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(path)
    assert said in str(caught.value)
    assert str(tmp_path / "clients" / "ben.toml") in str(caught.value)


def test_a_subject_needs_a_ca(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a subject needs client_ca"):
        read_configuration(written(tmp_path, LEAST, ann='subject = "ann"'))


def test_a_server_without_settings_or_networks(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read .*server.toml: No such file"):
        read_configuration(tmp_path / "server.toml")
    with pytest.raises(ConfigurationError, match=r"expected a table .models.NAME"):
        read_configuration(written(tmp_path, 'name = "a"\n'))
