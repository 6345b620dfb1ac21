"""What every rank does alike: join the others, work, and end with them, whatever happens.

A rank that fails says why on one line, tells its peers, who then say that they end too, and ends all ranks with exit
status 2: nothing is left waiting.
"""

from collections.abc import Callable, Sequence

from hybridface.errors import EXIT_ERROR
from parties.machine.tuning import tune_process
from parties.transport.mpi import World, abort_world, is_first_rank, join
from parties.transport.roles import Role
from protocols.errors import ParameterError, reason_for_peers
from protocols.link import NONE, Link

__all__ = ["run_joined"]


def run_joined(
    role: Role,
    work: Callable[[World], int],
    say_error: Callable[[Exception], None],
    *,
    required: Sequence[Role],
    timeout: float = 300.0,
    link: Link = NONE,
) -> int:
    """Join the other ranks as a role, work, and return the exit status: that of the work, or 2.

    Args:
        work: opens channels of the world, which are closed afterwards.
        say_error: tells this rank's user why it ends.
        required, timeout, link: as for `join`.
    """
    tune_process()
    try:
        world = join(role, timeout, link, required)
    except ParameterError as error:
        if is_first_rank():  # who speaks for all, since all are refused alike
            say_error(error)
        return EXIT_ERROR
    except Exception as error:  # of this rank alone, as when another does not answer
        try:
            say_error(error)
        finally:
            abort_world(EXIT_ERROR)
        return EXIT_ERROR
    try:
        status = work(world)
        world.close()
    except Exception as error:
        try:
            say_error(error)
        finally:  # also if nobody reads what it says
            world.fail(reason_for_peers(error), EXIT_ERROR)
        return EXIT_ERROR
    return status
