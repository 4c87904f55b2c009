"""Benchmarks: the figures that issue 2 names, each against a yardstick measured beside it.

From the repository's root, with the package installed::

    python -m tests.benchmarks                     # all of them, one table
    python -m tests.benchmarks --only start        # one of start, plan-inline, plan-csv, send
    python -m tests.benchmarks --json figures.json

Each figure is a ratio of two things measured in the same run, in turn (A B A B ...), and the
median over the pairs. They are figures to look at, no tests: pytest collects nothing here.
"""
