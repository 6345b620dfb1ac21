"""What every rank does alike: join the others, work, and end with them, whatever happens.

A rank that fails says why on one line, tells its peers, who then say that they end too, and ends all ranks with exit
status 2: nothing is left waiting.
"""

from collections.abc import Callable, Sequence

from hybridface.errors import EXIT_ERROR
from parties.machine.tuning import tune_process
from parties.transport.mpi import World, is_first_rank, join, leave
from parties.transport.mpi_library import abort_world
from parties.transport.roles import Role
from protocols.errors import ParameterError, reason_for_peers
from protocols.link import NONE, Link

__all__ = ["run_joined"]

_LEAVING_SECONDS = 10.0
"""How long ranks that were refused wait for each other."""


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
        return _left(_LEAVING_SECONDS, say_error, EXIT_ERROR)
    except Exception as error:  # of this rank alone, as when another does not answer
        return _ended(error, say_error)
    try:
        status = work(world)
        world.close()
    except Exception as error:
        try:
            say_error(error)
        finally:  # also if nobody reads what it says
            world.fail(reason_for_peers(error), EXIT_ERROR)
        return EXIT_ERROR
    return _left(timeout, say_error, status)


def _left(timeout: float, say_error: Callable[[Exception], None], status: int) -> int:
    """Leave with the others, and return the exit status; end all if one does not leave."""
    try:
        leave(timeout)
    except Exception as error:
        return _ended(error, say_error)
    return status


def _ended(error: Exception, say_error: Callable[[Exception], None]) -> int:
    """End all ranks, and return the exit status of an error."""
    try:
        say_error(error)
    finally:
        abort_world(EXIT_ERROR)
    return EXIT_ERROR
