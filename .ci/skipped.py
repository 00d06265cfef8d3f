"""Which tests a pytest run skipped, by its JUnit report: printed with NULs between, for pytest.

With ``--refuse``: says them, and fails if there is any.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET


def skipped(report: str) -> list[tuple[str, str]]:
    """Each skipped test (``file::Class::name``, or the file of a module skipped whole), and why."""
    found = []
    for case in ET.parse(report).iter("testcase"):
        skip = case.find("skipped")
        if skip is None or skip.get("type") == "pytest.xfail":
            continue
        name, path = case.get("name", ""), case.get("file")
        if path is None or not case.get("classname"):
            node = path or name.replace(".", "/") + ".py"
        else:
            module = path.removesuffix(".py").replace("/", ".")
            classes = case.get("classname", "").removeprefix(module).strip(".")
            node = "::".join([path, *classes.split("."), name] if classes else [path, name])
        found.append((node, skip.get("message", "")))
    return found


def main() -> None:
    """Print what was skipped; ``--refuse`` ends with 1 if that is anything."""
    *options, report = sys.argv[1:]
    found = dict(skipped(report))
    if "--refuse" not in options:
        sys.stdout.write("".join(f"{node}\0" for node in found))
    elif found:
        sys.exit("still skipped:\n" + "\n".join(f"{node}: {why}" for node, why in found.items()))


if __name__ == "__main__":
    main()
