#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/gates.sh BUILD-DIR
#        scripts/gates.sh --objects NAME OBJECT...
# Rules of the code base that a compiler does not check, one gate each. The second form checks the
# library's objects for another machine (ELF, Mach-O, COFF; NM reads them: llvm-nm), those for
# Android (its name in NAME) also for what they import, those for 32-bit ARM for calls of fmaf.
set -uo pipefail
export LC_ALL=C
usage='usage: scripts/gates.sh BUILD-DIR | --objects NAME OBJECT...'
if [ "${1:?$usage}" = --objects ]; then
    name=${2:?$usage}
    shift 2
    archive=("$@")
else
    build=$(cd "$1" && pwd)
    archive=("$build/libtinyvlm.a")
    objects=$build/CMakeFiles/tinyvlm.dir
fi
cd "$(dirname "$0")/.."
nm=${NM:-nm}
cc=${CC:-cc}
cxx=${CXX:-g++}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bad=0

# verdict NAME RULE <OFFENCES: none is a pass. Not in a pipe, whose subshell would lose the count.
verdict() {
    local offences
    offences=$(cat)
    if [ -z "$offences" ]; then
        echo "gate $1: ok"
    else
        echo "gate $1: FAILED: $2"
        sed -n '1,20s/^/    /p' <<<"$offences"
        bad=$((bad + 1))
    fi
}

sources() { find src -name '*.[ch]' | sort; }

# Mach-O puts an underscore before each, MinGW has pointers to what another object defines, Android's
# objects have what Java calls. A tool that cannot read the objects lists none.
symbol_prefix() {
    "$nm" -g --defined-only "${archive[@]}" >"$tmp/defined" 2>&1 || cat "$tmp/defined"
    awk 'NF != 3 || $2 !~ /^[A-Za-z]$/ { next } # "no symbols": nothing in it is for this machine
        { n++ }
        $3 !~ /^(_|\.refptr\.)?tvlm_|^Java_dev_tinyvlm_/ { print $3 | "sort -u" }
        END { if (n < 100) print "only " n + 0 " symbols are listed" }' "$tmp/defined"
}

# There is none with TVLM_CLI off.
converter_prefix() {
    local library=$build/libtinyvlm-convert.a
    [ ! -e "$library" ] || "$nm" -g --defined-only "$library" | awk 'NF == 3 && $3 !~ /^tvlmc_/ { print $3 }' | sort -u
}

# scripts/imports.txt has the functions that the library may take from a system, each with the first
# level of Android's API that has it.
android_imports() {
    "$nm" -u "${archive[@]}" >"$tmp/undefined" 2>&1 || cat "$tmp/undefined"
    awk -v most=26 'FNR == NR { if (/^[^#]/) level[$1] = $2; next }
        $1 == "U" && $2 !~ /^tvlm_|^_GLOBAL_OFFSET_TABLE_$|^__aeabi_/ { # the last are of the compiler
            n++
            name = $2
            if (name ~ /^__.*64$/) # of musl on 32-bit machines
                gsub(/^__|(_time)?64$/, "", name)
            if (!(name in level)) print name " is not in scripts/imports.txt"
            else if (level[name] > most) print name " is of API level " level[name]
        }
        END { if (n < 20) print "only " n + 0 " imports are listed" }' scripts/imports.txt "$tmp/undefined" | sort -u
}

# fmaf of a 32-bit ARM's libm is slow: math.h has an instruction instead, or its own steps.
fma_calls() { "$nm" -A -u "${archive[@]}" 2>&1 | awk '$NF ~ /^fma[fl]?$/'; }

