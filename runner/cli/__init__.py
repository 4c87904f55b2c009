"""The command line."""

import gc

# What is loaded, and what a plan is made of, stays to the end: looking through it finds no garbage.
gc.set_threshold(50_000, 20, 20)
