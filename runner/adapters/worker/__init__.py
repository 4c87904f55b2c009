"""Runs as Inngest functions: the SDK's part, and the application that serves it."""
