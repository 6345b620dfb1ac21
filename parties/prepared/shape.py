"""Describe the size of a run of the network, which says how much must be prepared for it."""

from dataclasses import dataclass

from protocols.errors import ParameterError

__all__ = ["MAX_BATCH", "RunShape"]

MAX_BATCH = 16
"""Images of one run, at most."""


@dataclass(frozen=True)
class RunShape:
    """How many images and decisions a run has.

    Args:
        images: the images in one batch, 1 to 16.
        decisions: the decisions after the network: none (enrolment), one (a pair of images), or one for every image.
    """

    images: int
    decisions: int

    def __post_init__(self) -> None:
        if not 1 <= self.images <= MAX_BATCH:
            raise ParameterError(f"expected 1 to {MAX_BATCH} images, got {self.images}")
        if self.decisions not in (0, self.images) and (self.images, self.decisions) != (2, 1):
            raise ParameterError(f"expected no decision, one for every image, or one for a pair, got {self.decisions}")

    def __str__(self) -> str:
        return f"a run of {self.images} images and {self.decisions} decisions"
