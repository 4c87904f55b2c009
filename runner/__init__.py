"""Declarative backfill plans for Inngest."""

__version__ = "0.1.0"
