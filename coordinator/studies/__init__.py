"""Studies: the questions that leads ask once for many runs."""
