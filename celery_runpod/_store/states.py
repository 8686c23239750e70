"""The states of a job and the moves between them: the one table, rendered into the scripts' Lua.

    WAITING ──> SUBMITTING ──> IN_QUEUE ──> IN_PROGRESS ──> COMPLETED | FAILED | CANCELLED | TIMED_OUT ──> DELIVERED
       ^            │ not sent                                  ENDED_HERE (our own verdict) ─────────────────^
       └────────────┘
    JOINED (waits for a job that it shares with other calls) ──> the same verdicts

Not here: what makes a job move (`tasks/submit.py`, `tasks/check.py`, `tasks/delivery.py`).
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    WAITING = "WAITING"
    JOINED = "JOINED"
    SUBMITTING = "SUBMITTING"
    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    ENDED_HERE = "ENDED_HERE"
    DELIVERED = "DELIVERED"


OUTCOMES = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.ENDED_HERE})
"""States with a verdict: nothing but delivery follows (or, for a failed attempt, the next one)."""

OPEN = tuple(state for state in State if state not in OUTCOMES | {State.DELIVERED})
"""States without a verdict, in the order of a job's life."""

AT_RUNPOD = frozenset({State.IN_QUEUE, State.IN_PROGRESS})

MOVES: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.SUBMITTING, State.CANCELLED, State.ENDED_HERE}),
    State.JOINED: OUTCOMES,
    State.SUBMITTING: frozenset({State.WAITING}) | AT_RUNPOD | OUTCOMES,
    State.IN_QUEUE: frozenset({State.IN_PROGRESS}) | OUTCOMES,
    State.IN_PROGRESS: OUTCOMES,
    State.COMPLETED: frozenset({State.DELIVERED}),
    State.FAILED: frozenset({State.DELIVERED, State.WAITING}),
    State.CANCELLED: frozenset({State.DELIVERED}),
    State.TIMED_OUT: frozenset({State.DELIVERED, State.WAITING}),
    State.ENDED_HERE: frozenset({State.DELIVERED}),
    State.DELIVERED: frozenset(),
}


def lua_prelude() -> str:
    """The table as Lua, put before every script: `may(from, to)`, `is_outcome(state)` and `at_runpod(state)`."""

    def table(states: frozenset[State]) -> str:
        return "{" + ", ".join(f"{state} = true" for state in sorted(states)) + "}"

    moves = ", ".join(f"{state} = {table(MOVES[state])}" for state in State)
    return (
        f"local MOVES = {{{moves}}}\n"
        f"local OUTCOMES = {table(OUTCOMES)}\n"
        f"local AT_RUNPOD = {table(AT_RUNPOD)}\n"
        "local function may(from, to) return MOVES[from] ~= nil and MOVES[from][to] == true end\n"
        "local function is_outcome(state) return OUTCOMES[state] == true end\n"
        "local function at_runpod(state) return AT_RUNPOD[state] == true end\n"
    )
