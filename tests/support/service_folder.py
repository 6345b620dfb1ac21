"""A server's folder for tests: the tiny network, two galleries and a client, without keys of other organisations."""

from pathlib import Path

from hybridface.galleries.file import GalleryFile
from hybridface.models.model import load_model
from hybridface.service.configuration import CLIENTS, ServiceConfiguration, read_configuration
from hybridface.service.configuration import SETTINGS as SETTINGS_FILE
from parties.transport.identity import create_identity

__all__ = ["FINGERPRINT", "SETTINGS", "client_file", "read_settings", "settings_file", "tiny_server"]

FINGERPRINT = f"ed25519-{'ab' * 32}"

SETTINGS = """
name = "match"
listen = "127.0.0.1:7461"

[models.tiny-test]

[galleries.staff]
file = "staff.gallery"
model = "tiny-test"

[galleries.guests]
file = "guests.gallery"
model = "tiny-test"
"""


def settings_file(folder: Path, text: str = SETTINGS) -> Path:
    """Write a server's settings."""
    folder.mkdir(exist_ok=True)
    for name in ("staff", "guests"):
        if not (folder / f"{name}.gallery").exists():
            GalleryFile(folder / f"{name}.gallery", load_model("tiny-test", weights=False)).close()
    (folder / SETTINGS_FILE).write_text(text)
    return folder / SETTINGS_FILE


def client_file(folder: Path, name: str, text: str) -> Path:
    """Write a client's settings."""
    (folder / CLIENTS).mkdir(exist_ok=True)
    path = folder / CLIENTS / f"{name}.toml"
    path.write_text(text)
    return path


def read_settings(folder: Path, text: str = SETTINGS) -> ServiceConfiguration:
    """Write a server's settings, and read them with those of its clients."""
    return read_configuration(settings_file(folder, text))


def tiny_server(folder: Path) -> Path:
    """Make a server's folder with a key and with settings; return the folder."""
    create_identity(folder, "match")
    settings_file(folder)
    return folder
