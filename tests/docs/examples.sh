#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: tests/docs/examples.sh DOCUMENT.md LANGUAGE TEMPLATE FOLDER
# Makes each code block of a language a file that compiles alone, and prints their names: FOLDER/DOCUMENT-1.kt and so on are
# TEMPLATE with a block in place of its line EXAMPLE, and the block's imports first. A document without one is an error.
set -euo pipefail
mkdir -p "$4"
awk -v language="$2" -v stem="$4/$(basename "$1" .md)" -v extension="${3##*.}" '
    function write(file, i) {
        file = stem "-" ++n "." extension
        printf "%s", imports >file
        for (i = 1; i <= lines; i++)
            printf "%s", template[i] ~ /EXAMPLE/ ? body : template[i] "\n" >file
        close(file)
        print file
    }
    FNR == NR { template[++lines] = $0; next }
    $0 == "```" language { inside = 1; imports = body = ""; next }
    !inside { next }
    $0 == "```" { inside = 0; write(); next }
    /^import / { imports = imports $0 "\n"; next }
    { body = body $0 "\n" }
    END { if (!n) { print "no example in " language > "/dev/stderr"; exit 1 } }' "$3" "$1"
