"""Records and messages of every format that a release has written: this version runs them to their end."""
