"""Runs the groups of checks; `main.py [--strict] [NAME…]`."""
import sys

import bodies
import checks
import connections
import identity
import ways_in
from kit import Lab, Results, Skip

GROUPS = {**checks.GROUPS, **identity.GROUPS, **bodies.GROUPS, **connections.GROUPS, **ways_in.GROUPS}


def run(name, lab, results):
    group = GROUPS[name]
    print(f"# {name}: {group.__doc__}", flush=True)
    try:
        group(lab, results)
    except Skip as why:
        results.skip(name, why)
    except Exception as cause:  # a group that breaks is a failure, and the others still run
        results.check(f"{name} ran to its end", False, repr(cause))


def main():
    arguments = sys.argv[1:]
    strict = "--strict" in arguments
    wanted = [a for a in arguments if not a.startswith("-")]
    unknown = set(wanted) - set(GROUPS)
    if unknown:
        sys.exit(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    results = Results()
    lab = Lab()
    try:
        for name in wanted or GROUPS:
            run(name, lab, results)
    finally:
        lab.stop()
    print(f"{results.passed} passed, {len(results.failed)} failed, {len(results.skipped)} skipped")
    return 1 if results.failed or (strict and results.skipped) else 0


if __name__ == "__main__":
    sys.exit(main())
