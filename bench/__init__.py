"""Benchmarks against peers, side by side in one run on one machine.

    python -m bench                 all benchmarks
    python -m bench NAME            one of them; --help lists its sizes
    python -m bench NAME --quick    in under a minute
    python -m bench NAME --check    exit with 1 if a goal was missed

A benchmark is a module of this package, found by its file name; names that begin with an underscore
and ``report`` are none. It has

    def main(options: argparse.Namespace) -> list[Result]

and, if it has sizes to choose, ``def add_options(parser: argparse.ArgumentParser) -> None``.
``options.quick`` is always there: pick defaults by it. Results are built with
:func:`bench.report.compared`, :func:`bench.report.limited` and :func:`bench.report.unmeasured`;
the runner prints them and writes them with machine and versions to
``$MLOPS_STATE/bench/NAME.json`` (default ``.mlops`` in the repository root).

What a benchmark needs beyond the platform is in the ``bench`` extra. A peer that is not installed
is reported as not measured.
"""
