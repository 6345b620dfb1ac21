"""What is compared: five modes on the networks that they can run, and who learns what in each."""

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
        opens: in two or three words, what is opened to whom.
        client, server, third_party: what each learns.
        score: whether anybody sees a score, and what that costs.
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
        mode: how it is computed.
        model: the network's name.
        simulated: whether its processes can simulate a network between them; if not, other networks are computed.
    """

    mode: ReportMode
    model: str
    simulated: bool = True

    @property
    def name(self) -> str:
        """The name in tables and plots."""
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
"""All of them, in the report's order."""

_SCORES_REBUILD = "50 to 200 scores of chosen photos rebuild a template, and a CKKS decryption must not be published"

PRIVACY = {
    ReportMode.PLAIN: Privacy(
        opens="everything, to the server",
        client="The decision, when the server tells it.",
        server="Everything: photo, embedding, score.",
        third_party="There is none.",
        score="The server sees it, like everything else.",
        trust="The server, with the photo and all that follows from it.",
    ),
    ReportMode.HYBRID: Privacy(
        opens="one bit",
        client="One bit: same person, or not (or the server learns it, or both: the parties choose).",
        server="Nothing of the photo: it sees ciphertexts and uniform numbers.",
        third_party="There is none.",
        score="Nobody sees one. An answer tells one bit.",
        trust="Ring-LWE, LPN, AES and Curve25519; parties that follow the protocol.",
    ),
    ReportMode.PURE_HE: Privacy(
        opens="a score, to the client",
        client="The squared distance, which is a score.",
        server="Nothing: it sees ciphertexts, and keeps templates that it cannot read.",
        third_party="There is none.",
        score=f"The client sees it: {_SCORES_REBUILD}. So a session bounds how many it answers.",
        trust="Ring-LWE; a client that may know the template, and keeps its scores; parties that follow the protocol.",
    ),
    ReportMode.PURE_MPC: Privacy(
        opens="one bit, but see trust",
        client="One bit. As measured here it can open everything: the client's process deals the random triples.",
        server="One bit.",
        third_party="There is none, as measured here. To be private, a third party must deal the triples.",
        score="Nobody sees one, if the client's process does not look.",
        trust="As measured here, the client, wholly: it shows what shares alone cost at best, not a private system.",
    ),
    ReportMode.FEATURES_ONLY: Privacy(
        opens="a score and the network, to the client",
        client="The squared distance, which is a score; and it holds the whole network.",
        server="Nothing: it sees ciphertexts, and keeps templates that it cannot read.",
        third_party="There is none.",
        score=f"The client sees it: {_SCORES_REBUILD}.",
        trust="Ring-LWE; a client that may hold the network, know the template, and keeps its scores.",
    ),
}
"""By mode."""
