# SPDX-License-Identifier: MIT
"""Prints a C program that prints the layout of tinyvlm.h: layout.py tests/abi/0.1/tinyvlm.h [include/tinyvlm.h]

A line for each struct that never changes (its size), for each field (offset, size) and enum value of the first
header, a version's own: compiled against it and against today's, the program says the same. Functions of the
first header that the second declares in another way are an error.
"""
import re
import sys


def read(path):
    text = re.sub(r"/\*.*?\*/", "", open(path, encoding="utf-8").read(), flags=re.S)
    return re.sub(r"^\s*#.*?$|TVLM_(NULLABLE|NONNULL)", "", text, flags=re.M)


def functions(header):
    """Declarations without the names of parameters."""
    found = set()
    for declaration in re.findall(r"TVLM_API ([^;]*);", header):
        result, parameters = re.fullmatch(r"(.*?)\((.*)\)", declaration, flags=re.S).groups()
        types = [re.sub(r"(?<=[\s*])\w+$", "", p.strip()) for p in re.split(r",(?![^(]*\))", parameters)]
        found.add(re.sub(r"\s+", "", f"{result}({','.join(types) if parameters != 'void' else 'void'})"))
    return found


header = read(sys.argv[1])
if len(sys.argv) > 2:
    gone = functions(header) - functions(read(sys.argv[2]))
    if gone:
        sys.exit("not declared as they were: " + ", ".join(sorted(gone)))
print("#include <tinyvlm.h>\n#include <stdio.h>\nint main(void)\n{")
for kind, body, name in re.findall(r"typedef (struct|enum TVLM_\w+) \w+ \{(.*?)\} (\w+);", header, flags=re.S):
    if kind == "struct":
        fields = []
        for line in body.split(";"):
            pointer = re.search(r"\(\*\s*(\w+)\)", line)
            fields += [pointer[1]] if pointer else re.findall(r"(\w+)(?:\[\d+\])?(?:,|$)", line.strip())
        if fields[0] != "size":
            print(f'    printf("{name} %zu\\n", sizeof({name}));')
        for field in fields:
            print(f'    printf("{name}.{field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));')
    else:
        for value in re.findall(r"(TVLM_\w+) =", body):
            print(f'    printf("{value} %d\\n", (int){value});')
print("    return 0;\n}")
