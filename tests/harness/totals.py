# SPDX-License-Identifier: Apache-2.0
"""totals.py RESULTS_DIRECTORY SKIPS_FILE: adds up what the tests left there (JUnit files of ctest
and pytest, checks.tsv of checks.sh), names each failure and skip, and prints the last line
"N passed, N failed, N skipped". With CI=true a skip that the file does not list ("<test>: reason")
is a failure. Exit 1 when one failed, or when nothing ran."""
import os
import pathlib
import sys
import xml.etree.ElementTree as xml


def first_line(text):
    return (text.strip().splitlines() or ["failed"])[0][:200]


def said_wrong(case):
    """ctest gives the output alone: the line in it that complains."""
    output = (case.findtext("system-out") or "").splitlines()
    return next((line for line in output
                 if any(word in line for word in ("ERROR", "error:", "rror at", "claim"))), "")


def read_junit(path):
    """(name, verdict, sentence) of each test"""
    for case in xml.parse(path).iter("testcase"):
        name = case.get("name")
        where = case.get("classname") or ""
        if where and where != name:
            name = f"{where}.{name}"
        bad = next((e for e in case if e.tag in ("failure", "error")), None)
        skip = case.find("skipped")
        if bad is not None:
            yield name, "fail", first_line(bad.get("message") or bad.text or said_wrong(case))
        elif skip is not None or case.get("status") in ("notrun", "disabled"):
            reason = skip.get("message") if skip is not None else None
            # What ctest could not start is no skip: its executable is missing.
            if case.get("status") == "notrun" and reason != "SKIP_REGULAR_EXPRESSION_MATCHED":
                yield name, "fail", reason or "not run"
            else:
                yield name, "skip", reason or ""
        else:
            yield name, "pass", ""


def read_checks(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        verdict, name, sentence = line.split("\t", 2)
        yield name, verdict, sentence


def read_skips(path):
    listed = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                name, _, reason = line.partition(": ")
                listed[name.strip()] = reason.strip()
    return listed


def main(directory, skips_file):
    listed = read_skips(pathlib.Path(skips_file))
    outcomes = []
    for path in sorted(pathlib.Path(directory).glob("*.xml")):
        try:
            outcomes += list(read_junit(path))
        except xml.ParseError as err:
            outcomes.append((path.name, "fail", f"cannot be read: {err}"))
    checks = pathlib.Path(directory) / "checks.tsv"
    if checks.exists():
        outcomes += list(read_checks(checks))
    totals = {"pass": 0, "fail": 0, "skip": 0}
    lines = []
    for name, verdict, sentence in outcomes:
        if verdict == "skip" and os.environ.get("CI") == "true" and not listed.get(name):
            verdict, sentence = "fail", f"skipped, and not in {skips_file}: {sentence}"
        totals[verdict] += 1
        if verdict != "pass":
            lines.append(f"{'FAILED ' if verdict == 'fail' else 'skipped'} {name}: {sentence}")
    if not outcomes:
        lines.append("FAILED nothing was run")
        totals["fail"] += 1
    print("\n" + "\n".join(lines + [f"{totals['pass']} passed, {totals['fail']} failed, "
                                    f"{totals['skip']} skipped"]))
    return 1 if totals["fail"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
