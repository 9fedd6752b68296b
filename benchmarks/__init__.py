"""One file for each promise: the figure and a named peer's from the same run."""
