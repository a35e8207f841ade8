"""The public log as the coordinator keeps it: it signs heads, takes cosignatures, and answers with parts and proofs."""
