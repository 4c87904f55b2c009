"""The command line."""

import gc

# Modules and the plan live until the end: scanning them again and again finds no garbage.
gc.set_threshold(250_000, 20, 20)
