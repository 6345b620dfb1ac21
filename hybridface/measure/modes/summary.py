"""Write the report's summary: sentences and a table, made from the figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from hybridface.measure.modes.accuracy import accuracy_of
from hybridface.measure.modes.quantities import bytes_text, seconds_text
from hybridface.measure.modes.ways import DLIB, PATCHNET, ReportMode
from parties.session.cost import OFFLINE, ONLINE

__all__ = ["headline", "summary_link", "summary_rows"]

_PREFERRED = "wan"
Row = Mapping[str, Any]


def summary_link(document: Mapping[str, Any]) -> str:
    """Return the link that the summary is about: `wan` if it was measured, else the first link."""
    names = [link["name"] for link in document["links"]]
    return _PREFERRED if _PREFERRED in names else str(names[0])


def summary_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row of texts for every way."""
    rows = []
    for row in _measured(document, summary_link(document), failed=True):
        found = accuracy_of(row["mode"], row["model"], document["accuracy"])
        figures = row["figures"]
        cells = {
            "mode": row["mode"],
            "model": row["model"],
            "computed": row["status"] == "computed",
            "reason": row["reason"],
            "opens": document["privacy"][row["mode"]]["opens"],
            "accuracy": f"{found[0]['accuracy']:.1%}" if found else None,
        }
        if figures:
            cells |= {
                "online": seconds_text(_seconds(row, ONLINE)),
                "offline": seconds_text(_seconds(row, OFFLINE)) if _seconds(row, OFFLINE) else None,
                "bytes": bytes_text(_bytes(row)),
                "rounds": f"{figures[ONLINE]['rounds']['median']:g}",
            }
        rows.append(cells)
    return rows


def headline(document: Mapping[str, Any]) -> list[str]:
    """Return some sentences about the summary's link. Leave out ways that failed."""
    link = summary_link(document)
    rows = {(row["mode"], row["model"]): row for row in _measured(document, link)}
    where = "between processes of one machine" if link == "none" else f"over the simulated link “{link}”"
    makers = (_about_hybrid, _about_pure_he, _about_pure_mpc, _about_features_only)
    sentences = [sentence for make in makers if (sentence := make(rows))]
    if not sentences:
        return ["No private mode was measured."]
    return [f"Times run from the photo to the answer, {where}.", *sentences]


def _about_hybrid(rows: Mapping[tuple[str, str], Row]) -> str | None:
    exact, small = (rows.get((ReportMode.HYBRID, model)) for model in (DLIB, PATCHNET))
    if exact is None:
        return None
    also = f". With patchnet, it answers in {seconds_text(_seconds(small, ONLINE))}" if small else ""
    before = seconds_text(_seconds(exact, OFFLINE))
    return (
        f"Hybrid mode answers with the exact network in {seconds_text(_seconds(exact, ONLINE))}, after {before} of "
        f"work before the photo arrives{also}. It opens one bit and no score."
    )


def _about_pure_he(rows: Mapping[tuple[str, str], Row]) -> str | None:
    row, same = (rows.get((mode, PATCHNET)) for mode in (ReportMode.PURE_HE, ReportMode.HYBRID))
    if row is None:
        return None
    beside = f". With the same network, hybrid mode takes {seconds_text(_seconds(same, ONLINE))}" if same else ""
    return (
        f"Pure HE answers in {seconds_text(_seconds(row, ONLINE))} and {row['figures'][ONLINE]['rounds']['median']:g} "
        f"rounds, without work beforehand. It runs only patchnet, and the client sees a score{beside}."
    )


def _about_pure_mpc(rows: Mapping[tuple[str, str], Row]) -> str | None:
    row = rows.get((ReportMode.PURE_MPC, DLIB))
    if row is None:
        return None
    how = "would take at least" if row["status"] == "computed" else "takes"
    cost = f"{seconds_text(_seconds(row, ONLINE))} and {bytes_text(_bytes(row))}"
    return f"Pure MPC {how} {cost} with the exact network. As measured, one of its processes can open everything."


def _about_features_only(rows: Mapping[tuple[str, str], Row]) -> str | None:
    row = rows.get((ReportMode.FEATURES_ONLY, DLIB))
    if row is None:
        return None
    return (
        f"Features-only HE answers in {seconds_text(_seconds(row, ONLINE))}, because it gives the whole network to the "
        "client and encrypts only the matching. It is no option if the network is secret."
    )


def _measured(document: Mapping[str, Any], link: str, failed: bool = False) -> Sequence[Row]:
    rows = [row for row in document["measurements"] if row["link"] == link]
    return [row for row in rows if failed or row["figures"]]


def _seconds(row: Row, phase: str) -> float:
    return float(row["figures"][phase]["seconds"]["median"])


def _bytes(row: Row) -> float:
    keys = ("bytes_up", "bytes_down", "dealer_bytes")
    return float(sum(row["figures"][phase][key]["median"] for phase in (ONLINE, OFFLINE) for key in keys))
