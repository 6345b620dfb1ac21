"""Benchmark identification: its cost for each size of a gallery, and how the cost grows.

Every kind and size gets new MPI ranks (see `identify_rank`), so the peak memory of one gallery does not include that of
another. The times do not include the probe's embedding, which costs as much as in a verification.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hybridface.errors import ModelError
from hybridface.faces.inputs import load_images
from hybridface.folders import temporary_folder
from hybridface.measure.cost.ranks import run_ranks
from hybridface.models import DEFAULT_MODEL
from hybridface.models.model import Model, load_model
from hybridface.photos import PHOTOS, photo_path
from parties.gallery.kind import GalleryKind
from parties.session.correlations import Correlations
from parties.transport.roles import SHARD_ROLES, Role

__all__ = ["bench_identify", "fit_growth", "identify_table"]

_ROLES = Role.CLIENT, Role.SERVER, Role.DEALER
_TIMEOUT_SECONDS = 3600.0
_GROWTHS: dict[str, Callable[[float], float]] = {"n": float, "log2 n": np.log2}
_FIGURES = {
    "online seconds": "n",
    "online MB, both ways": "n",
    "online rounds": "log2 n",
    "offline seconds": "n",
    "offline MB, all links": "n",
    "peak MiB, all processes": "n",
}
"""The figures that are fitted, and the function of the size n with which each is assumed to grow."""

_FAR_TEMPLATES, _FAR_RANKS = 100_000_000, 64
_LINK_GBIT = 10.0


def bench_identify(
    sizes: Sequence[int],
    kinds: Sequence[str],
    runs: int,
    on_size: Callable[[str, int, int], None] | None = None,
    model_name: str = DEFAULT_MODEL,
    shards: Sequence[int] = (1,),
    correlations: Correlations = Correlations.OT,
) -> dict[str, Any]:
    """Identify probes in galleries of the given sizes, and return a JSON object.

    Args:
        sizes: the numbers of templates.
        kinds: "private", "list", or both.
        runs: the number of identifications that count.
        on_size: called before each measurement with a kind, a size, and the number of measurements done.
        shards: the numbers of shards with which to search a private gallery.
        correlations: how the correlations are made.

    Raises:
        RunError: a rank failed.
    """
    model = load_model(model_name)
    real = _real_embeddings(model)
    result: dict[str, Any] = {"runs": runs, "model": model_name, "correlations": correlations.value, "kinds": {}}
    cuts = [(kind, count) for kind in kinds for count in (shards if kind == GalleryKind.PRIVATE else (1,))]
    for number, (kind, count) in enumerate(cuts):
        name = kind if count == 1 else f"{kind}, {count} shards"
        rows = {}
        for index, size in enumerate(sizes):
            if on_size:
                on_size(name, size, number * len(sizes) + index)
            rows[size] = _measure(GalleryKind(kind), size, runs, model.threshold, real, count, correlations)
        result["kinds"][name] = {"sizes": rows, "shards": count, **(_growth(rows) if count == 1 else {})}
    _predict(result["kinds"])
    return result


def _real_embeddings(model: Model) -> NDArray[np.float64]:
    """Return the embeddings of the project's photos in the clear, float64 (6, d), in the order of `PHOTOS`."""
    if model.module is None:
        raise ModelError(f"expected a model with weights, got {model.name} without")
    images = load_images(model, [photo_path(name) for name in PHOTOS])
    with torch.inference_mode():
        return np.asarray(model.module(torch.from_numpy(images)).numpy(), dtype=np.float64)


def _measure(
    kind: GalleryKind, size: int, runs: int, threshold: float, real: Any, shards: int, correlations: Correlations
) -> dict[str, Any]:
    with temporary_folder() as folder:
        np.save(folder / "real.npy", real)
        arguments = [kind.value, str(size), str(runs), str(threshold), str(folder), correlations.value]
        said: dict[str, Any] = {}
        roles = [role for role in (*_ROLES, *[*SHARD_ROLES] * (shards - 1)) if _takes_part(role, correlations)]
        for line in run_ranks(
            "hybridface.measure.cost.identify_rank", [[role, *arguments] for role in roles], _TIMEOUT_SECONDS
        ):
            said |= line
    client, server = said["client"], said["server"]
    online = client["online"]
    pairs = zip(client["offline"], server["offline"], strict=True)
    offline = [max(one["seconds"] for one in pair) for pair in pairs]
    last = client["offline"][-1], server["offline"][-1]
    row = {
        "online seconds": _spread([one["seconds"] for one in online]),
        "online processor seconds": {
            role.value: median(one["processor"] for one in said[role]["online"]) for role in _ROLES[:2]
        },
        "online MB up": online[-1]["sent"] / 1e6,
        "online MB down": online[-1]["received"] / 1e6,
        "online rounds": online[-1]["rounds"],
        "offline seconds": _spread(offline),
        "offline MB up": last[0]["sent"] / 1e6,
        "offline MB down": last[0]["received"] / 1e6,
        "offline MB from the dealer": last[1]["dealer"] / 1e6,
        "build seconds": max(client["build"]["seconds"], server["build"]["seconds"]),
        "build MB, both ways": (client["build"]["sent"] + client["build"]["received"]) / 1e6,
        "peak MiB": {role.value: said[role]["peak_bytes"] / 2**20 for role in _ROLES if role in said},
        "right": [client["right"], client["probes"]],
        "found": client["found"],
    }
    if kind is GalleryKind.PRIVATE:
        row["one more template, seconds"] = client["one_more"]["seconds"]
        row["client's shares from the key, seconds"] = client["share_seconds"]
        row["index MB, each party"] = client["index_bytes"] / 1e6
    else:
        row["sealed names, seconds"] = client["names"]["seconds"]
        row["sealed names, MB"] = client["names"]["received"] / 1e6
    return row


