#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Style checks: the rules of the tree that a program can check, one function a rule.

    style.py CHECK      print what breaks the rule, a line each; exit 1 if anything does
    style.py --list     name the checks

A check gets the tree's root and yields its complaints, so that checks_can_fail can run each one over
a small tree made to break it: a rule that nothing can break would prove nothing.
"""
import fnmatch
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("CXLSHM_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
CC = os.environ.get("CC", "cc").split()
CODE_FOLDERS = ("include", "shm", "fs", "mount-helper", "tests")

# Who may include whom in shm/: STYLE.md's table, with what the code has taught since (off.h needs the pool it checks
# offsets of; root, numa, counter, xattr, inspect and pool_create are modules of their own).  A module may
# include what stands in an earlier row, and of its own row what stands in the set beside its name.
# "page" names page.h, page.c, and its parts: page_remote.c and the like.
LAYERS = [
    {"arch": set(), "atomic": {"arch"}},
    {"format": set()},
    {"crash_points": set(), "crash": {"crash_points"}},
    {"pool": set(), "off": {"pool"}, "numa": {"pool"}, "client": {"pool", "off"}, "pool_create": {"pool", "off", "numa"}},
    {"era": set(), "redo": set(), "counter": set()},
    {"segment": set(), "page": {"segment"}, "root": {"segment", "page"}, "alloc": {"segment", "page", "root"},
     "extent": set()},
    {"ref": set(), "cell": {"ref"}},
    {"inode": set(), "xattr": {"inode"}, "names": {"inode", "xattr"}, "queue": set()},
    {"recover": set(), "check": {"recover"}, "inspect": set()},
    {"api": set()},
    {"cxlshm": set()},
]
# Sources (not headers) that reach down: crash.c finds the hook that a client's pool carries.
REACH_DOWN = {("crash.c", "client")}


def files(root, folders, suffixes):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


def strip_comments(text, strings=True):
    """Blank comments (and string literals), keeping the line numbers."""
    def blank(match):
        token = match.group(0)
        if token[0] == "/":
            return " " + "\n" * token.count("\n")
        return '""' if strings and token[0] == '"' else token
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S)


def read(path):
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def code_lines(path):
    return enumerate(strip_comments(read(path)).split("\n"), 1)


def includes(path):
    """(line, name) of every #include "name" in the file."""
    for number, line in enumerate(strip_comments(read(path), strings=False).split("\n"), 1):
        match = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if match:
            yield number, match.group(1)


def module_of(stem):
    """The module a file belongs to: its own name, or that without its last words (page_remote: page)."""
    known = {name for row in LAYERS for name in row}
    while stem not in known and "_" in stem:
        stem = stem.rsplit("_", 1)[0]
    return stem if stem in known else None


def rank(module):
    for row, names in enumerate(LAYERS):
        if module in names:
            return row, names[module]
    return None


def layers(root):
    """shm/: STYLE.md's table "Files and who includes whom"."""
    seen = 0
    for path in files(root, ["shm"], {".c", ".h"}):
        seen += 1
        module = module_of(path.stem)
        if module is None:
            yield f"{path.relative_to(root)}: '{path.stem}' is not in the table (LAYERS in style.py)"
            continue
        mine = rank(module)
        for number, name in includes(path):
            where = f"{path.relative_to(root)}:{number}"
            if name == "cxlshm.h":
                continue
            other = module_of(name.removesuffix(".h"))
            theirs = rank(other)
            if theirs is None:
                yield f"{where}: includes \"{name}\", which is no module of shm/"
            elif other != module and (path.name, other) not in REACH_DOWN \
                    and not (theirs[0] < mine[0] or other in mine[1]):
                yield f"{where}: {module} may not include {other}"
    if not seen:
        yield "shm/ has no source"


def private_folder(root, folder, allowed):
    own = {path.name for path in files(root, [folder], {".h"})}
    seen = 0
    for path in files(root, [folder], {".c", ".h"}):
        seen += 1
        for number, name in includes(path):
            if name not in own and name not in allowed:
                yield f"{path.relative_to(root)}:{number}: {folder}/ may not include \"{name}\""
    if not seen:
        yield f"{folder}/ has no source"


def fs_includes(root):
    """fs/ sees include/cxlshm.h and its own headers, never shm/."""
    yield from private_folder(root, "fs", {"cxlshm.h"})


