#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Is FILE valid Prometheus text (exposition format 0.0.4)?  prometheus.py FILE.

Checks: each line's grammar, HELP and TYPE before the samples and once a family, samples of one family together,
no sample twice, counters neither negative nor NaN, a newline at the end.
"""
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(\{{(?:{LABEL}(?:,{LABEL})*,?)?\}})? ([0-9eE.+-]+|NaN|[+-]Inf)( -?[0-9]+)?")
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


def complaints(text):
    helped, types, finished, seen, family = set(), {}, set(), set(), None
    if not text.endswith("\n"):
        yield "the last line has no newline"
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if match := re.fullmatch(rf"# HELP ({NAME}) (.*)", line):
            if match[1] in helped:
                yield f"{number}: a second HELP of {match[1]}"
            helped.add(match[1])
        elif match := re.fullmatch(rf"# TYPE ({NAME}) (\w+)", line):
            if match[1] in types or match[1] in finished or match[1] == family:
                yield f"{number}: a second or late TYPE of {match[1]}"
            if match[2] not in TYPES:
                yield f"{number}: no type {match[2]}"
            types[match[1]] = match[2]
        elif line.startswith("#") or not line:
            continue
        elif match := SAMPLE.fullmatch(line):
            name, labels, value = match[1], match[2] or "", match[3]
            if name != family:
                if name in finished:
                    yield f"{number}: {name} is not all in one place"
                finished.add(family)
                family = name
            if (name, labels) in seen:
                yield f"{number}: {name}{labels} twice"
            seen.add((name, labels))
            if name not in types or name not in helped:
                yield f"{number}: {name} has no TYPE or no HELP"
            try:
                amount = float(value)
            except ValueError:
                yield f"{number}: {value} is no number"
                continue
            if types.get(name) == "counter" and not amount >= 0:
                yield f"{number}: counter {name} is {value}"
        else:
            yield f"{number}: not a sample: {line}"
    if not seen:
        yield "no sample"


found = list(complaints(open(sys.argv[1], encoding="utf-8").read()))
print("\n".join(found) or "valid")
sys.exit(1 if found else 0)
