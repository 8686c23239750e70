"""What is behind ``celery_runpod/files.py``: reading and uploading what a caller has, and reading
the files of outputs.
"""