def mount_helper_includes(root):
    """mount-helper/ sees include/cxlshm.h and its own headers; mount.cxlshm knows no pool at all."""
    yield from private_folder(root, "mount-helper", {"cxlshm.h"})


def file_length(root):
    """No C file, header or script has 700 lines or more."""
    for path in files(root, CODE_FOLDERS, {".c", ".h", ".sh", ".py"}):
        count = read(path).count("\n")
        if count >= 700:
            yield f"{path.relative_to(root)}: {count} lines: is it one idea?"


def atomics_in_one_place(root):
    """__ATOMIC_*, __atomic_* and __sync_* only in shm/atomic.h and shm/arch*.h."""
    for path in files(root, ["include", "shm", "fs", "mount-helper"], {".c", ".h"}):
        if path.parent.name == "shm" and re.fullmatch(r"atomic|arch(_\w+)?", path.stem):
            continue
        words = r"__ATOMIC_|__atomic_|__sync_" + ("|stdatomic" if path.parent.name == "shm" else "")
        for number, line in code_lines(path):
            if re.search(words, line):
                yield f"{path.relative_to(root)}:{number}: {line.strip()}"


def raw_in_one_place(root):
    """Only shm/atomic.h says .raw: elsewhere a shared word is not to be read or written plainly."""
    for path in files(root, ["include", "shm", "fs", "mount-helper"], {".c", ".h"}):
        if path.name == "atomic.h":
            continue
        for number, line in code_lines(path):
            if re.search(r"(\.|->)\s*raw\b", line):
                yield f"{path.relative_to(root)}:{number}: {line.strip()}"


def listed_points(root):
    text = strip_comments(read(root / "shm/crash_points.h"))
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"\s*#", line):
            continue
        for module, name in re.findall(r"\b[A-Z_]+\(\s*([a-z]\w*)\s*,\s*([a-z]\w*)\s*[,)]", line):
            found.append((number, module, name))
    return found


def crash_points_listed_and_used(root):
    """Every CRASH_POINT(client, module, name) is in shm/crash_points.h, each listed point stands at one place, and only one."""
    listed = listed_points(root)
    if not listed:
        yield "shm/crash_points.h lists no point"
    names = {}
    for number, module, name in listed:
        if (module, name) in names:
            yield f"shm/crash_points.h:{number}: {module}, {name} is listed twice"
        names[(module, name)] = number
    used = set()
    for path in files(root, ["shm", "fs"], {".c", ".h"}):
        if path.stem in ("crash", "crash_points"):
            continue
        text = strip_comments(read(path))
        for match in re.finditer(r"\bCRASH_POINT\(([^;]*?)\)\s*;", text, flags=re.S):
            number = text.count("\n", 0, match.start()) + 1
            parts = [part.strip() for part in match.group(1).rsplit(",", 2)]
            point = (parts[-2], parts[-1])
            if len(parts) != 3:
                yield f"{path.relative_to(root)}:{number}: CRASH_POINT takes a client, a module and a name"
            elif point not in names:
                yield f"{path.relative_to(root)}:{number}: {point[0]}, {point[1]} is not in crash_points.h"
            elif point in used:
                yield f"{path.relative_to(root)}:{number}: {point[0]}, {point[1]} stands elsewhere, too: one of them might never be reached"
            used.add(point)
    for point, number in names.items():
        if point not in used:
            yield f"shm/crash_points.h:{number}: {point[0]}, {point[1]} is used nowhere"


def no_struct_typedefs(root):
    """No typedef of a struct or union, and no type named _t of our own."""
    for path in files(root, CODE_FOLDERS, {".c", ".h"}):
        text = strip_comments(read(path))
        for match in re.finditer(r"\btypedef\b[^;{]*", text):
            number = text.count("\n", 0, match.start()) + 1
            head = match.group(0)
            if re.search(r"\b(struct|union)\b", head) and "(" not in head:
                yield f"{path.relative_to(root)}:{number}: {head.strip()}"
            elif re.search(r"\b\w+_t\s*$", head):
                yield f"{path.relative_to(root)}:{number}: {head.strip()}: _t belongs to POSIX"


def no_shm_names(root):
    """No identifier of ours begins with shm_ or SHM_: those are libc's."""
    libc = re.compile(r"shm_(open|unlink)$|SHM_(RDONLY|RND|REMAP|EXEC|HUGETLB|NORESERVE)$")
    for path in files(root, CODE_FOLDERS, {".c", ".h"}):
        for number, line in code_lines(path):
            for name in re.findall(r"\b(?:shm_|SHM_)\w+", line):
                if not libc.match(name):
                    yield f"{path.relative_to(root)}:{number}: {name}"


