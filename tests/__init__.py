"""The tests: unit, integration, chaos, contract, golden. Helpers stand in builders.py and servers.py."""
