"""What several tests of two organisations start from."""

from collections.abc import Iterator

import pytest

from support.organisations import Organisations, two_organisations
from support.tiny_network import save_chips


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisations]:
    with two_organisations(tmp_path_factory.mktemp("hosts")) as organisations:
        organisations.introduce("max_sessions = 3\ntimeout_seconds = 60\n")
        save_chips(organisations.client.home, 3)
        yield organisations
