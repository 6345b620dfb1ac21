"""List the ways that are compared: five modes on the networks that they can run, and who learns what in each."""

from dataclasses import dataclass
from enum import StrEnum

from hybridface.models import DEFAULT_MODEL

__all__ = ["PRIVACY", "WAYS", "Privacy", "ReportMode", "Way"]

DLIB, PATCHNET = DEFAULT_MODEL, "patchnet"


class ReportMode(StrEnum):
    """A mode of the comparison."""

    PLAIN = "plain"
    HYBRID = "hybrid"
    PURE_HE = "pure HE"
    PURE_MPC = "pure MPC"
    FEATURES_ONLY = "features-only HE"


@dataclass(frozen=True)
class Privacy:
    """Who learns what in a mode, in sentences for people.

    Args:
        opens: a few words that say what is opened to whom.
        client, server, third_party: sentences that say what each party learns.
        score: whether a party sees a score, and what the danger is.
        trust: what must be trusted.
    """

    opens: str
    client: str
    server: str
    third_party: str
    score: str
    trust: str


@dataclass(frozen=True)
class Way:
    """One mode on one network.

    Args:
        mode: the mode.
        model: the network's name.
        simulated: whether its processes can simulate a link between them. If not, the figures over links are computed.
    """

    mode: ReportMode
    model: str
    simulated: bool = True

    @property
    def name(self) -> str:
        """The way's name in tables and plots."""
        return f"{self.mode.value}, {self.model}"


WAYS = (
    Way(ReportMode.PLAIN, DLIB, simulated=False),
    Way(ReportMode.PLAIN, PATCHNET, simulated=False),
    Way(ReportMode.HYBRID, DLIB),
    Way(ReportMode.HYBRID, PATCHNET),
    Way(ReportMode.PURE_HE, PATCHNET),
    Way(ReportMode.PURE_MPC, DLIB, simulated=False),
    Way(ReportMode.PURE_MPC, PATCHNET, simulated=False),
    Way(ReportMode.FEATURES_ONLY, DLIB),
)
"""All ways, in the report's order."""

_SCORES_REBUILD = "50 to 200 scores of chosen photos rebuild a template, and a CKKS decryption must not be published"

PRIVACY = {
    ReportMode.PLAIN: Privacy(
        opens="everything, to the server",
        client="The decision, if the server sends it.",
        server="Everything: photo, embedding, score.",
        third_party="There is none.",
        score="The server sees it, like everything else.",
        trust="The server: it sees the photo and everything that is computed from it.",
    ),
    ReportMode.HYBRID: Privacy(
        opens="one bit",
        client="One bit: same person or not. The parties choose whether the client learns it, the server, or both.",
        server="Nothing about the photo: it sees ciphertexts and uniform numbers.",
        third_party="There is none.",
        score="Nobody sees one. An answer is one bit.",
        trust="Ring-LWE, LPN, AES and Curve25519; parties that follow the protocol.",
    ),
    ReportMode.PURE_HE: Privacy(
        opens="a score, to the client",
        client="The squared distance, which is a score.",
        server="Nothing: it sees ciphertexts, and keeps templates that it cannot read.",
        third_party="There is none.",
        score=f"The client sees it: {_SCORES_REBUILD}. So a session gives a limited number of answers.",
        trust="Ring-LWE; a client that may know the template and keeps its scores secret; parties that follow the "
        "protocol.",
    ),
    ReportMode.PURE_MPC: Privacy(
        opens="one bit, but see trust",
        client="One bit. As measured here, it can open everything, because its process deals the random triples.",
        server="One bit.",
        third_party="There is none, as measured here. For privacy, a third party must deal the triples.",
        score="Nobody sees one, unless the client's process looks.",
        trust="As measured here, the client, completely. The figures show the least that shares alone cost, not a "
        "private system.",
    ),
    ReportMode.FEATURES_ONLY: Privacy(
        opens="a score and the network, to the client",
        client="The squared distance, which is a score. The client also holds the whole network.",
        server="Nothing: it sees ciphertexts, and keeps templates that it cannot read.",
        third_party="There is none.",
        score=f"The client sees it: {_SCORES_REBUILD}.",
        trust="Ring-LWE; a client that may hold the network and know the template, and keeps its scores secret.",
    ),
}
"""Who learns what, by mode."""
