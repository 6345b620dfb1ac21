"""Slots: where numbers lie in a ciphertext, and a matrix as diagonals for baby steps and giant steps. Numpy only.

The n slots of a ciphertext form a ring: rotation by r puts slot (t + r) mod n into slot t. With P *lanes*, slot q P + p
is position q of lane p. A rotation by r P moves every lane by r positions, so P matrices, one per lane, cost as much as
one. A vector of m features *of period m* has feature q mod m at position q, so it repeats over all slots.

An affine map from `inputs` to m features sees, at step t and position q, the input `source[c][q + t]` of ciphertext c.
The map multiplies this input by the weight to feature q mod m. Let D be the sources' period. Then a feature is the sum
over all steps, and over the D / m positions that belong to it. The sum over positions takes log2(D / m) rotations by
multiples of m. The result then has period m again, so no slot is ever masked, and no slot ever holds a leftover value.

- An input in its own arrangement (the client's, `arrange`) has D = n / P positions, or fewer (`input_sources`), and
  w <= D features per ciphertext. If w < D, it is repeated. Repetition r is rotated by r m w / D, so that repetitions
  see different features at the same step. Steps: m w / D.
- An output of an earlier map has period m'. If m' >= m: D = m', m steps. If m' < m: D = m, m' steps.

A step t = g B + b is a baby step b and a giant step g. The map is

    sum over g of rot(sum over b of d[g, b] rot(x, b), g B)

with the diagonals d rotated back by g B beforehand. It takes B - 1 baby rotations per ciphertext and G - 1 giant
rotations in all. All baby rotations are by one amount, and all giant rotations by another (Horner's rule), so two keys
are enough. Source: Halevi, Shoup, CRYPTO 2014 and 2018; GAZELLE, 2018.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protocols.errors import ParameterError

__all__ = ["AffinePlan", "Sources", "input_sources", "plan_affine", "rotate"]

Sources = NDArray[np.int64]
"""The feature at each position: (ciphertexts, D), -1 for none. The pattern repeats with period D."""


@dataclass(frozen=True, eq=False)
class AffinePlan:
    """How an affine map is computed.

    Args:
        lanes: P.
        slots: n.
        inputs: number of input features.
        outputs: m, the number of output features, a power of two.
        sources: where the inputs lie.
        steps: how many steps each ciphertext takes.
        babies: B, the number of baby steps.
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
        """G, the number of giant steps."""
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
        """All amounts, in slots, by which the map rotates ciphertexts."""
        babies = {self.baby_rotation} if min(self.babies, max(self.steps)) > 1 else set()
        return babies | ({self.giant_rotation} if self.giants > 1 else set()) | set(self.sum_rotations)

    @property
    def rotations(self) -> int:
        """How many rotations the map takes."""
        babies = sum(min(self.babies, steps) - 1 for steps in self.steps)
        return babies + self.giants - 1 + len(self.sum_rotations)

    def vector(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values (lanes, m) as slots (n,) of period m: a bias, or the map's output."""
        positions = self.slots // self.lanes
        return np.tile(values.T, (positions // values.shape[1], 1)).reshape(-1)

    def diagonals(self, matrix: NDArray[np.float64]) -> Iterator[tuple[tuple[int, int, int], NDArray[np.float64]]]:
        """Yield ((ciphertext, giant, baby), slots (n,)) of every diagonal that is not zero, rotated back.

        Args:
            matrix: (lanes, m, inputs).

        Raises:
            ParameterError: the matrix has another shape.
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
    """Rotate slots as a ciphertext's rotation does: slot t gets the value of slot t + by."""
    return np.roll(slots, -by)


def plan_affine(
    lanes: int, slots: int, inputs: int, outputs: int, natural: bool, babies: int | None = None
) -> AffinePlan:
    """Plan a map from `inputs` to `outputs` features in each of `lanes` lanes.

    Args:
        natural: whether the inputs have period `inputs`, a power of two, as an earlier map left them. Otherwise they
            lie as `input_sources` says, and `AffinePlan.arrange` puts them there.
        babies: B; by default the number with the fewest rotations.

    Raises:
        ParameterError: the map is too large for the slots, or a size is not a power of two.
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
    """Return where the client puts its inputs, and how many steps each ciphertext then takes.

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
