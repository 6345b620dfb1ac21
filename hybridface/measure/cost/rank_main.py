"""Run a rank of a benchmark: join the other ranks, do the work, and write the result as one line of JSON."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hybridface.errors import EXIT_SAME, told
from hybridface.processes.joined import run_joined
from hybridface.processes.memory import peak_bytes
from parties.transport.mpi import World
from parties.transport.roles import Role
from protocols.link import NONE, Link

__all__ = ["rank_main"]

Said = dict[str, Any]


def rank_main(
    role: Role,
    work: Callable[[World], Said],
    required: Sequence[Role],
    timeout: float = 600.0,
    link: Link = NONE,
) -> int:
    """Run one rank of a benchmark, and return its exit status.

    The rank writes {ROLE: the result of `work`, with "peak_bytes" of this process} to standard output. If it fails, it
    writes the reason as the last line on standard error, and ends the other ranks.

    Args:
        role: this rank's role.
        work: does this rank's part over the channels of the world.
        required, timeout, link: see `join`.
    """

    def worked(world: World) -> int:
        said = {**work(world), "peak_bytes": peak_bytes()}
        sys.stdout.write(json.dumps({role.value: said}) + "\n")
        sys.stdout.flush()
        return EXIT_SAME

    def say_error(error: Exception) -> None:
        sys.stderr.write(f"{role}: {told(error)}\n")
        sys.stderr.flush()

    return run_joined(role, worked, say_error, required=required, timeout=timeout, link=link)
