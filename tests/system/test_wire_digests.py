"""What every protocol sends, byte for byte, is what `wire_digests.txt` says: see `support.wire`."""

from unittest import mock

import pytest

from protocols.shares import party as mpc
from support import wire
from support.determinism import deterministic

RECORDED = wire.read_digests()
CASES = wire.load_cases()


def recorded(name: str) -> dict[str, str]:
    """The file's lines of a case, and of its parts."""
    return {key: sent for key, sent in RECORDED.items() if wire.case_of(key) == name}


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_is_sent(name: str) -> None:
    assert wire.digests(name) == recorded(name)


def test_the_file_has_no_other_cases() -> None:
    assert {wire.case_of(key) for key in RECORDED} == set(CASES)


def test_another_secret_changes_what_is_sent() -> None:
    with mock.patch.object(wire, "deterministic", lambda name: deterministic(f"{name} again")):
        again = wire.digests("ReLU on 28 bits")
    assert again.keys() == recorded("ReLU on 28 bits").keys()
    sizes = [{key: sent.rsplit(" | ", 1)[0] for key, sent in lines.items()} for lines in (again, RECORDED)]
    assert all(sizes[1][key] == size for key, size in sizes[0].items())
    assert all(RECORDED[key] != sent for key, sent in again.items() if "-> dealer" not in key)


def test_another_order_of_what_is_sent_is_noticed() -> None:
    flat = mpc._flat
    with mock.patch.object(mpc, "_flat", lambda tensors: flat(tensors)[::-1].copy()):
        assert wire.digests("squares") != recorded("squares")
