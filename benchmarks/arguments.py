"""Types of command-line options that several benchmarks share."""

import argparse


def positive(text: str) -> int:
    """A whole number of 1 or more, for `argparse`."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of 1 or more")
    return value
