"""Pictures that two endpoints make, one after the other."""
