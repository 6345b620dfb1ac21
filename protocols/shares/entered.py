"""Point CrypTen's module attributes at the party that the current thread has entered.

CrypTen finds its communicator, provider, generators and settings through attributes of its modules. While any thread of
this process has entered a party, these attributes ask for the current thread's party. In a thread without a party they
are what CrypTen made them. When the last party leaves, they are so in every thread.
"""

import threading
from dataclasses import dataclass
from typing import Any

import torch

from protocols.errors import ParameterError
from protocols.shares.crypten_import import Communicator, TupleProvider, crypten

__all__ = ["Entered", "Generators", "enter", "leave"]

Generators = dict[str, dict[torch.device, torch.Generator]]


@dataclass(frozen=True)
class Entered:
    """The objects that CrypTen asks for while a party is entered."""

    communicator: Communicator
    provider: TupleProvider
    generators: Generators


def enter(party: Entered) -> None:
    """Make CrypTen in this thread run as a party.

    Raises:
        ParameterError: this thread has already entered one.
    """
    if _current() is not None:
        raise ParameterError("expected one party per thread, got a second one")
    _pointers.hold()
    _entered.party, _entered.settings = party, None


def leave() -> None:
    """Leave the party of this thread."""
    _entered.party = _entered.settings = None
    _pointers.release()


_entered = threading.local()


def _current() -> Entered | None:
    return getattr(_entered, "party", None)


class _ThreadGenerators(dict[str, Any]):
    """CrypTen's dictionary of generators. In a thread with a party it gives the party's generators."""

    def __getitem__(self, key: str) -> Any:
        party = _current()
        return party.generators[key] if party else super().__getitem__(key)


class _ThreadConfig(type(crypten.config.cfg)):  # type: ignore[misc]
    """CrypTen's configuration. If CrypTen's functions override a setting, it changes for the thread's party only."""

    @property
    def config(self) -> Any:
        own = getattr(_entered, "settings", None)
        return self.__dict__["config"] if own is None else own

    @config.setter
    def config(self, value: Any) -> None:
        if _current() is None:
            self.__dict__["config"] = value
        else:
            _entered.settings = value


class _Pointers:
    """The replaced attributes. They stay in place as long as any party holds them."""

    def __init__(self) -> None:
        self._lock, self._holders = threading.Lock(), 0
        self._get, self._initialized = crypten.communicator.get, crypten.communicator.is_initialized
        self._provider = crypten.mpc.get_default_provider

    def hold(self) -> None:
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._generators, self._config = crypten.generators, type(crypten.config.cfg)
                self._set(self._own_get, self._own_initialized, self._own_provider)
                crypten.generators, crypten.config.cfg.__class__ = _ThreadGenerators(self._generators), _ThreadConfig

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._set(self._get, self._initialized, self._provider)
                crypten.generators, crypten.config.cfg.__class__ = self._generators, self._config

    def _set(self, get: Any, initialized: Any, provider: Any) -> None:
        crypten.communicator.get, crypten.communicator.is_initialized = get, initialized
        crypten.mpc.get_default_provider = provider

    def _own_get(self) -> Any:
        party = _current()
        return party.communicator if party else self._get()

    def _own_initialized(self) -> bool:
        return _current() is not None or bool(self._initialized())

    def _own_provider(self) -> Any:
        party = _current()
        return party.provider if party else self._provider()


_pointers = _Pointers()
