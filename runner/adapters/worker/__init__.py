"""Runs as functions of Inngest: the SDK's part, and the application that serves it."""
