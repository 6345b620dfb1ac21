"""A server's rank that does not play along, as a script: its argument says when it goes wrong."""

import os
import signal
import sys
import time

__all__ = ["main"]

FOREVER = 1000.0


def main(attack: str) -> None:
    """Play along up to a point."""
    if attack == "never starts MPI":
        time.sleep(FOREVER)
    from hybridface.models.model import load_model
    from hybridface.models.terms import hybrid_terms
    from parties.session.server import ServerSession
    from parties.transport.mpi import join
    from parties.transport.mpi_library import MPI, start_mpi
    from parties.transport.roles import Role

    model = load_model("tiny-test")
    start_mpi(60.0)
    if attack == "never joins":
        time.sleep(FOREVER)
    if attack == "exits without a word":
        os._exit(0)
    world = join(Role.SERVER, 60.0, required=(Role.CLIENT, Role.SERVER))
    if attack == "stops in the session":
        os.kill(os.getpid(), signal.SIGSTOP)
    ServerSession(world.channel(Role.CLIENT), None, hybrid_terms(model), model.weights).serve()
    if attack == "does not leave":
        time.sleep(FOREVER)
    MPI.COMM_WORLD.Ibarrier().Wait()
    if attack == "does not end MPI":
        time.sleep(FOREVER)


if __name__ == "__main__":
    main(sys.argv[1])
