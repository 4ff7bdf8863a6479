"""Generated connections to the socket: nothing brings the server down, and nothing it says is misread.

A short look; `python -m benchmarks fuzz` sends 100,000 messages.
"""

import asyncio

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.messages import sessions
from tests.fuzz.socket import run

SHORT = settings(
    max_examples=25,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def test_generated_connections(agent):
    logged = len(agent.output)

    @SHORT
    @given(sessions(5, 40))
    def connect(session):
        asyncio.run(run(agent.port, session))

    connect()
    assert not [line for line in agent.output[logged:] if "Traceback" in line or " ERROR " in line]
