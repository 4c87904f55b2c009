"""The use cases, as functions over a `Session`; the command line and Python programs call them."""
