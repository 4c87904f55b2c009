"""The journal of runs. This module imports nothing: it only names the default location."""

DEFAULT_STATE = "sqlite:///.backfill/state.db"
