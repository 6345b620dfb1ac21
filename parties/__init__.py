"""The processes: client, server and dealer, the channels between them, and what a session costs.

`mpi` is not imported here: importing mpi4py starts MPI.
"""

from parties.client import ClientSession, MatchResult, Template
from parties.cost import CostReport, StageCost
from parties.progress import Progress
from parties.roles import Role
from parties.server import ServerSession
from parties.terms import Terms

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
