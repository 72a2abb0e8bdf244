"""Runs the groups of checks; `main.py [--strict] [NAME…]`."""
import importlib
import pathlib
import re
import sys

from kit import Lab, Results, Skip


def groups(kind):
    """The groups of every module here that has some; those called EXTRA run only when they are named."""
    found = {}
    for file in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        if re.search(rf"^{kind} = ", file.read_text(), re.M) and file.name != "main.py":
            for name, group in getattr(importlib.import_module(file.stem), kind).items():
                assert name not in found, f"two groups are called {name}"
                found[name] = group
    return found


GROUPS = groups("GROUPS")
EXTRA = groups("EXTRA")


def run(name, lab, results):
    group = {**GROUPS, **EXTRA}[name]
    print(f"# {name}: {group.__doc__}", flush=True)
    try:
        group(lab, results)
    except Skip as why:
        results.skip(name, why)
    except Exception as cause:  # a group that breaks is a failure, and the others still run
        results.check(f"{name} ran to its end", False, repr(cause))


def twice(name, lab, results):
    """A group that fails is run once more with everything started anew, since a busy machine is no fault of ours; it is told."""
    first = Results()
    run(name, lab, first)
    if not first.failed:
        return results.add(first)
    print(f"# {name}: once more, everything started anew", flush=True)
    fresh, second = Lab(), Results()
    try:
        run(name, fresh, second)
    finally:
        fresh.stop()
    if not second.failed:
        results.unsteady.append(f"{name} ({', '.join(first.failed)})")
    results.add(second)


def main():
    arguments = sys.argv[1:]
    strict = "--strict" in arguments
    wanted = [a for a in arguments if not a.startswith("-")]
    unknown = set(wanted) - set(GROUPS) - set(EXTRA)
    if unknown:
        sys.exit(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join([*GROUPS, *EXTRA])}")
    results = Results()
    lab = Lab()
    try:
        for name in wanted or GROUPS:
            twice(name, lab, results)
    finally:
        lab.stop()
    for name in results.unsteady:
        print(f"# only at the second attempt: {name}")
    print(f"{results.passed} passed, {len(results.failed)} failed, {len(results.skipped)} skipped")
    return 1 if results.failed or (strict and results.skipped) else 0


if __name__ == "__main__":
    sys.exit(main())
