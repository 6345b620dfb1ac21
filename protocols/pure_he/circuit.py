"""The computation as a public plan: which affine maps, at which level, at which scale, with which rotation keys.

Every affine map and every square ends with a rescaling, which leaves one prime fewer. Shape and parameters alone
determine all scales, to the last bit. The server encodes an affine map's diagonals at such a scale that the result has
the scale 2^scale_bits again, whatever scale the square before it left. So neither party sends a scale, and the client
reads the answer at the scale that it computes itself.

A network of k squares takes 2 k + 2 levels: k times (affine map, square), the join, and the square of the difference of
two embeddings. The sum of the squared difference needs no rotation. The mean of all slots is the constant coefficient
of the polynomial that holds them, and the answer is that coefficient alone (`answer`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from protocols.errors import ParameterError
from protocols.pure_he.packing import AffinePlan, plan_affine
from protocols.pure_he.parameters import PureHeContext
from protocols.pure_he.weights import PatchNetShape

__all__ = ["AffineStage", "Circuit"]

_JOIN = "join"


@dataclass(frozen=True)
class AffineStage:
    """An affine map at its level.

    Args:
        name: "affine 1", ..., "join".
        plan: its rotations and diagonals.
        primes: how many primes its input has left; its output has one fewer.
        plain_scale: scale of the encoded diagonals.
        scale: scale of the output, and of the encoded bias.
    """

    name: str
    plan: AffinePlan
    primes: int
    plain_scale: float
    scale: float


class Circuit:
    """The plan for all networks of one shape.

    Args:
        context: has exactly the levels that the shape needs.
        shape: the network's.

    Raises:
        ParameterError: the context has too many or too few levels, or too few slots for a layer.
    """

    def __init__(self, context: PureHeContext, shape: PatchNetShape) -> None:
        if context.parameters.levels != 2 * shape.squares + 2:
            raise ParameterError(
                f"expected {2 * shape.squares + 2} levels for {shape.squares} squares, got {context.parameters.levels}"
            )
        self.context, self.shape = context, shape
        self.stages = tuple(self._stages())
        last = self.stages[-1]
        self.embedding_primes = last.primes - 1
        self.embedding_scale = last.scale
        self.answer_scale = last.scale * last.scale / context.primes[self.embedding_primes - 1]

    @property
    def input_scale(self) -> float:
        """The scale of the encrypted input."""
        return 2.0**self.context.parameters.scale_bits

    @property
    def inputs(self) -> int:
        """How many ciphertexts the input takes."""
        return len(self.stages[0].plan.sources)

    @property
    def rotations(self) -> int:
        """How many rotations one embedding takes."""
        return sum(stage.plan.rotations for stage in self.stages)

    @property
    def rotation_keys(self) -> dict[int, int]:
        """The rotations that need a key, in slots, each with the most primes that a rotated ciphertext has left."""
        steps = sorted({step for stage in self.stages for step in stage.plan.rotation_steps})
        used = {step: [s.primes for s in self.stages if step in s.plan.rotation_steps] for step in steps}
        return {step: max(primes) for step, primes in used.items()}

    @property
    def relinearisation_primes(self) -> int:
        """The most primes that a squared ciphertext has left."""
        return self.stages[0].primes - 1

    def _stages(self) -> Iterator[AffineStage]:
        shape, slots, primes = self.shape, self.context.slots, self.context.fresh
        scale, features = self.input_scale, shape.inputs
        for index, width in enumerate(shape.widths):
            plan = plan_affine(shape.patches, slots, features, width, natural=index > 0)
            stage = self._stage(f"affine {index + 1}", plan, primes, scale)
            yield stage
            scale = stage.scale * stage.scale / self.context.primes[primes - 2]  # after the square
            primes, features = primes - 2, width
        plan = plan_affine(1, slots, features * shape.patches, shape.dimension, natural=True)
        yield self._stage(_JOIN, plan, primes, scale)

    def _stage(self, name: str, plan: AffinePlan, primes: int, scale: float) -> AffineStage:
        dropped = self.context.primes[primes - 1]
        plain_scale = dropped * self.input_scale / scale
        return AffineStage(name, plan, primes, plain_scale, scale * plain_scale / dropped)
