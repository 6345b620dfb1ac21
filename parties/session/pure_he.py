"""Run sessions in pure-HE mode: the server computes the whole network on ciphertexts.

There is no dealer, there are no shares, and there is no interaction after an upload. The client drives the session, as
in hybrid mode: it sends its keys once, then commands (enroll, verify, end). Each enrolment or verification has one
encrypted input. A template is the encrypted embedding of an enrolled input. It stays with the server, which cannot read
it.

**The client learns a score**, not only the decision: the squared distance.

- A client can rebuild a template from 50 to 200 scores of chosen inputs. So a session bounds their number, and the
  holder of the secret key must be somebody who may know the template anyway.
- A score must not be published, since a CKKS decryption says something about the secret key (Li and Micciancio, ePrint
  2020/1533). The decision may be published.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.session.commands import Command, Commands, OnCommand, is_end, operation_of, work_of
from parties.session.cost import OFFLINE, ONLINE, CostReport, Recorder, merge, server_report
from parties.session.progress import OnProgress, Progress
from parties.session.terms import agree
from protocols.channel import IDLE_SECONDS, VERSION, Channel
from protocols.document import text
from protocols.errors import ParameterError, ProtocolError, reason_for_peers
from protocols.pure_he import (
    Circuit,
    EncodedNetwork,
    EncryptedEmbedding,
    PatchNetShape,
    PatchNetWeights,
    PureHeClient,
    PureHeContext,
    PureHeKeys,
    PureHeParameters,
    PureHeServer,
)

__all__ = ["EncryptedTemplate", "PureHeClientSession", "PureHeResult", "PureHeServerSession", "PureHeTerms"]

_MAX_NAME = 10_000
_MAX_TEMPLATES = 1_000
_KEYS, _UPLOAD, _DISTANCE = "keys", "upload", "distance"


@dataclass(frozen=True)
class PureHeTerms:
    """The public terms of a session; all of them must be equal on both sides.

    Args:
        shape: the network's shape.
        threshold: Euclidean distance below which two embeddings match.
        parameters: the encryption's parameters; by default those that the shape needs.
        max_answers: how many scores the server gives in a session, at most.
    """

    shape: PatchNetShape
    threshold: float
    parameters: PureHeParameters | None = None
    max_answers: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 2**14 or not 0 < self.max_answers < 2**31:
            raise ParameterError(
                f"expected a threshold above 0 and below 2^14, and 1 to 2^31 - 1 answers, "
                f"got {self.threshold} and {self.max_answers}"
            )

    @property
    def encryption(self) -> PureHeParameters:
        """The encryption's parameters."""
        return self.parameters or PureHeParameters.for_squares(self.shape.squares)

    @property
    def blur(self) -> float:
        """The largest random number that the server adds to a squared distance."""
        return self.threshold**2 * 2.0**-self.encryption.flood_bits

    def circuit(self) -> Circuit:
        """Return the public plan."""
        return Circuit(PureHeContext(self.encryption), self.shape)

    def document(self) -> dict[str, Any]:
        """Return the terms in the form in which the parties compare them."""
        secrecy = {f"encryption {key}": value for key, value in asdict(self.encryption).items()}
        network = {f"network {key}": value for key, value in self.shape.document().items()}
        return {
            "protocol": "pure HE",
            "protocol version": VERSION,
            "threshold": self.threshold,
            "answers": self.max_answers,
            **network,
            **secrecy,
        }


@dataclass(frozen=True)
class EncryptedTemplate:
    """An enrolled input: the server holds its embedding, encrypted under this session's key.

    Args:
        name: the name under which the server finds it.
        cost: the cost of the enrolment.
    """

    name: str
    cost: CostReport = field(repr=False)


@dataclass(frozen=True)
class PureHeResult:
    """The outcome of a verification. Unlike a `MatchResult`, it holds a score: keep it secret, publish only `match`.

    Args:
        match: whether it is the same person: squared distance < threshold^2, and not below 0 by more than twice the
            blur.
        squared_distance: as decrypted, with the server's blur, rounded to steps of the blur.
        cost: the cost of the verification.
    """

    match: bool
    squared_distance: float = field(repr=False)
    cost: CostReport = field(repr=False)

    @property
    def matches(self) -> tuple[bool]:
        """The decision as a tuple of one, like `MatchResult.matches`."""
        return (self.match,)


