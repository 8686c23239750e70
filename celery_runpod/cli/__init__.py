"""The command line. Start with ``main.py``; ``stack.py`` starts and stops the servers of demo, dev and the tests."""
