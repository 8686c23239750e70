"""Workers killed, Redis restarted, answers lost: afterwards every task id has an end, and nothing was submitted twice."""
