"""Keys, made once: a client's, and the public key as the server holds it, each on a context of its own."""

import pytest

from protocols import CkksContext, ClientKeys, PublicKey


@pytest.fixture(scope="session")
def keys() -> ClientKeys:
    """The client's keys."""
    return ClientKeys(CkksContext())


@pytest.fixture(scope="session")
def public_key(keys: ClientKeys) -> PublicKey:
    """The server's public key."""
    return PublicKey(CkksContext(), keys.public_key())


@pytest.fixture(scope="session")
def context(public_key: PublicKey) -> CkksContext:
    """The server's context."""
    return public_key.context
