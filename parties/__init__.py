"""The processes: client, server and dealer, the channels between them, and what a session costs.

`mpi` is not imported here: importing mpi4py starts MPI.
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