def compiles(command, text, suffix):
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / ("source" + suffix)
        source.write_text(text)
        done = subprocess.run([*command, "-fsyntax-only", str(source)], capture_output=True, text=True)
        if done.returncode:
            yield from done.stderr.strip().split("\n")


def header_is_cxx_safe(root):
    """A C++ program includes cxlshm.h."""
    yield from compiles(["g++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I",
                         str(root / "include")],
                        '#include <cxlshm.h>\nint main() { return (int)sizeof(struct cxlshm_stat) == 0; }\n',
                        ".cc")


def header_stands_alone(root):
    """A strict C11 program includes cxlshm.h before anything else."""
    yield from compiles([*CC, "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Wpedantic",
                         "-Werror", "-I", str(root / "include")],
                        '#include "cxlshm.h"\nint main(void) { return sizeof(struct cxlshm_stat) == 0; }\n',
                        ".c")


def prototypes_have_comments(root):
    """Each function of include/cxlshm.h stands directly below a comment of its own (a section's heading is none)."""
    text = read(root / "include/cxlshm.h")
    code = strip_comments(text)
    ends = {text.count("\n", 0, match.end()) + 1: match.group(0)
            for match in re.finditer(r"^/\*.*?\*/[ \t]*$", text, flags=re.S | re.M)}
    seen = 0
    for match in re.finditer(r"^[A-Za-z][\w \t*]*?\b(cxlshm_\w+)\s*\(", code, flags=re.M):
        seen += 1
        line = code.count("\n", 0, match.start()) + 1
        if line - 1 not in ends or ends[line - 1].startswith("/* ---"):
            yield f"include/cxlshm.h:{line}: {match.group(1)}() has no comment directly above"
    if not seen:
        yield "include/cxlshm.h has no function"


def readme_blocks(root, language):
    readme = root / "README.md"
    if not readme.is_file():
        return []
    return re.findall(r"^```" + language + r"\s*\n(.*?)^```", read(readme), flags=re.S | re.M)


def readme_example_compiles(root):
    """Every fenced C block of README.md with a main() has 40 lines at most and no warning; there is at least one."""
    blocks = [block for block in readme_blocks(root, "c") if re.search(r"\bmain\s*\(", block)]
    if not blocks:
        yield "README.md has no fenced C block with a main()"
    for block in blocks:
        yield from compiles([*CC, "-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-I",
                             str(root / "include")], block, ".c")
        if block.count("\n") > 40:
            yield f"README.md: the C example has {block.count(chr(10))} lines: 40 will do"


def spdx_and_essay(root):
    """Every C file, header and script opens with its SPDX line and a comment that says what it is."""
    for path in files(root, CODE_FOLDERS, {".c", ".h", ".sh", ".py"}):
        lines = [line for line in read(path).split("\n")[:8] if not line.startswith("#!")]
        where = path.relative_to(root)
        if not lines or "SPDX-License-Identifier: MIT" not in lines[0]:
            yield f"{where}: does not open with its SPDX line"
        elif len(lines) < 2 or not re.match(r'\s*(/\*|#|""")', lines[1]):
            yield f"{where}: the SPDX line is not followed by a comment that says what the file is"


MAN_PAGES = {"mount.cxlshm.8", "mkfs.cxlshm.8", "fsck.cxlshm.8", "cxlshmfs.1", "cxlshm.7", "libcxlshm.3"}


def man_pages(root):
    """The six pages are there, and groff has nothing to say about them."""
    pages = {path.name: path for path in root.rglob("*.[1-8]")
             if ".git" not in path.parts and not path.relative_to(root).parts[0].startswith("build")}
    for name in sorted(MAN_PAGES - pages.keys()):
        yield f"{name} is missing"
    for name, path in sorted(pages.items()):
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", str(path)], capture_output=True,
                              text=True, errors="replace",
                              env={**os.environ, "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANWIDTH": "100"})
        if done.returncode or done.stderr.strip():
            yield f"{path.relative_to(root)}: man says: {done.stderr.strip() or done.returncode}"
        for section in ("NAME", "DESCRIPTION"):
            if not re.search(r"^" + section + r"$", done.stdout, flags=re.M):
                yield f"{path.relative_to(root)}: has no section {section}"


