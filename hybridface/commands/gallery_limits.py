"""`hybridface limits`: a gallery's operator prints and sets how often clients may ask."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from hybridface.commands.gallery_options import GallerySettings
from hybridface.output.answers import shown
from hybridface.output.terminal import show
from protocols.errors import ParameterError

if TYPE_CHECKING:
    from parties.gallery.store.limits import QueryLimits
    from parties.gallery.store.rates import Rate

__all__ = ["limits"]

_SHOWN = 40
_DEFAULT = "default"
_FORM = "AT_ONCE/PER_HOUR, such as 10/2; or default."


def limits(
    settings: GallerySettings,
    client: Annotated[
        str, typer.Option("--client", help="The client, by its name in the log; all clients if left out.")
    ] = "",
    verify: Annotated[str, typer.Option("--verify", help=f"Verifications of one person: {_FORM}")] = "",
    identify: Annotated[str, typer.Option("--identify", help=f"Identifications: {_FORM}")] = "",
    guess: Annotated[str, typer.Option("--guess", help=f"Verifications of people who are not enrolled: {_FORM}")] = "",
) -> None:
    """Print how often clients may ask a gallery, and set it.

    New limits hold from the next query on, also in open sessions.

    With --client, the limits of that client: its own, or everybody's where it has none.

    Raise limits with care: they make it slow to rebuild a template from answers.
    """
    path = settings.existing_path
    wanted = {"verify": verify, "identify": identify, "guess": guess}
    rates = {question: _rate(text) for question, text in wanted.items() if text}
    from parties.gallery.store.limits import QueryLimits
    from parties.gallery.store.rates import Question

    with QueryLimits(path) as opened:
        for question, rate in rates.items():
            opened.set_rate(client, Question(question), rate)
        document = {"limits": _lines(opened, client)}
    show(document, _table, settings.as_json)


def _rate(text: str) -> "Rate | None":
    """Return the rate that a text gives; None for the default."""
    from parties.gallery.store.rates import Rate

    if text == _DEFAULT:
        return None
    at_once, _, per_hour = text.partition("/")
    try:
        numbers = float(at_once), float(per_hour)
    except ValueError as error:
        raise ParameterError(f"expected AT_ONCE/PER_HOUR, such as 10/2, or default, got {text[:_SHOWN]!r}") from error
    return Rate(*numbers)


def _lines(opened: "QueryLimits", only: str) -> list[dict[str, Any]]:
    """Return the limits of everybody and those of some clients; or, for one client, the limits that hold for it."""
    from parties.gallery.store.limits import DEFAULTS
    from parties.gallery.store.rates import ALL_CLIENTS

    found = opened.rates()
    everybody = {(ALL_CLIENTS, question): rate for question, rate in DEFAULTS.items()}
    rates = {**everybody, **found}
    if only:
        held = [(only if (only, question) in found else ALL_CLIENTS, question) for question in DEFAULTS]
        rates = {key: rates[key] for key in held}
    return [
        {
            "client": client or None,
            "question": question.value,
            "at_once": rate.capacity,
            "per_hour": rate.per_hour,
            "set": (client, question) in found,
        }
        for (client, question), rate in sorted(rates.items())
    ]


def _table(document: dict[str, Any]) -> Table:
    table = Table("client", "question", "at once", "per hour", "", box=None)
    for line in document["limits"]:
        client = "everybody" if line["client"] is None else shown(line["client"][:_SHOWN])
        origin = "" if line["set"] else "default"
        rate = f"{line['at_once']:g}", f"{line['per_hour']:g}"
        table.add_row(Text(client), line["question"], *rate, origin)
    return table
