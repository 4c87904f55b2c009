"""The journal of runs. This module loads nothing: it only says where a journal is by default."""

DEFAULT_STATE = "sqlite:///.backfill/state.db"
