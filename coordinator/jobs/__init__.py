"""Jobs: submission, consent, placement, lifecycle."""