class PureHeClientSession:
    """The client's side of a session.

    Args:
        server: the channel to the server.
        terms: the terms that the client expects.
        on_progress: called when a step begins.

    Raises:
        ProtocolError: the server has other terms.
        PeerLostError: the server is gone.
    """

    def __init__(self, server: Channel, terms: PureHeTerms, on_progress: OnProgress | None = None) -> None:
        self.terms = terms
        self._channel = server
        self._recorder = Recorder(server)
        self._running = False
        agree(server, terms)
        if on_progress:
            on_progress(Progress("offline", _KEYS, 0, 1))
        with self._recorder.recording(OFFLINE, _KEYS):
            self._client = PureHeClient(PureHeKeys(terms.circuit()))
            self._client.prepare(server)
            server.receive("ready", np.uint8, (1,))
        self.setup = merge(self._recorder.take(), server.receive_document("cost")).offline
        """The cost of the session's keys, which occurs once."""

    def enroll(self, name: str, values: NDArray[np.float64]) -> EncryptedTemplate:
        """Enrol an input (P, inputs) under a new name. The server keeps its encrypted embedding."""
        self._begin({"operation": "enroll", "template": name}, values)
        return EncryptedTemplate(name, self._finish())

    def verify(self, values: NDArray[np.float64], template: EncryptedTemplate) -> PureHeResult:
        """Compare an input (P, inputs) with an enrolled template."""
        self._begin({"operation": "verify", "template": template.name}, values)
        with self._recorder.recording(ONLINE, _DISTANCE):
            distance = self._client.receive_distance(self._channel)
        match = -2 * self.terms.blur <= distance < self.terms.threshold**2
        kept = round(distance / self.terms.blur) * self.terms.blur  # below the blur lie noise and traces of the key
        return PureHeResult(match, kept, self._finish())

    def end(self) -> None:
        """End the session."""
        self._channel.send_document("command", {"operation": "end"})

    def __enter__(self) -> "PureHeClientSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self._running:
            self.end()
        else:
            self._channel.send_error(reason_for_peers(error or ProtocolError("an operation of the session has failed")))

    def _begin(self, command: dict[str, Any], values: NDArray[np.float64]) -> None:
        """Send a command and its input. After a failure the session is over, since the peers are out of step."""
        if self._running:
            raise ProtocolError("expected an open session, but this one has failed; open a new one")
        shape = (self.terms.shape.patches, self.terms.shape.inputs)
        if values.shape != shape:
            raise ParameterError(f"expected an input of shape {shape}, got {values.shape}")
        self._running = True
        with self._recorder.recording(ONLINE, _UPLOAD):
            self._channel.send_document("command", command)
            self._client.upload(self._channel, values)

    def _finish(self) -> CostReport:
        report = merge(self._recorder.take(), self._channel.receive_document("cost"))
        self._running = False
        return report


class PureHeServerSession:
    """The server's side of a session with one client.

    Args:
        client: the channel to the client.
        terms: the terms that the server expects.
        weights: the network's weights, or encoded weights that several sessions use.
        on_progress: called when a step begins.

    Raises:
        ParameterError: the weights have another shape, or were encoded for other terms.
        ProtocolError: the client has other terms, or sends no valid keys.
    """

    def __init__(
        self,
        client: Channel,
        terms: PureHeTerms,
        weights: PatchNetWeights | EncodedNetwork,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.terms, self._on_progress = terms, on_progress
        self._channel = client
        self._recorder = Recorder(client)
        self._templates: dict[str, EncryptedEmbedding] = {}
        self._answers = 0
        self.commands: Commands = {"enroll": self._read_enrolment, "verify": self._read_verification}
        """The commands that the session carries out."""

        self._report("start", "weights", 0, 1)
        network = weights
        if isinstance(network, PatchNetWeights):
            network = EncodedNetwork(terms.circuit(), network)
        if network.circuit.shape != terms.shape or network.circuit.context.parameters != terms.encryption:
            raise ParameterError(f"expected a network encoded for {terms}, got one encoded for others")
        self._server = PureHeServer(network, terms.blur)
        agree(client, terms)
        with self._recorder.recording(OFFLINE, _KEYS):
            self._server.prepare(client)
            client.send("ready", np.ones(1, dtype=np.uint8))
        client.send_document("cost", server_report(self._recorder.take()))

    def serve(self, on_done: Callable[[], None] | None = None, on_command: OnCommand | None = None) -> None:
        """Carry out commands until the client ends the session.

        Args:
            on_done, on_command: called after every enrolment and verification.

        Raises:
            ProtocolError: a command is malformed, names an unknown template, or asks for one score too many.
        """
        while not is_end(command := self._channel.receive_document("command", IDLE_SECONDS)):
            operation, began = operation_of(command), time.monotonic()
            work_of(command, self.commands)()
            self._channel.send_document("cost", server_report(self._recorder.take()))
            if on_command:
                on_command(operation, True, time.monotonic() - began)
            if on_done:
                on_done()

    def _read_enrolment(self, command: Command) -> Callable[[], None]:
        name = command.take("template", text(_MAX_NAME))
        return lambda: self._enroll(name)

    def _read_verification(self, command: Command) -> Callable[[], None]:
        name = command.take("template", text(_MAX_NAME))
        return lambda: self._verify(name)

    def _enroll(self, name: str) -> None:
        if name in self._templates:
            raise ProtocolError("expected a new template's name, got an enrolled one")
        if len(self._templates) >= _MAX_TEMPLATES:
            raise ProtocolError(f"expected at most {_MAX_TEMPLATES} templates, got one more")
        self._templates[name] = self._extract()

    def _verify(self, name: str) -> None:
        if name not in self._templates:
            raise ProtocolError("expected the name of an enrolled template, got another name")
        if self._answers >= self.terms.max_answers:
            raise ProtocolError(f"expected at most {self.terms.max_answers} verifications, got one more")
        self._answers += 1
        embedding = self._extract()
        with self._recorder.recording(ONLINE, _DISTANCE):
            self._server.answer(self._channel, embedding, self._templates[name])

    def _extract(self) -> EncryptedEmbedding:
        names = [stage.name for stage in self._server.circuit.stages]

        def begin(name: str) -> None:
            self._report("online", name, names.index(name), len(names))
            self._recorder.stage(ONLINE, name)

        self._recorder.stage(ONLINE, _UPLOAD)
        embedding = self._server.extract(self._channel, begin)
        self._recorder.finish()
        return embedding

    def _report(self, phase: str, stage: str, index: int, total: int) -> None:
        if self._on_progress:
            self._on_progress(Progress(phase, stage, index, total))