# Rank of each folder of src/; a file may include its own folder and lower ranks.
include_graph() {
    sources | xargs awk '
        BEGIN {
            n = split("os base cpu quant kernels text model image nn vision,lm arch engine", rows, " ")
            for (i = 1; i <= n; i++) {
                m = split(rows[i], names, ",")
                for (j = 1; j <= m; j++)
                    rank[names[j]] = i
            }
        }
        FNR == 1 { split(FILENAME, path, "/"); own = path[2] }
        FNR == 1 && !(own in rank) { print FILENAME ": folder " own " has no rank" }
        match($0, /^[ \t]*#[ \t]*include[ \t]*"[^"]*"/) {
            target = substr($0, RSTART, RLENGTH)
            sub(/^[^"]*"/, "", target)
            sub(/"$/, "", target)
            if (target == "tinyvlm.h")
                next
            split(target, to, "/")
            if (!(to[1] in rank) || target ~ /\.\./)
                print FILENAME ":" FNR ": " target " is not a path from src/"
            else if (to[1] != own && rank[to[1]] >= rank[own])
                print FILENAME ":" FNR ": " own " includes " target
        }'
}

# Headers that files include, and those that these include, other than tinyvlm.h and what is found in FOLDER.
foreign_headers() { # FOLDER FILE...
    local folder=$1 file line header
    shift
    local -A seen=()
    while [ $# -gt 0 ]; do
        file=$1
        shift
        [ -z "${seen[$file]:-}" ] || continue
        seen[$file]=1
        while read -r line; do
            header=${line#*\"}
            header=${header%%\"*}
            if [ -e "$folder/$header" ] && [[ $header != *..* ]]; then
                set -- "$@" "$folder/$header"
            elif [ "$header" != tinyvlm.h ]; then
                echo "$file:$line"
            fi
        done < <(grep -nE '^[ \t]*#[ \t]*include[ \t]*"' "$file")
    done
}

# The program and the examples are users of the library as others are. The converter is a library of its own that sees
# all of src/, as it writes what the loader reads; those of its headers that the program includes do not.
program_includes() {
    mkdir -p "$tmp/app/cli" "$tmp/app/convert"
    echo '#include "convert/a.h"' >"$tmp/app/cli/a.c"
    printf '#include "tinyvlm.h"\n# include "base/base.h"\n' >"$tmp/app/convert/a.h"
    foreign_headers "$tmp/app" "$tmp/app/cli/a.c" | grep -q 'convert/a.h:2:.*base/base.h' || echo 'a planted include is not seen'
    foreign_headers app app/{cli,common,eval,file,image,system}/*.[ch]
    foreign_headers "$tmp/none" examples/*.c
}

# What objects of the program take from the library though tinyvlm.h does not declare it.
hidden_calls() { # OBJECT...
    "$cc" -E -P include/tinyvlm.h | grep -oE 'tvlm_[a-z0-9_]+ *\(' | tr -d ' (' >"$tmp/declared"
    nm -u "$@" 2>&1 | awk '$1 == "U" && $2 ~ /^tvlm_/ { print $2 }' | sort -u | grep -vxF -f "$tmp/declared"
}

# Its own names do not look like the library's. There is none with TVLM_CLI off.
program_symbols() {
    [ -e "$build/libtinyvlm-app.a" ] || return 0
    local parts=("$build"/libtinyvlm-{app,system}.a "$build/CMakeFiles/tinyvlm-cli.dir/app/cli/main.c.o")
    echo 'void tvlm_cancel_free(void *), tvlm_fail(void); void app_plant(void) { tvlm_cancel_free(0); tvlm_fail(); }' >"$tmp/plant.c"
    "$cc" -c -o "$tmp/plant.o" "$tmp/plant.c"
    [ "$(hidden_calls "$tmp/plant.o")" = tvlm_fail ] || echo 'a planted call is not seen'
    hidden_calls "${parts[@]}"
    nm -g --defined-only "${parts[@]}" 2>&1 | awk 'NF == 3 { n++ }
        NF == 3 && $3 !~ /^(app|cli|cmd|eval)_|^main$/ { print "its own name: " $3 }
        END { if (n < 100) print "only " n + 0 " symbols are listed" }'
}

wide_vectors() {
    find src -name '*.c' ! -path 'src/kernels/x86/*' | sort | while read -r source; do
        if objdump -d --no-show-raw-insn "$objects/$source.o" 2>&1 |
            grep -qE '%[yz]mm[0-9]|No such file'; then
            echo "$source"
        fi
    done
}

header_alone() {
    printf '#include "tinyvlm.h"\n' >"$tmp/alone.c"
    cp "$tmp/alone.c" "$tmp/alone.cpp"
    local strict=(-Wall -Wextra -Wpedantic -Wundef -Werror -Iinclude -fsyntax-only)
    "$cc" -std=c11 -Wstrict-prototypes "${strict[@]}" "$tmp/alone.c" 2>&1
    "$cxx" -std=c++17 "${strict[@]}" "$tmp/alone.cpp" 2>&1
}

# A machine on which results would be wrong is refused by a message, not found out by users.
refused_machines() {
    local flags said
    "$cc" -std=c11 -fsyntax-only src/os/machine.c 2>&1
    for flags in '-U__BYTE_ORDER__ -D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__' '-U__BYTE_ORDER__' -ffast-math \
        '-U__FLT_EVAL_METHOD__ -D__FLT_EVAL_METHOD__=2' '-U__FLT_MANT_DIG__ -D__FLT_MANT_DIG__=53'; do
        # shellcheck disable=SC2086 # words
        said=$("$cc" -std=c11 -w $flags -fsyntax-only src/os/machine.c 2>&1) # it fails: not in a pipe
        [[ $said = *error*'tinyvlm needs'* ]] || echo "compiles with $flags"
    done
}

# Lines that ask which system it is, or for what only some systems have.
system_lines() {
    local macros='_WIN(32|64)|__(APPLE|MACH|linux|unix|ANDROID|FreeBSD|NetBSD|OpenBSD|wasi|EMSCRIPTEN|MINGW32|MINGW64)__|_MSC_VER'
    grep -rnE --include='*.[ch]' "^[ \t]*#.*(\<($macros)\>|<(pthread|threads|windows|winsock2|process|io)[.]h>)" "$@"
}

# The library has one floor below it, the command line tool another beside it.
system_floor() {
    local line
    mkdir "$tmp/plant"
    for line in '#include <pthread.h>' '#  include <windows.h>' '#ifdef _WIN32' '#if !defined(__APPLE__)' \
        '#elif X && defined __linux__'; do
        echo "$line" >"$tmp/plant/a.c"
        system_lines "$tmp/plant" >"$tmp/found" || echo "a planted $line is not seen"
    done
    system_lines src app | grep -v '^src/os/\|^app/system/'
}

# In the source, as the compiler rewrites some of these calls, and in the objects, as macros hide.
banned_calls() {
    local names='abort|_?exit|_Exit|quick_exit|v?f?printf|puts|fputs|putchar|putc|fputc|perror'
    names+='|strcpy|stpcpy|strcat|v?sprintf|atoi|atol|atoll|atof|gets|strtok|rand|srand'
    sources | while read -r file; do
        # without comments, character and string constants
        "$cc" -fpreprocessed -dD -E -P -w -x c "$file" 2>/dev/null |
            sed -e "s/'\([^'\\\\]\|\\\\.\)'/0/g" -e 's/"\([^"\\]\|\\.\)*"/""/g' |
            grep -oE "(^|[^A-Za-z0-9_.>])($names)[ ]*\(" | sed "s|^[^A-Za-z_]*|$file: |"
    done
    nm -A -u "${archive[0]}" 2>/dev/null |
        awk -v names="^(__)?($names|stdout|stderr)(_chk)?\$" '$NF ~ names { print $1, $NF }'
}

# Const tables with pointers live in .data.rel.ro, which is read-only once relocated.
mutable_globals() {
    objdump -t "${archive[0]}" | awk '
        /file format/ { file = $1; sub(/:$/, "", file) }
        NF >= 5 && $NF !~ /^\./ &&
        (/ \*COM\*/ || (/[ \t]\.(data|bss|tdata|tbss)[.A-Za-z0-9_]*\t/ && !/[ \t]\.data\.rel\.ro/)) {
            print file " " $NF
        }'
}

link_libraries() {
    "$cc" -shared -o "$tmp/all.so" -Wl,-z,defs -Wl,--whole-archive "${archive[0]}" \
        -Wl,--no-whole-archive -lm -pthread 2>&1 && readelf -d "$tmp/all.so" |
        sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
        grep -vE '^(libc|libm|libpthread|ld-linux[-a-z0-9_]*)\.so\.[0-9]+$'
}

close() { [ "$bad" = 0 ] || { echo "gates: $bad failed"; exit 1; }; }

[ -e "${archive[0]}" ] || { echo "gates: ${archive[0]} is missing, build first"; exit 1; }
prefix_rule='external symbols of the library start with tvlm_'
if [ -n "${name:-}" ]; then
    verdict "symbol-prefix ($name)" "$prefix_rule" < <(symbol_prefix)
    [[ $name != *android* ]] ||
        verdict "android-imports ($name)" 'nothing is imported that Android 8 (API level 26) has not' < <(android_imports)
    [[ $name != arm[v-]* ]] || verdict "fma-calls ($name)" 'no function is called for a * b + c' < <(fma_calls)
    close
    exit
fi
for tool in nm objdump readelf "$cc" "$cxx"; do
    command -v "$tool" >/dev/null || { echo "gates: $tool is missing: scripts/deps.sh test"; exit 1; }
done
# The header has it; CMake reads it there.
versions() {
    local version file
    version=$(sed -n 's/^#define TVLM_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' include/tinyvlm.h | paste -sd.)
    for file in js/package.json CITATION.cff; do
        grep -qE "^ *\"?version\"?: \"?${version//./[.]}\"?,?$" "$file" || echo "$file: not $version"
    done
}

# Older commits, and copies without their history, are let be.
commit_subjects() {
    local since=3dd70741ac55ae696d40c397f3720b963134105a
    git merge-base --is-ancestor "$since" HEAD 2>/dev/null || return 0
    git log --no-merges --format=%s "$since..HEAD" |
        awk 'length($0) > 72 || $0 !~ /^[a-z0-9_\/., -]+: [a-z0-9]/ || /\.$/'
}

verdict symbol-prefix "$prefix_rule" < <(symbol_prefix)
verdict converter-prefix 'external symbols of libtinyvlm-convert.a start with tvlmc_' < <(converter_prefix)
verdict include-graph 'a folder of src/ includes lower layers only' < <(include_graph)
verdict program-includes 'the program and the examples include tinyvlm.h and their own headers' < <(program_includes)
verdict program-symbols 'the program calls what tinyvlm.h declares, and has a prefix of its own' < <(program_symbols)
verdict wide-vectors 'only src/kernels/x86 may use ymm or zmm registers' < <(wide_vectors)
verdict header-alone 'tinyvlm.h compiles alone as C11 and C++17' < <(header_alone)
verdict refused-machines 'what would give wrong results does not compile' < <(refused_machines)
verdict system-floor 'only src/os and app/system know which system it is' < <(system_floor)
verdict banned-calls 'the library neither prints, exits nor uses unbounded calls' < <(banned_calls)
verdict mutable-globals 'the library keeps no global state' < <(mutable_globals)
verdict versions 'all versions are that of tinyvlm.h' < <(versions)
verdict commit-subjects 'a subject is "area: imperative", at most 72 characters, no full stop' < <(commit_subjects)
verdict link-libraries 'the library needs libc, libm and threads only' < <(link_libraries)
formatted=$(scripts/format.sh --check 2>&1)
if [ $? = 77 ]; then
    echo "gate format: skipped: $formatted"
else
    verdict format 'make format leaves every C file as it is' <<<"$formatted"
fi
close
