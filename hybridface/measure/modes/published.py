"""Quote published figures of whole face recognition under encryption, from other machines and other data."""

from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """A quoted result.

    Args:
        what: the system and the setting.
        figures: names and values, as text.
        source: the publication.
    """

    what: str
    figures: tuple[tuple[str, str], ...]
    source: str


PUBLISHED = (
    Published(
        "CryptoFace, 64x64 pixels, 0.94 M parameters",
        (
            ("time of one verification", "1,364 s"),
            ("machine", "96 vCPUs (AWS r5.24xlarge)"),
            ("memory", "269 GB"),
            ("accuracy, mean of LFW, AgeDB, CALFW, CPLFW and CFP-FP", "89.42 %"),
        ),
        "W. Ao, V. N. Boddeti: CryptoFace, CVPR 2025, arXiv 2509.00332",
    ),
    Published(
        "CryptoFace in the face-recognition harness",
        (
            ("time of one pair", "47.7 minutes"),
            ("evaluation keys", "28.8 GB"),
            ("upload of one pair", "128 MB"),
            ("equal error rate", "7.23 % (plain ArcFace there: 6.05 %)"),
        ),
        "fhe-benchmarking, workload face-recognition",
    ),
)
"""The quoted results. None of them was measured here."""
