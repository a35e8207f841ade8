"""The job document: YAML as people write it, its schema, the task bundle, and the canonical manifest that a lead signs."""
