"""Models in every runtime: a matrix of what each makes of them, and a search for the fastest setting."""
