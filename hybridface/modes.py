"""The two ways to compute: shares and ciphertexts between two parties, or ciphertexts at the server alone."""

from enum import StrEnum

from hybridface.models import DEFAULT_MODEL

__all__ = ["Mode"]


class Mode(StrEnum):
    """How a verification is computed."""

    HYBRID = "hybrid"
    """Linear layers under encryption, everything else on shares; the parties open one bit."""
    PURE_HE = "pure-he"
    """The whole network under encryption, by the server alone; the client sees a score (docs/PURE_HE.md)."""

    @property
    def default_model(self) -> str:
        """The model to use if the user names none."""
        return "patchnet" if self is Mode.PURE_HE else DEFAULT_MODEL