def shell_syntax(root):
    """Every script parses."""
    scripts = list(files(root, ["mount-helper", "tests"], {".sh"}))
    scripts += [path for path in [root / ".ci/run"] if path.is_file()]
    for path in scripts:
        done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
        if done.returncode:
            yield done.stderr.strip()
        if not os.access(path, os.X_OK) and path.parent.name != "lib":
            yield f"{path.relative_to(root)} is not executable"
    if not scripts:
        yield "no scripts"


def top_level(root):
    """The top holds what the layout names, and nothing else."""
    allowed = {"fs", "shm", "include", "mount-helper", "tests", "meson.build", "meson_options.txt",
               "README.md", "LICENSE"}
    done = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True)
    names = {line.split("/")[0] for line in done.stdout.split("\n") if line}
    if not names:
        yield "git lists no files"
    for name in sorted(names - allowed):
        if not name.startswith("."):
            yield f"{name} is not in the layout"


def list_in(path, name):
    match = re.search(name + r"\s*=\s*[\[{](.*?)[\]}]", read(path), flags=re.S)
    body = re.sub(r"#[^\n]*", "", match.group(1)) if match else ""
    return set(re.findall(r"'([^']+)'", body))


def unit_list_is_complete(root):
    """tests/unit/meson.build names every test_<module>.c there is."""
    listed = list_in(root / "tests/unit/meson.build", "unit_tests")
    there = {path.stem.removeprefix("test_") for path in files(root, ["tests/unit"], {".c"})
             if path.name.startswith("test_")}
    for name in sorted(there - listed):
        yield f"tests/unit/test_{name}.c is not in tests/unit/meson.build: it never runs"
    for name in sorted(listed - there):
        yield f"tests/unit/meson.build lists {name}, which has no file"
    if not there:
        yield "no unit tests"


def e2e_list_is_complete(root):
    """tests/e2e/meson.build names every script there is."""
    listed = {line.split()[0] for line in list_in(root / "tests/e2e/meson.build", "e2e_tests")}
    there = {path.stem for path in (root / "tests/e2e").glob("*.sh")}
    for name in sorted(there ^ listed):
        yield f"tests/e2e/{name}.sh is in the folder or in meson.build, not in both"
    if not there:
        yield "no end-to-end tests"


