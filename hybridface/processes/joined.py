"""The frame of every rank: join the others, work, and end with them, whatever happens.

A rank that fails says why on one line and tells its peers, which then say that they end too. It ends all ranks with
exit status 2, so that nothing is left waiting.
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
"""How long ranks wait for each other after they were refused."""


def run_joined(
    role: Role,
    work: Callable[[World], int],
    say_error: Callable[[Exception], None],
    *,
    required: Sequence[Role],
    timeout: float = 300.0,
    link: Link = NONE,
) -> int:
    """Join the other ranks in a role, do the work, and return the exit status: that of the work, or 2.

    Args:
        work: the rank's work; the channels that it opens are closed afterwards.
        say_error: called to tell this rank's user why the rank ends.
        required, timeout, link: as for `join`.
    """
    tune_process()
    try:
        world = join(role, timeout, link, required)
    except ParameterError as error:
        if is_first_rank():  # it speaks for all, because all are refused for the same reason
            say_error(error)
        return _left(_LEAVING_SECONDS, say_error, EXIT_ERROR)
    except Exception as error:  # an error of this rank alone, such as another rank that does not answer
        return _ended(error, say_error)
    try:
        status = work(world)
        world.close()
    except Exception as error:
        try:
            say_error(error)
        finally:  # even if nobody reads the message
            world.fail(reason_for_peers(error), EXIT_ERROR)
        return EXIT_ERROR
    return _left(timeout, say_error, status)


def _left(timeout: float, say_error: Callable[[Exception], None], status: int) -> int:
    """Leave with the others, and return the exit status; end all ranks if one does not leave."""
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
