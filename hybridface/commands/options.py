"""Options that several commands share."""

import math
from pathlib import Path
from typing import Annotated

import typer

from hybridface.faces.choice import FaceChoice
from hybridface.models import MODELS, check_name
from hybridface.modes import Mode
from parties.session.correlations import Correlations
from protocols.link import LINKS
from protocols.matching.reveal import Reveal

__all__ = [
    "CONTEXT",
    "AcceptDamagedOption",
    "AlignedOption",
    "CacheOption",
    "CorrelationsOption",
    "CostsOption",
    "EnrolledOption",
    "FaceOption",
    "FacesCacheOption",
    "GalleryOption",
    "IdentityOption",
    "JsonOption",
    "KeyOption",
    "LayersOption",
    "LimitsOption",
    "LinkOption",
    "ModeModelOption",
    "ModeOption",
    "ModelArgument",
    "ModelOption",
    "PoolOption",
    "PreparedOption",
    "QuietOption",
    "RevealOption",
    "ShardsOption",
    "ThresholdOption",
    "TimeoutOption",
    "WorkersOption",
]


def _finite(seconds: float) -> float:
    """Refuse NaN, which the check of the range accepts."""
    if math.isnan(seconds):
        raise typer.BadParameter("expected a number of seconds")
    return seconds


def _known_model(name: str) -> str:
    """Refuse an unknown name of a model before anything is loaded."""
    if name:
        check_name(name)
    return name


MOST_SECONDS = 86_400.0
"""A day: the longest wait that an option accepts."""

CONTEXT = {"help_option_names": ["-h", "--help"]}

ModeOption = Annotated[
    Mode,
    typer.Option(
        "--mode",
        help="hybrid: ciphertexts and shares; reveals one bit. "
        "pure-he: ciphertexts only; the client sees a score (docs/PURE_HE.md).",
    ),
]
ModeModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        callback=_known_model,
        help=f"The network: {', '.join(MODELS)}.",
        show_default=", ".join(f"{mode.default_model} in {mode.value} mode" for mode in Mode),
    ),
]
GalleryOption = Annotated[
    Path | None,
    typer.Option(
        "--gallery", help="The server's file of enrolled people.", show_default="~/.local/share/hybridface/gallery.db"
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="The client's key file (32 bytes) for a private gallery; without it nobody can use the gallery.",
        show_default="~/.config/hybridface/gallery.key",
    ),
]
IdentityOption = Annotated[str | None, typer.Option("--id", help="Compare the photo with this person in the gallery.")]
LimitsOption = Annotated[
    bool, typer.Option("--limits/--no-limits", help="Whether the server limits queries (docs/GALLERIES.md).")
]
ModelOption = Annotated[str, typer.Option("--model", callback=_known_model, help=f"The network: {', '.join(MODELS)}.")]
ModelArgument = Annotated[str, typer.Argument(callback=_known_model, help=f"The network: {', '.join(MODELS)}.")]
RevealOption = Annotated[
    Reveal,
    typer.Option(
        "--reveal", help="Who learns the decision. Nobody learns the score, except the client in pure-he mode."
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Distance below which two faces count as the same person. Both parties must give the same.",
        show_default="the network's",
    ),
]
AlignedOption = Annotated[
    bool, typer.Option("--aligned", help="The photos are aligned crops of the network's input size.")
]
FaceOption = Annotated[
    FaceChoice,
    typer.Option(
        "--face", help="Which face counts where a photo shows several: only (refuse the photo), largest, or centre."
    ),
]
AcceptDamagedOption = Annotated[
    bool,
    typer.Option(
        "--accept-damaged", help="Use a photo whose file breaks off, if the face is in the part that is there."
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout", min=1.0, max=MOST_SECONDS, callback=_finite, help="Seconds to wait for a peer's message."
    ),
]
LinkOption = Annotated[
    str,
    typer.Option("--link", help=f"Simulate a network on one machine: {', '.join(LINKS)}. Between machines, use none."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
CostsOption = Annotated[
    bool, typer.Option("--costs", help="With --json: also print the cost by phase and stage, and the peak memory.")
]
EnrolledOption = Annotated[
    bool,
    typer.Option(
        "--enrolled", help="Enrol the second photo first; the cost is then that of one photo against a template."
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bars.")]
LayersOption = Annotated[bool, typer.Option("--layers", help="Show the cost of every layer.")]
CacheOption = Annotated[
    str,
    typer.Option(
        "--cache",
        help="Folder where the server keeps its encoded weights (secret, large); 'none' to encode them at each start.",
        show_default="~/.cache/hybridface",
    ),
]
FacesCacheOption = Annotated[
    str,
    typer.Option(
        "--cache",
        help="Folder for aligned crops and embeddings (biometric data, unencrypted); 'none' to keep nothing.",
        show_default="~/.cache/hybridface",
    ),
]
PoolOption = Annotated[
    int, typer.Option("--pool", min=0, max=16, help="Number of verifications to keep prepared in the background.")
]
CorrelationsOption = Annotated[
    Correlations,
    typer.Option(
        "--correlations",
        help="Who makes the correlations. ot: client and server, nobody else takes part. ot-iknp: the same, but it "
        "relies on AES alone and sends more. dealer: a third process, which must collude with neither party; it makes "
        "the offline phase fastest.",
    ),
]
PreparedOption = Annotated[
    str,
    typer.Option(
        "--prepared",
        help="Folder of prepared runs (see `hybridface prepare`); 'none' to use none.",
        show_default="~/.local/share/hybridface/prepared",
    ),
]
ShardsOption = Annotated[
    int,
    typer.Option(
        "--shards", min=1, max=64, help="Number of shards: parts of the gallery that separate ranks search at once."
    ),
]
WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers", min=0, max=64, help="Number of extra ranks of the server, each of which multiplies some channels."
    ),
]
