"""How members decide together: the charter, proposals with signed votes, and how one roll follows another. No I/O, no clock."""
