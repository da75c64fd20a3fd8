#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The bill of materials of an archive of scripts/release.sh, as CycloneDX 1.6.

sbom.py write TARGET VERSION COMMIT FOLDER   on standard output; FOLDER is what the archive holds
sbom.py runtime TARGET                       files with the licences of zig's part of the program, as NAME FILE

It is checked by CycloneDX's schema before it is written. SOURCE_DATE_EPOCH is its time.
"""
import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import sys
import uuid

import ziglang
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_expression
from cyclonedx.validation.json import JsonStrictValidator

ROOT = pathlib.Path(__file__).parent.parent
ZIG = pathlib.Path(ziglang.__file__).parent
REPOSITORY = "https://github.com/tinyvlm/tinyvlm"

LICENCES = {
    "jansson": "MIT",
    "libjpeg-turbo": "IJG AND BSD-3-Clause AND Zlib",
    "libspng": "BSD-2-Clause AND libpng-2.0",
    "zlib": "Zlib",
    "libwebp": "BSD-3-Clause",
    "giflib": "MIT",
    "libexif": "LGPL-2.1-or-later",
}

# Of zig, by operating system: what is linked, its licence, and where that is told.
RUNTIMES = {
    "linux": [("compiler-rt", "MIT", "LICENSE"), ("musl", "MIT", "lib/libc/musl/COPYRIGHT")],
    "windows": [("compiler-rt", "MIT", "LICENSE"), ("mingw-w64", "ZPL-2.1", "lib/libc/mingw/COPYING")],
    "macos": [("compiler-rt", "MIT", "LICENSE")],
}


def digest(file):
    return [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}]


def licence(expression):
    if not is_expression(expression): # the schema takes any text
        sys.exit(f"sbom.py: '{expression}' is not of SPDX")
    return [{"expression": expression}]


def runtimes(target):
    return RUNTIMES[target.split("-")[0]]


def library(name):
    """A library, with the files of its source package."""
    lines = (ROOT / "scripts" / "cross_sources.txt").read_text().splitlines()
    files = [line.split() for line in lines if line.split()[1].startswith(name + "_")]
    version = next(re.fullmatch(r"[^_]*_(.*)\.dsc", file)[1] for _, file in files if file.endswith(".dsc"))
    folder = name[:4] if name.startswith("lib") else name[0]
    return {
        "type": "library",
        "bom-ref": name,
        "name": name,
        "version": version,
        "licenses": licence(LICENCES[name]),
        "purl": f"pkg:deb/debian/{name}@{version}?arch=source",
        "externalReferences": [{
            "type": "source-distribution",
            "url": f"https://deb.debian.org/debian/pool/main/{folder}/{name}/{file}",
            "hashes": [{"alg": "SHA-256", "content": sha256}],
        } for sha256, file in files],
    }


def runtime(name, terms):
    """A part of zig that is linked, by zig's version; the hash is that of zig's program."""
    version = importlib.metadata.version("ziglang")
    return {
        "type": "library",
        "bom-ref": name,
        "name": name,
        "version": f"of zig {version}",
        "licenses": licence(terms),
        "purl": f"pkg:pypi/ziglang@{version}",
        "hashes": digest(ZIG / "zig"),
    }


def model(file):
    return {
        "type": "machine-learning-model",
        "bom-ref": file.name,
        "name": file.name,
        "licenses": [{"license": {"name": "non-commercial research: MODEL_CARD.md"}}],
        "hashes": digest(file),
    }


def write(target, version, commit, folder):
    folder = pathlib.Path(folder)
    program = folder / ("tinyvlm.exe" if target.startswith("windows") else "tinyvlm")
    parts = [*map(library, LICENCES), *(runtime(name, terms) for name, terms, _ in runtimes(target)),
             model(folder / "tinyvlm-25m.gguf")]
    made = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{REPOSITORY}/{commit}/{target}')}",
        "version": 1,
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": "tinyvlm",
                "name": "tinyvlm",
                "version": version,
                "description": f"the command line tool for {target}",
                "licenses": licence("MIT"),
                "hashes": digest(program),
                "externalReferences": [{"type": "vcs", "url": REPOSITORY, "comment": f"commit {commit}"}],
            },
        },
        "components": parts,
        "dependencies": [{"ref": "tinyvlm", "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    text = json.dumps(bom, indent=2)
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem:
        sys.exit(f"sbom.py: {problem}")
    print(text)


def main():
    match sys.argv[1:]:
        case "runtime", target:
            for name, _, file in runtimes(target):
                print(name, ZIG / file)
        case "write", target, version, commit, folder:
            write(target, version, commit, folder)
        case _:
            sys.exit(__doc__)


main()
