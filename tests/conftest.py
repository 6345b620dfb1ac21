"""Keys, made once: a client's, and the public key as the server holds it, each on a context of its own; and SEAL."""

import pytest
from helpers import SealReference, keys_and_generator

from protocols import CkksContext, ClientKeys, PublicKey


@pytest.fixture(scope="session")
def keys_with_reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClientKeys, SealReference]:
    """The client's keys, and SEAL with the same secret."""
    keys, generator = keys_and_generator(CkksContext())
    return keys, SealReference(keys.context, tmp_path_factory.mktemp("seal"), generator)


@pytest.fixture(scope="session")
def keys(keys_with_reference: tuple[ClientKeys, SealReference]) -> ClientKeys:
    """The client's keys."""
    return keys_with_reference[0]


@pytest.fixture(scope="session")
def reference(keys_with_reference: tuple[ClientKeys, SealReference]) -> SealReference:
    """SEAL itself, with the secret of `keys`."""
    return keys_with_reference[1]


@pytest.fixture(scope="session")
def public_key(keys: ClientKeys) -> PublicKey:
    """The server's public key."""
    return PublicKey(CkksContext(), keys.public_key())


@pytest.fixture(scope="session")
def context(public_key: PublicKey) -> CkksContext:
    """The server's context."""
    return public_key.context
