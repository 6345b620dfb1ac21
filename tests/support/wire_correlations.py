"""Cases of `wire`: every kind of correlation, by every maker; by transfers all of them over one connection."""

from functools import partial

from parties.local import run_locally
from parties.session.correlations import Correlations
from protocols.correlations import (
    ArithmeticTriple,
    BinaryTriple,
    BorrowJoin,
    ComparisonMask,
    FixedMask,
    FixedNorms,
    FixedProduct,
    Request,
    SharedBit,
    SquarePair,
    TruncationMask,
    WrapCount,
)
from protocols.correlations.comparison_masks import WIDTHS
from protocols.shares.party import MpcParty
from support.wire import Recording, case

__all__ = ["REQUESTS"]

REQUESTS: dict[str, Request] = {
    "products": ArithmeticTriple("mul", (3, 5), (5,)),
    "matrix products": ArithmeticTriple("matmul", (2, 9), (9, 3)),
    "convolutions": ArithmeticTriple("conv2d", (1, 2, 5, 5), (3, 2, 3, 3), (("padding", 1),)),
    "binary products": BinaryTriple((2, 3), (3,)),
    "squares": SquarePair((7,)),
    "truncation masks": TruncationMask((7,), 16),
    "shared bits": SharedBit((70,)),
    "wraps": WrapCount((7,)),
    "norms of a fixed mask": FixedNorms(100, 20, 8),
    "products with a fixed mask": FixedProduct(100, 20, 8),
    **{f"masks of ReLU on {bits} bits": ComparisonMask(70, bits) for bits in WIDTHS},
    "masks of signs": ComparisonMask(70, 28, select=False),
    "masks of intervals": ComparisonMask(70, 64, select=False, signed=False),
    **{f"joins of {children}": BorrowJoin(children, 3, 2) for children in (2, 3, 4)},
}


def _make(party: MpcParty, requests: dict[str, Request], recording: Recording | None = None) -> None:
    mask = FixedMask((bytes([party.rank]) * 32,), 8)
    party.correlations.tell_mask(mask)  # type: ignore[attr-defined]
    for name, request in requests.items():
        if recording:
            recording.part(name)
        party.correlations.prepare([request])


for maker in (Correlations.OT, Correlations.OT_IKNP):

    def _by_transfers(recording: Recording, maker: Correlations = maker) -> None:
        side = partial(_make, requests=REQUESTS, recording=recording)
        run_locally(side, side, correlations=maker)

    case(f"correlations by {maker}")(_by_transfers)

    def _together(recording: Recording, maker: Correlations = maker) -> None:
        def side(party: MpcParty) -> None:
            requests = [request for name, request in REQUESTS.items() if "fixed" not in name]
            party.correlations.prepare(requests)

        run_locally(side, side, correlations=maker)

    case(f"correlations by {maker} in joint turns")(_together)

for name, request in REQUESTS.items():

    def _by_dealer(recording: Recording, name: str = name, request: Request = request) -> None:
        side = partial(_make, requests={name: request})
        run_locally(side, side, correlations=Correlations.DEALER)

    case(f"correlations by dealer, {name}")(_by_dealer)


@case("correlations by dealer, on demand")
def _on_demand(recording: Recording) -> None:
    def side(party: MpcParty) -> None:
        party.correlations.prepare([SquarePair((3,))])
        party.correlations.take(SquarePair((3,)))
        party.correlations.take(SquarePair((4,)))
        party.correlations.prepare([ArithmeticTriple("mul", (2,), (2,))])

    run_locally(side, side, correlations=Correlations.DEALER)
