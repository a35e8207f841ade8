"""The public log: entries, the RFC 6962 tree over them, tiles, signed heads, proofs, and what a stranger checks. No I/O here."""