def _takes_part(role: Role, correlations: Correlations) -> bool:
    return correlations.needs_dealer or SHARD_ROLES.get(role, role) is not Role.DEALER


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def _fitted(row: dict[str, Any]) -> dict[str, float]:
    return {
        "online seconds": row["online seconds"]["median"],
        "online MB, both ways": row["online MB up"] + row["online MB down"],
        "online rounds": row["online rounds"],
        "offline seconds": row["offline seconds"]["median"],
        "offline MB, all links": row["offline MB up"] + row["offline MB down"] + row["offline MB from the dealer"],
        "peak MiB, all processes": sum(row["peak MiB"].values()),
    }


def _growth(rows: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Fit every figure, and extrapolate. Return an empty object if there is only one size."""
    if len(rows) < 2:
        return {}
    fit = fit_growth({size: _fitted(row) for size, row in rows.items()})
    return {"fit": fit, "extrapolation": _far(fit)}


def fit_growth(values: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    """Fit a + b n (for rounds a + b log2 n) to figures by size. Every size has the same relative weight."""
    sizes, fit = list(values), {}
    for name, growth in _FIGURES.items():
        measured = np.array([values[size][name] for size in sizes])
        terms = np.array([[1.0, _GROWTHS[growth](size)] for size in sizes])
        (a, b), *_ = np.linalg.lstsq(terms / measured[:, None], np.ones(len(sizes)), rcond=None)
        error = float(np.abs(terms @ [a, b] / measured - 1).max())
        fit[name] = {"a": float(a), "b": float(b), "of": growth, "largest relative error": error}
    return fit


def _predict(kinds: dict[str, Any]) -> None:
    """Add a prediction to each measurement with several shards, from the fit for one shard and this machine's cores."""
    fit = kinds.get(GalleryKind.PRIVATE.value, {}).get("fit")
    for measured in kinds.values():
        if fit and (shards := measured["shards"]) > 1:
            slower = max(1.0, 2 * shards / len(os.sched_getaffinity(0)))
            for size, row in measured["sizes"].items():
                row["predicted online seconds"] = slower * _at(fit, "online seconds", size / shards) + _at(
                    fit, "online seconds", shards
                )


def _at(fit: dict[str, Any], name: str, size: float) -> float:
    one = fit[name]
    return float(one["a"] + one["b"] * _GROWTHS[one["of"]](size))


def _far(fit: dict[str, Any]) -> dict[str, Any]:
    """Estimate the cost of 100 million templates on 64 ranks of each party.

    Each rank finds its nearest template. Then one rank finds the nearest of these winners.
    """
    share = _FAR_TEMPLATES / _FAR_RANKS
    winners = _at(fit, "online seconds", _FAR_RANKS)
    computing = _at(fit, "online seconds", share) + winners
    megabytes = _FAR_RANKS * _at(fit, "online MB, both ways", share)
    transfer = megabytes / 2 * 8e-3 / _LINK_GBIT
    offline = _FAR_RANKS * _at(fit, "offline MB, all links", share)
    limits = {
        "each rank's own work": computing,
        f"one link of {_LINK_GBIT:g} Gbit/s between the parties": transfer,
    }
    return {
        "templates": _FAR_TEMPLATES,
        "ranks": _FAR_RANKS,
        "online seconds, two cores a rank": computing,
        "of them among the winners": winners,
        "online MB, both ways": megabytes,
        f"online seconds of one link, {_LINK_GBIT:g} Gbit/s": transfer,
        "offline seconds, two cores a rank": _at(fit, "offline seconds", share),
        "offline MB, all links": offline,
        "peak MiB a rank, all processes": _at(fit, "peak MiB, all processes", share),
        "limit": max(limits, key=lambda name: limits[name]),
    }


def identify_table(document: dict[str, Any]) -> Group:
    """Return the result as tables with a column for each size, and the fit with its extrapolation."""
    parts: list[Any] = []
    for kind, measured in document["kinds"].items():
        sizes = measured["sizes"]
        made = "a dealer" if document["correlations"] == Correlations.DEALER else document["correlations"]
        title = f"{kind} gallery, {document['runs']} identifications, correlations: {made}"
        table = Table(title=title, box=None)
        table.add_column("figure")
        for size in sizes:
            table.add_column(f"{size:,}", justify="right")
        first = next(iter(sizes.values()))
        for name in first:
            table.add_row(name + _parts(first[name]), *(_cell(row[name]) for row in sizes.values()))
        parts.append(table)
        if "fit" in measured:
            lines = [
                f"{name} = {one['a']:.4g} + {one['b']:.4g} {one['of']}, to {one['largest relative error']:.0%}"
                for name, one in measured["fit"].items()
            ]
            far = measured["extrapolation"]
            lines += [
                "",
                f"estimate for {far['templates']:,} templates on {far['ranks']} ranks, limited by {far['limit']}:",
            ]
            lines += [f"{name}: {_cell(value)}" for name, value in list(far.items())[2:-1]]
            parts.append(Text("\n".join(lines) + "\n"))
    return Group(*parts)


def _parts(value: Any) -> str:
    """Return the names of the parts of a cell that has several numbers."""
    return ": " + ", ".join(value) if isinstance(value, dict) and "median" not in value else ""


def _cell(value: Any) -> str:
    if isinstance(value, dict) and "median" in value:
        return f"{value['median']:.3f} ({value['min']:.3f}-{value['max']:.3f})"
    if isinstance(value, dict):
        return ", ".join(f"{number:.3g}" if number < 100 else f"{number:.0f}" for number in value.values())
    if isinstance(value, list):
        return f"{value[0]} of {value[1]}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
