"""Which door a supervisor keeps; all else of it is tested with real servers in `tests/system`."""

from types import SimpleNamespace
from typing import Any

from hybridface.service.supervisor import Supervisor


class Door(SimpleNamespace):
    """A door that only notes its orders."""

    def order(self, what: str) -> None:
        self.orders.append(what)


def test_the_door_that_was_started_last_is_kept() -> None:
    """The doors of two reloads become ready in any order."""
    doors = [Door(is_ready=False, is_draining=False, orders=[], sessions={}) for _ in range(3)]
    supervisor: Any = Supervisor.__new__(Supervisor)
    quiet = SimpleNamespace(info=lambda *_, **__: None, set_state=lambda _: None)
    supervisor._doors, supervisor._log, supervisor._metrics = doors, quiet, quiet
    supervisor._stop_at, supervisor._own = None, SimpleNamespace(fingerprint="")
    supervisor._configuration = SimpleNamespace(listen="")
    for number in (1, 2, 0):
        supervisor._ready(doors[number])
        assert not doors[2].orders
    assert [door.is_draining for door in doors] == [True, True, False]
