"""Pages over HTTP: read-only, and guarded."""
