"""Slots: where numbers lie in a ciphertext, and a matrix as diagonals for baby steps and giant steps. Numpy only.

The n slots of a ciphertext are a ring: rotation by r puts slot (t + r) mod n into slot t. With P *lanes*, slot q P + p
is position q of lane p; a rotation by r P moves every lane by r positions, so P matrices, one a lane, cost what one
does. A vector of m features *of period m* has feature q mod m at position q, over and over.

An affine map from `inputs` to m features sees, at step t and position q, the input `source[c][q + t]` of ciphertext c,
and multiplies it by the weight to feature q mod m. Let D be the sources' period. Then a feature is the sum over the
D / m positions that belong to it, and over all steps; the sum over positions is log2(D / m) rotations by multiples of
m, after which the result has period m again: nothing is ever masked, no slot ever holds rubbish.

- An input of its own arrangement (the client's, `arrange`) has D = n / P positions and w <= D features a ciphertext.
  If w < D, it is repeated, repetition r rotated by r m w / D, so that repetitions see different features at the same
  step. Steps: m w / D.
- An output of an earlier map has period m'. If m' >= m: D = m', m steps. If m' < m: D = m, m' steps.

A step t = g B + b is a baby step b and a giant step g: sum over g of rot(sum over b of d[g, b] rot(x, b), g B), with
the diagonals d rotated back by g B beforehand. B - 1 rotations a ciphertext and G - 1 in all, each by one same amount,
again and again (Horner's rule), so two keys are enough. Source: Halevi, Shoup, CRYPTO 2014 and 2018; GAZELLE, 2018.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ParameterError

__all__ = ["AffinePlan", "Sources", "input_sources", "plan_affine", "rotate"]

Sources = NDArray[np.int64]
"""Which feature lies where: (ciphertexts, D), -1 for none; the pattern repeats with period D."""


@dataclass(frozen=True, eq=False)
class AffinePlan:
    """How an affine map is computed.

    Args:
        lanes: P.
        slots: n.
        inputs: features that go in.
        outputs: m, a power of two.
        sources: where the inputs lie.
        steps: for every ciphertext, how many steps it takes.
        babies: B, baby steps.
    """

    lanes: int
    slots: int
    inputs: int
    outputs: int
    sources: Sources = field(repr=False)
    steps: tuple[int, ...]
    babies: int

    @property
    def period(self) -> int:
        """D, in positions."""
        return self.sources.shape[1]

    @property
    def giants(self) -> int:
        """G, giant steps."""
        return -(-max(self.steps) // self.babies)

    @property
    def baby_rotation(self) -> int:
        """Slots of one baby step."""
        return self.lanes

    @property
    def giant_rotation(self) -> int:
        """Slots of one giant step."""
        return self.lanes * self.babies

    @property
    def sum_rotations(self) -> list[int]:
        """Rotations, in slots, of the sum over the positions of one feature."""
        return [self.lanes * self.outputs << i for i in range((self.period // self.outputs).bit_length() - 1)]

    @property
    def rotation_steps(self) -> set[int]:
        """All amounts by which something is rotated, in slots."""
        babies = {self.baby_rotation} if min(self.babies, max(self.steps)) > 1 else set()
        return babies | ({self.giant_rotation} if self.giants > 1 else set()) | set(self.sum_rotations)

    @property
    def rotations(self) -> int:
        """How many rotations the map takes."""
        babies = sum(min(self.babies, steps) - 1 for steps in self.steps)
        return babies + self.giants - 1 + len(self.sum_rotations)

    def vector(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (lanes, m) as slots (n,) of period m: a bias, or what the map puts out."""
        positions = self.slots // self.lanes
        return np.tile(values.T, (positions // values.shape[1], 1)).reshape(-1)

    def diagonals(self, matrix: NDArray[np.float64]) -> Iterator[tuple[tuple[int, int, int], NDArray[np.float64]]]:
        """Yield ((ciphertext, giant, baby), slots (n,)) of every diagonal that is not zero, rotated back.

        Args:
            matrix: (lanes, m, inputs).

        Raises:
            ParameterError: another shape.
        """
        if matrix.shape != (self.lanes, self.outputs, self.inputs):
            expected = (self.lanes, self.outputs, self.inputs)
            raise ParameterError(f"expected a matrix of shape {expected}, got {matrix.shape}")
        position = np.arange(self.period)
        feature = position % self.outputs
        for c, steps in enumerate(self.steps):
            for step in range(steps):
                seen = self.sources[c][(position + step) % self.period]
                diagonal = matrix[:, feature, np.maximum(seen, 0)] * (seen >= 0)
                if not diagonal.any():
                    continue
                giant, baby = divmod(step, self.babies)
                slots = np.tile(diagonal.T, (self.slots // self.lanes // self.period, 1)).reshape(-1)
                yield (c, giant, baby), rotate(slots, -giant * self.giant_rotation)

    def arrange(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return inputs (lanes, inputs) as the slots of ciphertexts, (ciphertexts, n)."""
        if values.shape != (self.lanes, self.inputs):
            raise ParameterError(f"expected values of shape {(self.lanes, self.inputs)}, got {values.shape}")
        repeat = self.slots // self.lanes // self.period
        chosen = values[:, np.maximum(self.sources, 0)] * (self.sources >= 0)  # (lanes, ciphertexts, D)
        return np.tile(chosen.transpose(1, 2, 0), (1, repeat, 1)).reshape(len(self.sources), -1)


def rotate(slots: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    """Rotate as a ciphertext's slots are rotated: slot t gets slot t + by."""
    return np.roll(slots, -by)


def plan_affine(
    lanes: int, slots: int, inputs: int, outputs: int, natural: bool, babies: int | None = None
) -> AffinePlan:
    """Plan a map from `inputs` to `outputs` features in each of `lanes` lanes.

    Args:
        natural: the inputs lie with period `inputs`, a power of two, as an earlier map left them; else as
            `input_sources` says, and `AffinePlan.arrange` puts them.
        babies: B; by default the one with the fewest rotations.

    Raises:
        ParameterError: too large for the slots, or not powers of two.
    """
    positions = slots // lanes
    if outputs & (outputs - 1) or slots % lanes or outputs > positions or (natural and inputs > positions):
        raise ParameterError(
            f"expected powers of two that fit {slots} slots, got {inputs} to {outputs} in {lanes} lanes"
        )
    if natural:
        if inputs & (inputs - 1):
            raise ParameterError(f"expected a power of two of features, got {inputs}")
        sources: Sources = (np.arange(max(inputs, outputs)) % inputs)[None]
        steps: tuple[int, ...] = (min(inputs, outputs),)
    else:
        sources, steps = input_sources(positions, inputs, outputs)

    def plan(count: int) -> AffinePlan:
        return AffinePlan(lanes, slots, inputs, outputs, sources, steps, count)

    choices = [1 << i for i in range(max(steps).bit_length())] if babies is None else [babies]
    return min((plan(count) for count in choices), key=lambda p: (p.rotations, -p.babies))


def input_sources(positions: int, inputs: int, outputs: int) -> tuple[Sources, tuple[int, ...]]:
    """Return where a client puts its inputs, and the steps that each ciphertext then takes.

    Args:
        positions: n / P.
    """
    period = min(positions, outputs * max(outputs, _power_of_two(inputs)))
    sources, steps = [], []
    for start in range(0, inputs, period):
        features = min(period, inputs - start)
        width = max(_power_of_two(features), outputs, period // outputs)
        shift = outputs * width // period
        position = np.arange(period)
        feature = (position % width + position // width * shift) % width
        sources.append(np.where(feature < features, start + feature, -1))
        steps.append(shift)
    return np.stack(sources), tuple(steps)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
