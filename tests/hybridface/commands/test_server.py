"""`hybridface server`: from an empty folder to a server whose settings, clients and certificate are in order."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from hybridface.models.model import load_model
from hybridface.service.configuration import read_configuration
from parties.gallery.kind import GalleryKind
from parties.gallery.store.store import GalleryStore
from parties.transport.identity import read_identity
from support.certificates import Authority, dated
from support.ranks import Done

ANN = "ed25519-" + "a" * 64
Call = Callable[..., Done]


@pytest.fixture
def folder(call: Call, tmp_path: Path) -> Path:
    made = tmp_path / "server"
    assert call("server", "init", made, "--name", "match.example.org")[0] == 0
    return made


def add_gallery(folder: Path, network: str = "dlib-resnet29") -> None:
    graph = load_model(network, weights=False).graph
    with GalleryStore(folder / "staff.gallery", graph.digest(), graph.output_shape[0], GalleryKind.LIST):
        pass
    with (folder / "server.toml").open("a") as file:
        file.write('[galleries.staff]\nfile = "staff.gallery"\nmodel = "dlib-resnet29"\n')


def refused(call: Call, *arguments: object) -> str:
    status, out, errors = call("server", *arguments)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    return errors


def test_a_folder_is_made_and_in_order(call: Call, tmp_path: Path) -> None:
    made = tmp_path / "new" / "server"
    status, out, errors = call(
        "server", "init", made, "--name", "match.example.org", "--listen", "[::1]:90", "--days", 90
    )
    own = read_identity(made)
    assert (status, errors) == (0, "")
    assert f"fingerprint: {own.fingerprint}\n" in out
    assert f"next: give clients the fingerprint, ask for theirs, and hybridface server allow {made} NAME" in out
    assert str(read_configuration(made).listen) == "[::1]:90"
    for path in (made, made / "server.toml"):
        status, out, errors = call("server", "check", path)
        assert (status, errors) == (0, "")
        assert f"nothing is wrong (1 models, 0 galleries, 0 clients; certificate until {own.expires:%Y-%m-%d})" in out
    assert "there is a key already" in refused(call, "init", made)
    assert read_identity(made) == own


def test_arguments_that_are_none_leave_no_folder(call: Call, tmp_path: Path) -> None:
    made = tmp_path / "server"
    assert "expected HOST or HOST:PORT" in refused(call, "init", made, "--listen", "a:b")
    assert "expected a name of 1 to 64 printable" in refused(call, "init", made, "--name", "a\nb")
    assert not made.exists()


def test_a_ca_signs_the_request(call: Call, tmp_path: Path) -> None:
    made = tmp_path / "server"
    status, out, _ = call("server", "init", made, "--name", "match.example.org", "--request")
    assert (status, "send request.pem to your CA" in out) == (0, True)
    assert "the CA answers request.pem with it" in refused(call, "check", made)
    Authority(tmp_path).identity(made, "match.example.org")
    assert call("server", "check", made)[0] == 0
    assert "a CA has signed it" in refused(call, "renew", made)


def test_clients_are_let_in_and_out(call: Call, folder: Path) -> None:
    add_gallery(folder)
    status, out, _ = call("server", "allow", folder, "ann", ANN)
    assert (status, out) == (0, "allowed ann: compare photos with dlib-resnet29\n")
    rights = "--gallery", "staff", "--may", "verify, identify"
    assert call("server", "allow", folder, "ann", ANN.upper(), *rights)[:2] == (
        0,
        "allowed ann: staff: verify, identify\n",
    )
    document = {"client": "ann", "peer": ANN, "may_compare_with": [], "galleries": {"staff": ["verify", "identify"]}}
    status, out, _ = call("server", "clients", folder, "--json")
    assert (status, json.loads(out)) == (0, {"clients": [document]})
    table = call("server", "clients", folder)[1]
    assert "staff: verify, identify" in table
    assert ANN in table
    assert call("server", "deny", folder, "ann")[:2] == (0, "denied ann\n")
    assert json.loads(call("server", "clients", folder, "--json")[1]) == {"clients": []}
    assert "there is no such client" in refused(call, "deny", folder, "ann")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ann", "ed25519-0"), "expected a fingerprint"),
        (("../ann", ANN), "expected a name of a client"),
        (("ann", "subject:ann"), "a subject needs client_ca"),
        (("ann", ANN, "--model", "patchnet"), "expected models to be"),
        (("ann", ANN, "--gallery", "staff"), "expected one --may for each --gallery"),
        (("ann", ANN, "--may", "verify"), "expected one --may for each --gallery"),
        (("ann", ANN, "--gallery", "guests", "--may", "verify"), "expected one of the server's galleries (staff)"),
        (("ann", ANN, "--gallery", "staff", "--may", "all"), "expected galleries.staff to be one of verify"),
    ],
)
def test_rights_that_are_none(call: Call, folder: Path, arguments: tuple[str, ...], said: str) -> None:
    add_gallery(folder)
    assert said in refused(call, "allow", folder, *arguments)
    assert read_configuration(folder).clients == {}


def test_check_finds_what_is_wrong(call: Call, folder: Path) -> None:
    assert "cannot read" in refused(call, "check", folder / "missing.toml")
    before = read_identity(folder)
    dated(before, -timedelta(days=3), -timedelta(days=1))
    assert f"it has expired; renew it with `hybridface server renew {folder}`" in refused(call, "check", folder)
    dated(before, -timedelta(days=3), timedelta(days=3))
    status, _, errors = call("server", "check", folder)
    assert (status, "renew it soon" in errors) == (0, True)
    assert call("server", "renew", folder)[0] == 0
    assert read_identity(folder).fingerprint == before.fingerprint
    status, out, errors = call("server", "check", folder, "--json")
    assert (status, errors, json.loads(out)["fingerprint"]) == (0, "", before.fingerprint)
    add_gallery(folder, "patchnet")
    assert "expected a gallery of dlib-resnet29, got one of patchnet" in refused(call, "check", folder)
    (folder / "key.pem").chmod(0o644)
    assert "others may read it" in refused(call, "check", folder)
