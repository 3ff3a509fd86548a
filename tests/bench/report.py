#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""report.py LINES OUTDIR [quick]: the lines of one run (see bench.h) as results.md and results.svg.

Every number comes from LINES.  Targets are those of the specification; NOTES say what bounds a miss or bends a
curve, and are printed only where the measurement shows one.
"""
import math
import os
import platform
import subprocess
import sys

OURS, HOST = "cxlshm", "cxlshm host"

# case: list of (kind, argument, limit): "peer" a ratio to a variant, "same" the same as a variant, "max" in the row's
# unit, "case" a ratio to another case of ours.  One point of a curve: (case, x).
TARGETS = {
    "alloc+release 64 B, 1 live": [("peer", "mimalloc", 1.0)],
    "alloc+release 64 B, 1000 live": [("peer", "mimalloc", 1.0)],
    "alloc+release 64 B, 100000 live": [("peer", "mimalloc", 1.0)],
    "alloc+release 64 B, worst number live": [("case", ("alloc+release 64 B, 1 live", 0), 3.0)],
    "alloc here, release there, 64 B": [("case", ("alloc+release 64 B, 1000 live", 0), 2.0)],
    "memory of a 64 B object": [("max", None, 96)],
    "local copy": [("max", None, 2)],
    "local copy, static library": [("max", None, 2)],
    "attach+detach exposed": [("max", None, 18), ("peer", "shared_ptr", 2.0)],
    "attach+detach exposed, contended": [("max", None, 80), ("peer", "shared_ptr", 2.0)],
    "cell load+drop": [("max", None, 40)],
    "queue hand-over, two processes": [("max", None, 100)],
    "call, 64 B argument": [("max", None, 500)],
    "call, 64 KiB argument": [("peer", "Unix socket", 1.0)],
    ("SIGKILL to last reference gone, daemon, references", 1000): [("max", None, 20000)],
    "start-up, 64 GiB sparse pool": [("max", None, 1000)],
    "mapped load, random": [("same", "tmpfs", 1.0)],
    "mapped store, random": [("same", "tmpfs", 1.0)],
    "mapped exchange, random": [("same", "tmpfs", 1.0)],
    "mapped load, bandwidth": [("same", "tmpfs", 1.0)],
    "mapped store, bandwidth": [("same", "tmpfs", 1.0)],
    "first touch of a page": [("same", "tmpfs", 1.0)],
    "mmap+touch+munmap": [("same", "tmpfs", 1.0)],
    "read 4 KiB": [("peer", "tmpfs", 1.4)],
    "write 4 KiB": [("peer", "tmpfs", 1.4)],
    "read 1 MiB": [("peer", "tmpfs", 0.98)],
    "write 1 MiB": [("peer", "tmpfs", 0.98)],
    "open+close": [("peer", "fuse_min", 1.1)],
    "stat": [("peer", "fuse_min", 1.1)],
    "create+close+unlink": [("peer", "fuse_min", 1.1)],
    "mkdir+rmdir": [("peer", "fuse_min", 1.1)],
    "rename there and back": [("peer", "fuse_min", 1.1)],
}
CURVE_TARGETS = {
    "recovery, a reference, references": [("max", None, 50)],
    "create+unlink, names": [("max", None, 1000)],
}
# The largest x against another one.  (In smaller pools than that segments are smaller, too.)
LAST_TARGETS = {"lookup+drop, names": (2.0, 100), "recovery, 1000 references, MiB of pool": (1.5, 256)}

# Compared with another variant than the first one, though there is no target.
COMPARED = {"create+close": "fuse_min", "unlink": "fuse_min", "open+close, any processor": "fuse_min"}

# Lines written back an operation: the row with its time.
WRITTEN_BACK = {
    "alloc+release 64 B": "alloc+release 64 B, 1 live",
    "attach+detach exposed": "attach+detach exposed",
    "cell load+drop": "cell load+drop",
    "cell swap": "cell swap",
    "queue send+receive": "queue send+receive, one client",
}

# What bounds a miss, or bends a curve: printed with what was measured.  REMARKS (a + before the case): printed always.
NOTES, REMARKS = {}, {}
notes_file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "notes.txt")
if os.path.exists(notes_file):
    for line in open(notes_file):
        if "\t" in line and not line.startswith("#"):
            case, text = line.rstrip("\n").split("\t", 1)
            (REMARKS if case.startswith("+") else NOTES)[case.lstrip("+")] = text

GROUPS = {"alloc": "Allocation", "ref": "References", "queue": "Hand-over", "names": "Names",
          "recover": "Clients and recovery", "files": "Files", "tree": "Programs", "fio": "fio",
          "grow": "How cost grows"}


def higher_is_better(unit):
    return unit == "GB/s"


def number(v):
    if v >= 10000:
        return f"{v:,.0f}".replace(",", " ")
    return f"{v:.0f}" if v >= 1000 else f"{v:.1f}" if v >= 100 else f"{v:.2f}"


def spread(r):
    median, q1, q3, n = r
    return number(median) if n < 3 else f"{number(median)} ({number(q1)}–{number(q3)})"


def label(case, x):
    if not x:
        return case
    head, _, dimension = case.rpartition(", ")
    return f"{head}, {x:,.0f} {dimension}".replace(",", " ").replace("  ", ", ")


def read(path):
    rows, skips = {}, []
    for line in open(path, errors="replace"):
        f = line.rstrip("\n").split("\t")
        if f[0] == "R" and len(f) == 10:
            row = rows.setdefault((f[1], f[2], float(f[3])), {"unit": f[5], "values": {}})
            row["values"][f[4]] = (float(f[6]), float(f[7]), float(f[8]), int(f[9]))
        elif f[0] == "S" and len(f) == 6:
            skips.append(f[1:])
    return rows, skips


MET, WITHIN, MISSED = "✓", "≈", "✗"


def verdict(got, limit, up):
    return MET if (got >= limit if up else got <= limit) else MISSED


def judge_same(ours, other, up):
    """No worse, or not to be told apart: the ranges between the quartiles overlap."""
    if ours[0] >= other[0] if up else ours[0] <= other[0]:
        return MET
    return WITHIN if ours[3] > 2 and ours[1] <= other[2] and other[1] <= ours[2] else MISSED


def judge(rows, key, row):
    """[(text of the target, MET, WITHIN or MISSED, by how much as a factor)]"""
    case, x = key[1], key[2]
    ours = row["values"].get(OURS)
    if not ours:
        return []
    result = []
    for kind, argument, limit in TARGETS.get((case, x), TARGETS.get(case, CURVE_TARGETS.get(case, []) if x else [])):
        up = higher_is_better(row["unit"])
        if kind == "max":
            got, text = ours[0] / limit, f"≤ {limit} {row['unit']}"
            result.append((text, verdict(got, 1, False), got))
            continue
        if kind in ("peer", "same"):
            other = row["values"].get(argument)
        else:
            found = [r for k, r in rows.items() if k[1:] == argument]
            other = found[0]["values"].get(OURS) if found else None
        if not other:
            continue
        got = ours[0] / other[0]
        factor = limit / got if up else got / limit
        if kind == "same":
            result.append((f"1.00 × {argument}", judge_same(ours, other, up), factor))
            continue
        name = label(*argument) if kind == "case" else argument
        result.append((f"{'≥' if up else '≤'} {limit} × {name}", verdict(got, limit, up), factor))
    if case in LAST_TARGETS:
        limit, start = LAST_TARGETS[case]
        first = rows.get((key[0], case, start), {"values": {}})["values"].get(OURS)
        if first and x > start and x == max(k[2] for k in rows if k[:2] == key[:2]):
            got = ours[0] / first[0]
            result.append((f"≤ {limit} × at {start}", verdict(got, limit, False), got / limit))
    return result


def compared(case, row):
    """Variants that ours is to be compared with."""
    wanted = [a for k, a, _ in TARGETS.get(case, []) if k in ("peer", "same")] or [COMPARED.get(case)]
    return [a for a in wanted if a in row["values"]]


def first_line(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
        return out.splitlines()[0].strip() if out else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""


def environment():
    cpu = ""
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
    system = ""
    for line in open("/etc/os-release"):
        if line.startswith("PRETTY_NAME"):
            system = line.split("=")[1].strip().strip('"')
    versions = []
    for p in ("libmimalloc2.0", "libjemalloc2", "libc6", "libstdc++6", "libfuse3-3", "fio", "gcc", "gnuplot-nox"):
        v = first_line("dpkg-query", "-W", "-f", "${Version}", p)
        if v:
            versions.append(f"{p} {v}")
    here = os.path.dirname(os.path.abspath(__file__))
    commit = first_line("git", "-C", here, "rev-parse", "--short", "HEAD")
    dirty = first_line("git", "-C", here, "status", "--porcelain", "../../shm", "../../fs", "../../include")
    memory = first_line("grep", "MemTotal", "/proc/meminfo").split()
    load = open("/proc/loadavg").read().split()[0]
    return [
        f"- Date: {first_line('date', '-u', '+%Y-%m-%d %H:%M UTC')}; commit {commit}"
        + (" with uncommitted changes" if dirty else ""),
        f"- Machine: {cpu}, {os.cpu_count()} processors, {int(memory[1]) // 1048576 if len(memory) > 1 else '?'} GiB"
        f" (shared with others: compare within the run only; load average at the end {load})",
        f"- System: {system}, kernel {platform.release()}",
        f"- Compiler: {first_line('gcc', '--version')}",
        f"- Packages: {', '.join(versions)}",
    ]


def curves(rows, variant=OURS):
    found = {}
    for (group, case, x), row in rows.items():
        if x and variant in row["values"]:
            found.setdefault(case, []).append((x, row["values"][variant], row["unit"]))
    return {c: sorted(p) for c, p in found.items() if len(p) > 1}


def conditions(rows, case):
    """Variants of a curve that are ours under another condition."""
    found = [n for key, row in rows.items() if key[1] == case for n in row["values"] if n.startswith(OURS + ", ")]
    return list(dict.fromkeys(found))


def xtics(points):
    """Powers of two have a tick each; otherwise as gnuplot likes."""
    xs = [int(p[0]) for p in points]
    if any(x & (x - 1) for x in xs):
        return "set xtics autofreq\nset format x '%.0s%c'\n"
    return "set xtics (%s)\n" % ", ".join(f'"{x // 1024}k" {x}' if x >= 1024 else f'"{x}" {x}' for x in xs)


def growth(points):
    """How cost goes with x: the factor between least and most."""
    values = [p[1][0] for p in points]
    if min(values) > 0:
        return max(values) / min(values)
    return math.inf if max(values) > 0 else 1


def per_line(rows):
    """The host column by the lines written back, of the rows of this run."""
    def median(case, variant):
        found = [r["values"][variant] for k, r in rows.items() if k[1] == case and variant in r["values"]]
        return found[0][0] if found else 0

    parts = []
    for operation, case in WRITTEN_BACK.items():
        lines, ns = median("lines written back, " + operation, HOST), median(case, HOST)
        if lines and ns:
            parts.append(f"{operation} {number(ns)} ns / {lines:g} = {number(ns / lines)}")
    text = f"In this run, host column by lines: {', '.join(parts)}" if parts else "No time of this run to divide by them"
    bare = median("a line stored and written back", "bare")
    return text + (f"; a bare line that is stored to and written back takes {number(bare)} ns." if bare else ".")


def chart(rows, out):
    """results.svg: ours beside peers as ratios, and each curve."""
    script = out + ".gp"
    all_curves = list(curves(rows).items())
    bars = []
    for key, row in rows.items():
        ours = row["values"].get(OURS)
        peers = [(n, v) for n, v in row["values"].items() if not n.startswith("cxlshm")]
        if not ours or not peers or key[2] or not row["unit"] in ("ns", "us", "ms", "GB/s"):
            continue
        want = compared(key[1], row)
        name, peer = next(((n, v) for n, v in peers if n in want), peers[0])
        ratio = peer[0] / ours[0] if higher_is_better(row["unit"]) else ours[0] / peer[0]
        bars.append((f"{key[1]} / {name}", ratio))
    panels = (1 if bars else 0) + len(all_curves)
    if not panels:
        return "nothing to draw"
    columns, bar_height = 3, 40 + 15 * len(bars)
    curve_rows = (len(all_curves) + columns - 1) // columns
    height = bar_height + 240 * curve_rows + 30
    with open(script, "w") as g:
        g.write(f"set terminal svg size 1100,{height} font 'Helvetica,10' noenhanced background '#ffffff'\n")
        g.write(f"set output '{out}'\nset multiplot\nset encoding utf8\n")
        if bars:
            g.write(f"set origin 0,{1 - bar_height / height:.4f}\nset size 1,{bar_height / height:.4f}\n")
            g.write("set title 'cxlshm's cost as a multiple of a peer (left of 1: cheaper)'\n".replace("m's", "m''s"))
            g.write("set logscale x\nset yrange [-1:%d]\nset grid x\nset lmargin 62\nunset key\n" % len(bars))
            g.write("set style fill solid 0.6\nset arrow 1 from 1,graph 0 to 1,graph 1 nohead lw 2\n$bars << EOD\n")
            for i, (name, ratio) in enumerate(reversed(bars)):
                g.write(f'{i} {ratio:.5g} "{name}"\n')
            g.write("EOD\nplot $bars using (1):1:(1):2:($1-0.35):($1+0.35):ytic(3) with boxxyerror lc rgb '#4070a0',"
                    " '' using 2:1:(sprintf(' %.2f', $2)) with labels left font ',8'\n")
            g.write("unset arrow 1\nset ytics autofreq\nunset lmargin\nset autoscale\nunset logscale\n")
        for i, (case, points) in enumerate(all_curves):
            top = 1 - (bar_height + 240 * (i // columns + 1)) / height
            head, _, dimension = case.rpartition(", ")
            g.write(f"set origin {i % columns / columns:.4f},{top:.4f}\nset size {1 / columns:.4f},{240 / height:.4f}\n")
            g.write(f"set title '{head}'\nset xlabel '{dimension}'\nset ylabel '{points[0][2]}'\n")
            steep = 8 < growth(points) < math.inf  # a line through the origin stays one
            shown = [v for variant in [OURS] + conditions(rows, case) for _, v, _ in curves(rows, variant).get(case, [])]
            high = 1.1 * max(v[2] for v in shown) or 1  # counts have no spread: not right at the frame
            g.write(f"unset logscale\nset logscale {'xy' if steep else 'x'}\n")
            g.write("set yrange [*:*]\n" if steep else f"set yrange [0:{high:.6g}]\n")
            g.write("set grid\nset key bottom right font ',8'\n" + xtics(points))
            plots = []
            for k, variant in enumerate([OURS] + conditions(rows, case)):
                g.write(f"$c{i}_{k} << EOD\n")
                for x, v, _ in curves(rows, variant).get(case, []):
                    g.write(f"{x:.0f} {v[0]:.6g} {v[1]:.6g} {v[2]:.6g}\n")
                g.write("EOD\n")
                colour = ("#4070a0", "#c08040", "#609060")[k % 3]
                plots.append(f"$c{i}_{k} using 1:2:3:4 with yerrorlines pt 7 ps 0.4 lc rgb '{colour}' title '{variant}'")
            g.write("plot " + ", ".join(plots) + "\n")
        g.write("unset multiplot\n")
    try:
        done = subprocess.run(["gnuplot", script], capture_output=True, text=True, timeout=60)
    except OSError:
        return "gnuplot is not installed"
    finally:
        if os.path.exists(script) and "KEEP_GP" not in os.environ:
            os.remove(script)
    return done.stderr.strip().splitlines()[0] if done.returncode else ""


def main():
    lines, outdir = sys.argv[1], sys.argv[2]
    quick = len(sys.argv) > 3 and sys.argv[3] == "quick"
    rows, skips = read(lines)
    md = ["# Measurements", "",
          f"Written by `tests/bench/run.sh{' --quick' if quick else ''}`; not edited. Everything in one row was"
          " measured in one run, the variants in turn. Medians, quartiles in parentheses.", ""]
    md += environment() + [""]
    no_chart = chart(rows, os.path.join(outdir, "results.svg"))
    md += [f"No chart: {no_chart}." if no_chart else "![chart](results.svg)", ""]

    missed, table = [], []
    for group, title in GROUPS.items():
        keys = [k for k in rows if k[0] == group]
        if not keys:
            continue
        table.append(f"| **{title}** | | | | | | |")
        for key in keys:
            row = rows[key]
            values = dict(row["values"])
            ours, host = values.pop(OURS, None), values.pop(HOST, None)
            want = compared(key[1], row)
            peer = want[-1] if want else next((n for n in values if not n.startswith("cxlshm")), None)
            ratio = f"{ours[0] / values[peer][0]:.2f} × {peer}" if ours and values.get(peer, [0])[0] else ""
            peers = "; ".join(f"{n} {spread(v)}" for n, v in values.items())
            verdicts = judge(rows, key, row)
            target = ", ".join(f"{mark} {text}" for text, mark, _ in verdicts)
            missed += [(key, text, factor) for text, mark, factor in verdicts if mark == MISSED]
            table.append(f"| {label(key[1], key[2])} | {row['unit']} | {spread(ours) if ours else '–'} |"
                         f" {spread(host) if host else ''} | {peers} | {ratio} | {target} |")
    table = ["| what | unit | cxlshm | failure_domain=host | peers | ratio | target |",
             "|---|---|---|---|---|---|---|"] + table

    md += ["## Targets missed", ""]
    if not missed:
        md.append("None of those measured.")
    for key, text, factor in missed:
        note = NOTES.get(key[1], "not yet explained")
        md.append(f"- **{label(key[1], key[2])}**: {text}, missed by a factor of {factor:.2f}. {note}")
    md += ["", "## Curves", "", "A curve is called flat when its highest and lowest points differ by less than 1.5."
           " All are drawn in the chart.", ""]
    for case, points in curves(rows).items():
        factor = growth(points)
        span = f"{points[0][0]:.0f} to {points[-1][0]:.0f}"
        if factor < 1.5:
            md.append(f"- {case}: flat from {span} (within {factor:.2f} ×).")
        else:
            low, high = points[0][1][0], points[-1][1][0]
            span = f"{factor:.2f} × between least and most" if factor < math.inf else "the least is 0"
            md.append(f"- {case}: {number(low)} at {points[0][0]:.0f}, {number(high)} at {points[-1][0]:.0f}"
                      f" {points[0][2]} ({span}). {NOTES.get(case, 'Not yet explained.')}")
    md += ["", "## Remarks", ""]
    md += [f"- **{case}**: {text.replace('{per line}', per_line(rows))}" for case, text in REMARKS.items()
           if any(k[1] == case for k in rows)] or ["None."]
    if skips:
        md += ["", "## Skipped", ""]
        md += [f"- {g}: {label(c, float(x))}, {v}: {why}" for g, c, x, v, why in skips]
    md += ["", "## Table", "",
           "✓ a target is met, ✗ missed: medians decide. A target of 1.00 × a peer asks for no difference; where ours is"
           " the worse median but the two ranges between the quartiles overlap it is ≈, met within the spread."
           " Variants named \"cxlshm, …\" are ours under another condition.", ""] + table + [""]
    with open(os.path.join(outdir, "results.md"), "w") as f:
        f.write("\n".join(md))
    print("\n".join(table))
    if no_chart:
        print(f"\nNo chart: {no_chart}.", file=sys.stderr)
    for key, text, factor in missed:
        print(f"missed: {label(key[1], key[2])}: {text}, by {factor:.2f} x", file=sys.stderr)


main()
