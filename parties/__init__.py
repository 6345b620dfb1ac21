"""Run the client, the server and the dealer: sessions and their cost, channels between processes, prepared runs.

This package does not import `transport.mpi`, since that loads MPI.
"""

from typing import TYPE_CHECKING

from protocols.lazy import hand_on

if TYPE_CHECKING:
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

__getattr__ = hand_on(
    __name__,
    {
        "parties.session.client": ["ClientSession", "MatchResult", "Template"],
        "parties.session.cost": ["CostReport", "StageCost"],
        "parties.session.progress": ["Progress"],
        "parties.session.server": ["ServerSession"],
        "parties.session.terms": ["Terms"],
        "parties.transport.roles": ["Role"],
    },
)
