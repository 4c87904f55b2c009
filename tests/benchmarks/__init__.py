"""Benchmarks: time, memory and growth, each against something measured beside it.

From the repository's root, with the extra `dev` installed::

    python -m tests.benchmarks                     # all of them, one table
    python -m tests.benchmarks --only send         # one of them; may be repeated
    python -m tests.benchmarks --quick             # small sizes: does it work? no goal is judged
    python -m tests.benchmarks --json FILE         # the figures, every single measurement, too
    python -m tests.benchmarks --compare tests/benchmarks/figures.json   # what has become worse?
    python -m tests.benchmarks --growth FILE.svg   # a picture from a thousand to a million events

Each figure is a ratio, ours to theirs. Theirs is a *limit*, the least that the work costs (reading
the YAML, posting bytes that are ready), or a *peer*, another way to get the same done. Both are
measured in the same run, in turn (A B C C B A ...), as whole processes if a process is what a user
runs; the ratio is the median over the rounds. They are figures to look at, not tests: pytest
collects nothing here.
"""
