"""RunPod's full descriptions are no part of this repository: what tests them is collected where they are named."""

from __future__ import annotations

from .descriptions import FOLDER

collect_ignore = [] if FOLDER else ["test_descriptions.py", "test_simulator_full.py"]
