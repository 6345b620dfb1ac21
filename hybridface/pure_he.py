"""Verification under encryption from end to end, with both parties in this process: for notebooks and tests.

Both share this process's memory, so it protects nothing from anybody who can read it. The result holds a score, which
the ordinary session never opens: see docs/PURE_HE.md before choosing this mode.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridface.errors import ModelError
from parties.cost import CostReport
from parties.local import PartyThread, local_channels
from parties.pure_he import PureHeClientSession, PureHeResult, PureHeServerSession, PureHeTerms
from protocols.errors import ParameterError
from protocols.pure_he import PatchNetWeights, PureHeParameters

__all__ = ["LocalPureHeSession", "local_pure_he_session", "patches_of_chip"]

Normalise = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def patches_of_chip(chip: NDArray[np.uint8], grid: int = 4) -> NDArray[np.float64]:
    """Cut a square chip into grid x grid patches, row by row, values in [-1, 1].

    Args:
        chip: uint8 RGB (size, size, 3), size a multiple of `grid`.

    Returns:
        float64 (grid^2, 3 (size / grid)^2); a patch's values are ordered by colour, row, column.

    Raises:
        ParameterError: another shape or type.
    """
    if chip.dtype != np.uint8 or chip.ndim != 3 or chip.shape[0] != chip.shape[1] or chip.shape[2] != 3:
        raise ParameterError(f"expected uint8 (size, size, 3), got {chip.dtype} {chip.shape}")
    size = chip.shape[0] // grid
    if size * grid != chip.shape[0]:
        raise ParameterError(f"expected a size that is a multiple of {grid}, got {chip.shape[0]}")
    blocks = chip.reshape(grid, size, grid, size, 3).transpose(0, 2, 4, 1, 3)
    return blocks.reshape(grid * grid, -1) / 127.5 - 1.0


class LocalPureHeSession:
    """Client and server in one process. Use as a context manager.

    Args:
        weights: the server's network.
        threshold: Euclidean distance below which two embeddings match.
        normalise: maps a chip, uint8 (size, size, 3), to the network's input, float64 (P, inputs).
        parameters: of the encryption; by default those that the network needs.
        max_answers: scores that the server gives in this session.
        timeout: seconds that a party waits for the other.
    """

    def __init__(
        self,
        weights: PatchNetWeights,
        threshold: float,
        normalise: Normalise = patches_of_chip,
        parameters: PureHeParameters | None = None,
        max_answers: int = 50,
        timeout: float = 300.0,
    ) -> None:
        self.terms = PureHeTerms(weights.shape, threshold, parameters, max_answers)
        self._weights, self._normalise, self._timeout = weights, normalise, timeout
        self._thread: PartyThread | None = None
        self._client: PureHeClientSession | None = None

    def __enter__(self) -> "LocalPureHeSession":
        to_server, to_client = local_channels("client", "server", self._timeout)

        def serve() -> None:
            PureHeServerSession(to_client, self.terms, self._weights).serve()

        self._thread = PartyThread("server", serve, (to_client,))
        self._thread.start()
        self._client = PureHeClientSession(to_server, self.terms)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client:
            self._client.__exit__(kind, error, trace)
        if self._thread:
            self._thread.join(self._timeout)

    def enroll(self, name: str, chip: NDArray[np.uint8]) -> CostReport:
        """Leave a chip's encrypted embedding with the server, as the template of a new name."""
        return self.client.enroll(name, self._normalise(chip))

    def verify(self, chip: NDArray[np.uint8], name: str) -> PureHeResult:
        """Compare a chip with an enrolled template."""
        return self.client.verify(self._normalise(chip), name)

    @property
    def client(self) -> PureHeClientSession:
        """The client's session.

        Raises:
            ModelError: the session is not open.
        """
        if self._client is None:
            raise ModelError("expected an open session: use `with local_pure_he_session(...) as session`")
        return self._client


def local_pure_he_session(weights: PatchNetWeights, threshold: float, **options: Any) -> LocalPureHeSession:
    """Return a session with both parties in this process; options as for `LocalPureHeSession`."""
    return LocalPureHeSession(weights, threshold, **options)
