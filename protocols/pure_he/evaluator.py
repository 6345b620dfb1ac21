"""The server's computation on ciphertexts: affine maps by baby steps and giant steps, squares, the final distance.

The server encodes each diagonal once, at the level at which it uses the diagonal. It leaves out diagonals that are zero
or round to zero. The server computes with the keys in `EvaluationKeys`, and never sees a plaintext of the client's.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from protocols.errors import ParameterError, ProtocolError
from protocols.pure_he.circuit import AffineStage, Circuit
from protocols.pure_he.evaluation_keys import EvaluationKeys
from protocols.pure_he.weights import PatchNetWeights

__all__ = ["EncodedNetwork", "PureHeEvaluator"]

OnStage = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _EncodedAffine:
    """Diagonals by (ciphertext, giant, baby), and the bias, as SEAL's plaintexts."""

    diagonals: dict[tuple[int, int, int], seal.Plaintext] = field(repr=False)
    bias: seal.Plaintext = field(repr=False)


class EncodedNetwork:
    """A network's weights, encoded for a circuit; the same for every client.

    Args:
        circuit: for networks of the weights' shape.
        weights: the server's.

    Raises:
        ParameterError: the weights have another shape, or a map is zero, which SEAL does not compute.
    """

    def __init__(self, circuit: Circuit, weights: PatchNetWeights) -> None:
        if weights.shape != circuit.shape:
            raise ParameterError(f"expected weights of {circuit.shape}, got {weights.shape}")
        self.circuit = circuit
        self._encoder = seal.CKKSEncoder(circuit.context.seal)
        # Slot q P + p of the join's input is feature q of patch p.
        flat = weights.join.transpose(0, 2, 1).reshape(1, circuit.shape.dimension, -1)
        matrices, biases = [*weights.matrices, flat], [*weights.biases, weights.constant[None]]
        self.stages = tuple(map(self._encode, circuit.stages, matrices, biases))

    def _encode(self, stage: AffineStage, matrix: NDArray[np.float64], bias: NDArray[np.float64]) -> _EncodedAffine:
        diagonals = {}
        for key, slots in stage.plan.diagonals(matrix):
            plain = self._plaintext(slots, stage.primes, stage.plain_scale)
            if not plain.is_zero():
                diagonals[key] = plain
        if not diagonals:
            raise ParameterError(f"{stage.name}: expected weights that are not all zero")
        return _EncodedAffine(diagonals, self._plaintext(stage.plan.vector(bias), stage.primes - 1, stage.scale))

    def _plaintext(self, slots: NDArray[np.float64], primes: int, scale: float) -> seal.Plaintext:
        plain = seal.Plaintext()
        try:
            self._encoder.encode(slots, self.circuit.context.parms_id(primes), scale, plain)
        except (ValueError, RuntimeError) as error:
            raise ParameterError(f"SEAL cannot encode weights at scale {scale:g}: {error}") from error
        return plain


@contextmanager
def _refusals() -> Iterator[None]:
    """Report a refusal by SEAL as the client's mistake: only the client's ciphertexts and keys vary."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ProtocolError(f"SEAL refuses to compute on the client's ciphertexts: {error}") from error


class PureHeEvaluator:
    """Computes on one client's ciphertexts.

    Args:
        network: encoded weights.
        keys: the client's.
    """

    def __init__(self, network: EncodedNetwork, keys: EvaluationKeys) -> None:
        self.network, self.circuit, self.keys = network, network.circuit, keys
        self._evaluator = seal.Evaluator(self.circuit.context.seal)

    def embed(self, inputs: Sequence[seal.Ciphertext], on_stage: OnStage | None = None) -> seal.Ciphertext:
        """Return the encrypted embedding, of period `dimension`, with two primes left.

        Args:
            inputs: fresh ciphertexts, arranged as the first plan says.
            on_stage: called with a stage's name when it begins.

        Raises:
            ProtocolError: SEAL refuses to compute on them.
        """
        current = list(inputs)
        for stage, encoded in zip(self.circuit.stages, self.network.stages, strict=True):
            if on_stage:
                on_stage(stage.name)
            with _refusals():
                result = self._affine(stage, encoded, current)
                if stage is not self.circuit.stages[-1]:
                    self._square(result)
            current = [result]
        return current[0]

    def squared_difference(self, first: seal.Ciphertext, second: seal.Ciphertext) -> seal.Ciphertext:
        """Return (first - second)^2 in every slot, with one prime left, at the answer's scale.

        Raises:
            ProtocolError: SEAL refuses to compute, for example on a ciphertext minus itself.
        """
        difference = seal.Ciphertext()
        with _refusals():
            self._evaluator.sub(first, second, difference)
            self._square(difference)
        return difference

    def _square(self, value: seal.Ciphertext) -> None:
        self._evaluator.square_inplace(value)
        self._evaluator.relinearize_inplace(value, self.keys.relinearisation)
        self._evaluator.rescale_to_next_inplace(value)

    def _affine(
        self, stage: AffineStage, encoded: _EncodedAffine, inputs: Sequence[seal.Ciphertext]
    ) -> seal.Ciphertext:
        plan = stage.plan
        counts = [min(plan.babies, steps) for steps in plan.steps]
        babies = [self._babies(value, n, plan.baby_rotation) for value, n in zip(inputs, counts, strict=True)]
        total: seal.Ciphertext | None = None
        for giant in reversed(range(plan.giants)):
            if total is not None:
                self._rotate(total, plan.giant_rotation)
            for (c, g, baby), diagonal in encoded.diagonals.items():
                if g == giant:
                    product = seal.Ciphertext()
                    self._evaluator.multiply_plain(babies[c][baby], diagonal, product)
                    total = product if total is None else self._add(total, product)
        for step in plan.sum_rotations:
            moved = seal.Ciphertext()
            self._evaluator.rotate_vector(total, step, self.keys.rotations[step], moved)
            self._evaluator.add_inplace(total, moved)
        self._evaluator.rescale_to_next_inplace(total)
        self._evaluator.add_plain_inplace(total, encoded.bias)
        return total

    def _babies(self, value: seal.Ciphertext, count: int, step: int) -> list[seal.Ciphertext]:
        babies = [value]
        while len(babies) < count:
            moved = seal.Ciphertext()
            self._evaluator.rotate_vector(babies[-1], step, self.keys.rotations[step], moved)
            babies.append(moved)
        return babies

    def _add(self, total: seal.Ciphertext, value: seal.Ciphertext) -> seal.Ciphertext:
        self._evaluator.add_inplace(total, value)
        return total

    def _rotate(self, value: seal.Ciphertext, step: int) -> None:
        self._evaluator.rotate_vector_inplace(value, step, self.keys.rotations[step])