def tour_names_every_file(root):
    """Each .c and .h of shm/ is in README.md's source tour, by its name or a pattern; each of fs/ in fs/README.md."""
    for tour, folder in (("README.md", "shm"), ("fs/README.md", "fs")):
        section = re.search(r"^## .*reading order\n(.*?)(?=^## |\Z)", read(root / tour), flags=re.I | re.S | re.M)
        # Only what stands in the first column: what is said about a file may name others.
        cells = re.findall(r"^\| *(.*?) *\|", section.group(1) if section else "", flags=re.M)
        names = [name.removeprefix(folder + "/") for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
        if not names:
            yield f"{tour} has no source tour"
        for path in files(root, [folder], {".c", ".h"}):
            # fs/README.md names a module, and means its .c and .h.
            if not any(fnmatch.fnmatch(path.name, name) or (folder == "fs" and path.stem == name) for name in names):
                yield f"{path.relative_to(root)} is not in the tour of {tour}"


SPDX = "/* SPDX-License-Identifier: MIT */\n/* A file. */\n"
# For each check a tree that breaks it, and how many complaints that must give at least.
BAD_TREES = {
    "layers": ({"shm/format.h": '#include "pool.h"\n', "shm/era.c": '#include "redo.h"\n#include "stray.h"\n',
                "shm/nobody.c": "\n"}, 4),
    "fs_includes": ({"fs/ops.c": '#include "pool.h"\n#include "../shm/era.h"\n'}, 2),
    "mount_helper_includes": ({"mount-helper/mkfs.c": '#include "format.h"\n'}, 1),
    "file_length": ({"shm/long.c": "\n" * 700}, 1),
    "atomics_in_one_place": ({"shm/era.c": "x = __atomic_load_n(p, __ATOMIC_ACQUIRE);\n"}, 1),
    "raw_in_one_place": ({"shm/era.c": "w.raw = 1; p->raw = 2;\n"}, 1),
    "crash_points_listed_and_used": ({
        "shm/crash_points.h": "#define CRASH_POINTS(X) \\\n\tX(ref, old) \\\nX(era, twice)\nX(era, twice)\n",
        "shm/ref.c": "CRASH_POINT(c, ref, unlisted);\n",
        "shm/era.c": "CRASH_POINT(c, era, twice);\nCRASH_POINT(c, era, twice);\n"}, 4),
    "no_struct_typedefs": ({"shm/era.h": "typedef struct era { int x; } era;\ntypedef int my_t;\n"}, 2),
    "no_shm_names": ({"shm/era.h": "int shm_era(void);\n#define SHM_ERA 1\nint fd = shm_open(0);\n"}, 2),
    "header_is_cxx_safe": ({"include/cxlshm.h": "int new;\n"}, 1),
    "header_stands_alone": ({"include/cxlshm.h": "int f(size_t x);\n"}, 1),
    "prototypes_have_comments": ({"include/cxlshm.h": "/* ---- pools */\nint cxlshm_a(void);\n"
                                  "/* Of b. */\nint cxlshm_b(void);\nstruct cxlshm_c *cxlshm_c(int (*visit)(void *arg),\n"
                                  "\tint x);\n/* Of nothing. */\n\nvoid cxlshm_d(void);\n#define D 1\t/* a\n * b */\n"
                                  "int cxlshm_e(void);\n"}, 4),
    # A compiler's complaint has several lines: more blocks are too long than those.
    "readme_example_compiles": ({"README.md": "```c\nint main(void) { return x; }\n```\n" +
                                              ("```c\nint main(void)\n{" + "\n" * 40 + "}\n```\n") * 8}, 9),
    "spdx_and_essay": ({"shm/era.c": "int x;\n", "fs/ops.c": "/* SPDX-License-Identifier: MIT */\nint x;\n"}, 2),
    "man_pages": ({"mount-helper/cxlshm.7": ".TH A 7\n.SH NAME\n\\*[nothing] \\[nosuch]\n"}, 6),
    "shell_syntax": ({"tests/run.sh": "if true; then\n"}, 1),
    "top_level": ({"stray/file": "x"}, 1),
    "tour_names_every_file": ({"README.md": "## The source, in reading order\n\n| `shm/era.h`, `check*.c` | not `queue.c` |\n",
                               "fs/README.md": "## Reading order\n| `dir` | |\n",
                               "shm/era.h": "\n", "shm/era.c": "\n", "shm/check_a.c": "\n", "shm/queue.c": "\n",
                               "fs/dir.c": "\n", "fs/ops.c": "\n"}, 3),
    "unit_list_is_complete": ({"tests/unit/meson.build": "unit_tests = ['gone']\n",
                               "tests/unit/test_era.c": "\n"}, 2),
    "e2e_list_is_complete": ({"tests/e2e/meson.build": "e2e_tests = ['gone one', 'gone two']\n",
                              "tests/e2e/here.sh": "\n"}, 2),
}


def checks_can_fail(root):
    """Each check above complains about a tree that breaks its rule."""
    del root
    for name in sorted(CHECKS.keys() - BAD_TREES.keys() - {"checks_can_fail"}):
        yield f"{name} has no tree that breaks it"
    for name, (tree, least) in BAD_TREES.items():
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for path, text in tree.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            if name == "top_level":
                subprocess.run(["git", "init", "-q", folder], check=True)
                subprocess.run(["git", "-C", folder, "add", "."], check=True)
            complaints = list(CHECKS[name](root))
            if len(complaints) < least:
                yield f"{name} made {len(complaints)} complaints about a tree with {least}: {complaints}"


CHECKS = {function.__name__: function for function in [
    layers, fs_includes, mount_helper_includes, file_length, atomics_in_one_place, raw_in_one_place,
    crash_points_listed_and_used, no_struct_typedefs, no_shm_names, header_is_cxx_safe,
    header_stands_alone, prototypes_have_comments, readme_example_compiles, spdx_and_essay, man_pages, shell_syntax,
    top_level, tour_names_every_file, unit_list_is_complete, e2e_list_is_complete, checks_can_fail]}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in {"--list", *CHECKS}:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.argv[1] == "--list":
        for name, function in CHECKS.items():
            print(f"{name}: {function.__doc__}")
        return 0
    complaints = list(CHECKS[sys.argv[1]](ROOT))
    for line in complaints:
        print(line)
    print(f"{sys.argv[1]}: {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
