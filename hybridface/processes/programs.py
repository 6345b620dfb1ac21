"""The command lines of a run's ranks: the arguments of `hybridface party` for each role."""

from pathlib import Path

from hybridface.faces.options import PhotoOptions
from hybridface.processes.runs import GalleryRun, HybridRun, PreparationRun, PureHeRun, Run, SharedRun
from parties.transport.roles import Role

__all__ = ["Program", "programs_of"]

Program = list[str]
"""The arguments of one rank's `hybridface party`, its role first."""


def programs_of(run: Run) -> list[Program]:
    """Return the arguments of every rank, in the order of the ranks."""
    match run:
        case HybridRun():
            return _with_dealer(run, _hybrid_client(run), _server(run), [_worker(run)] * run.workers)
        case PreparationRun():
            keep = ["--keep", str(run.count), "--keep-for", run.purpose.value]
            return _with_dealer(run, [*_client(run), *keep], _server(run), [])
        case GalleryRun():
            return _gallery(run)
        case PureHeRun():
            return _pure_he(run)
    raise TypeError(f"expected a known run, got {type(run).__name__}")


def _everybody(run: Run) -> list[str]:
    """Return the arguments that every rank gets."""
    told = ["--events", "--timeout", str(run.timeout), "--link", run.link.name, "--mode", run.mode.value]
    return [*told, "--correlations", run.correlations.value] if isinstance(run, SharedRun) else told


def _both(run: Run) -> list[str]:
    """Return the arguments that both client and server get."""
    weights = ["--weights", str(run.weights)] if run.weights else []
    reveal = ["--reveal", run.reveal.value] if isinstance(run, SharedRun) else []
    threshold = [] if run.threshold is None else ["--threshold", str(run.threshold)]
    return [*_everybody(run), "--model", run.model, *weights, *reveal, *threshold]


def _client(run: SharedRun) -> Program:
    return ["client", *_both(run), *_prepared(run, "client")]


def _server(run: SharedRun) -> Program:
    return ["server", *_both(run), *_cache(run), *_prepared(run, "server")]


def _worker(run: SharedRun) -> Program:
    return ["worker", *_both(run), *_cache(run)]


def _cache(run: SharedRun) -> list[str]:
    return ["--cache", "none" if run.cache is None else str(run.cache)]


def _prepared(run: SharedRun, side: str) -> list[str]:
    """Return the option for one side's own part of the folder of prepared runs."""
    return ["--prepared", str(run.prepared / side)] if run.prepared else []


def _with_dealer(run: SharedRun, client: Program, server: Program, others: list[Program]) -> list[Program]:
    dealer = [[Role.DEALER.value, *_everybody(run)]] if run.correlations.needs_dealer else []
    return [client, server, *dealer, *others]


def _hybrid_client(run: HybridRun) -> Program:
    counts = ["--repeat", str(run.repeat), "--batch", str(run.batch), "--pool", str(run.pool)]
    flags = [*_photographs(run.aligned, run.reading), *_flag("--enrolled", run.enrolled)]
    return [*_client(run), *counts, "--pause", str(run.pause), *flags, *_photos(run.photos)]


def _gallery(run: GalleryRun) -> list[Program]:
    tasks, key, gallery = _path("--tasks", run.tasks), _path("--key", run.key), _path("--gallery", run.gallery)
    limits = ["--client-name", run.client_name, *_flag("--no-limits", not run.limits)]
    shard = [
        [Role.CLIENT_SHARD.value, *_everybody(run), *key],
        [Role.SERVER_SHARD.value, *_everybody(run), *gallery],
        *([[Role.DEALER_SHARD.value, *_everybody(run)]] if run.correlations.needs_dealer else []),
    ]
    client = [*_client(run), *_photographs(run.aligned, run.reading), *tasks, *key]
    return _with_dealer(run, client, [*_server(run), *gallery, *limits], shard * (run.shards - 1))


def _pure_he(run: PureHeRun) -> list[Program]:
    told = [*_both(run), "--max-answers", str(run.max_answers)]
    repeat = ["--repeat", str(run.repeat), "--pause", str(run.pause)]
    return [
        ["client", *told, *repeat, *_photographs(run.aligned, run.reading), *_photos(run.photos)],
        ["server", *told],
    ]


def _photographs(aligned: bool, reading: PhotoOptions) -> list[str]:
    """Return the options that say how to read the client's photos."""
    damaged = _flag("--accept-damaged", reading.accept_damaged)
    return ["--aligned"] if aligned else ["--face", str(reading.face), *damaged]


def _photos(photos: tuple[Path, ...]) -> list[str]:
    return ["--", *(str(photo) for photo in photos)]


def _flag(name: str, given: bool) -> list[str]:
    return [name] if given else []


def _path(name: str, path: Path | None) -> list[str]:
    return [name, str(path)] if path else []
