"""The processes: client, server and dealer, the channels between them, and what a session costs.

`mpi` is not imported here: importing mpi4py starts MPI.
"""

from parties.session.client import ClientSession, MatchResult, Template
from parties.session.cost import CostReport, StageCost
from parties.session.progress import Progress
from parties.session.server import ServerSession
from parties.session.terms import Terms
from parties.transport.roles import Role

__all__ = [
    "ClientSession",
    "CostReport",
    "MatchResult",
    "Progress",
    "Role",
    "ServerSession",
    "StageCost",
    "Template",
    "Terms",
]
