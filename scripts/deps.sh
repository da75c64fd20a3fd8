#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/deps.sh demo|wasm|test|long|release|arm|bench
# Installs what `make demo`, `make wasm` or `make test` needs and this machine lacks: on Debian and Ubuntu with
# apt-get (sudo unless root); elsewhere prints the command and stops. Needs no network when nothing
# is missing. `test` also sets up build/venv with the pinned packages of tests/requirements.txt;
# `long` adds tests/requirements-long.txt, `release` and `arm` of it what scripts/release.sh and `make bench-arm` need;
# `bench` is for the peers of `make bench-peers`, in build/bench/venv.
set -euo pipefail
cd "$(dirname "$0")/.."

have() { command -v "$1" >/dev/null 2>&1; }
lib() { pkg-config --exists "$@" 2>/dev/null; }
header() { echo "#include <$1>" | cc -x c -fsyntax-only - 2>/dev/null; }
# Some distributions package the sanitizers apart from the compiler.
clang_runtime() {
    echo 'int main(void) { return 0; }' |
        clang -x c - -fsanitize=address -o /dev/null 2>/dev/null
}
wasm_runtime() { [ -f "$(clang-19 --target=wasm32-wasi -print-resource-dir 2>/dev/null)/lib/wasi/libclang_rt.builtins-wasm32.a" ]; }
wasm_libc() { [ -f /usr/lib/wasm32-wasi/libc.a ]; }
wine64() { [ -x /usr/lib/wine/wine64 ] || have wine64; }
# Of Debian and Ubuntu; elsewhere the test is skipped.
arm_tools() { ! have apt-get || { have aarch64-linux-gnu-gcc && have qemu-aarch64-static; }; }
python_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

# set | check | apt | dnf | pacman | brew
needs='
demo|have gcc|gcc libc6-dev|gcc|gcc|gcc
demo|have make|make|make|make|make
demo|have cmake|cmake|cmake|cmake|cmake
demo|have pkg-config|pkg-config|pkgconf-pkg-config|pkgconf|pkg-config
demo|lib libjpeg|libjpeg-dev|libjpeg-turbo-devel|libjpeg-turbo|jpeg-turbo
demo|lib spng|libspng-dev|libspng-devel|libspng|libspng
demo|lib libwebp libwebpdemux|libwebp-dev|libwebp-devel|libwebp|webp
demo|header gif_lib.h|libgif-dev|giflib-devel|giflib|giflib
demo|lib libheif|libheif-dev libheif-plugin-libde265 libheif-plugin-dav1d|libheif-devel|libheif|libheif
demo|lib libexif|libexif-dev|libexif-devel|libexif|libexif
demo|lib libedit|libedit-dev|libedit-devel|libedit|libedit
demo|lib libarchive|libarchive-dev|libarchive-devel|libarchive|libarchive
demo|lib jansson|libjansson-dev|jansson-devel|jansson|jansson
wasm|have clang-19|clang-19|clang|clang|llvm
wasm|have wasm-ld-19|lld-19|lld|lld|lld
wasm|wasm_runtime|libclang-rt-19-dev-wasm32|wasi-compiler-rt|wasi-compiler-rt|wasi-runtimes
wasm|wasm_libc|wasi-libc|wasi-libc-static|wasi-libc|wasi-libc
wasm|have node|nodejs npm|nodejs|nodejs npm|node
test|have chromium|chromium|chromium|chromium|chromium
test|have g++|g++|gcc-c++|gcc|gcc
test|have clang|clang|clang|clang|llvm
test|clang_runtime|libclang-rt-dev|compiler-rt|compiler-rt|llvm
test|have objdump|binutils|binutils|binutils|binutils
test|lib cmocka|libcmocka-dev|libcmocka-devel|cmocka|cmocka
test|have llvm-nm|llvm|llvm|llvm|llvm
test|have valgrind|valgrind|valgrind|valgrind|valgrind
test|arm_tools|gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
test|python_venv|python3 python3-venv|python3|python|python
long|have x86_64-w64-mingw32-gcc|gcc-mingw-w64-x86-64|mingw64-gcc|mingw-w64-gcc|mingw-w64
long|wine64|wine64|wine|wine|wine-stable
long|have javac|default-jdk-headless|java-latest-openjdk-devel|jdk-openjdk|openjdk
long|have nasm|nasm|nasm|nasm|nasm
long|have dpkg-source|dpkg-dev|dpkg-dev|dpkg|dpkg
long|have zip|zip|zip|zip|zip
long|have unzip|unzip|unzip|unzip|unzip
long|have llvm-lipo-19|llvm-19|llvm|llvm|llvm
long|have qemu-aarch64-static|qemu-user-static|qemu-user-static|qemu-user-static|qemu
'

# missing COLUMN: packages of that column whose check fails
missing() {
    local set check apt dnf pacman brew columns
    while IFS='|' read -r set check apt dnf pacman brew; do
        [ -n "$set" ] || continue
        case $goal-$set in demo-wasm | demo-test | wasm-test | wasm-demo | bench-wasm | bench-test) continue ;; esac
        [[ $set != long || $goal = @(long|release|arm) ]] || continue
        columns=([1]="$apt" [2]="$dnf" [3]="$pacman" [4]="$brew")
        $check || printf '%s ' "${columns[$1]}"
    done <<<"$needs"
}

install_system() {
    [ -n "$(missing 1)" ] || return 0
    local root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    if have apt-get && have "${root[@]:-true}"; then
        local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q
            -o DPkg::Lock::Timeout=300)
        "${apt[@]}" update
        local package packages=()
        for package in $(missing 1); do # releases differ in how they split packages
            ! apt-cache show "$package" >/dev/null 2>&1 || packages+=("$package")
        done
        echo "Installing: ${packages[*]}"
        "${apt[@]}" install -y --no-install-recommends "${packages[@]}"
    else
        echo "Some packages are missing. Install them and run this again:"
        if have apt-get; then
            echo "    apt-get install $(missing 1)"
        elif have dnf; then
            echo "    sudo dnf install $(missing 2)"
        elif have pacman; then
            echo "    sudo pacman -S --needed $(missing 3)"
        elif have brew; then
            echo "    brew install $(missing 4)"
        else
            echo "    (names as in Debian) $(missing 1)"
        fi
        exit 1
    fi
    local left
    left=$(missing 1)
    [ -z "$left" ] || { echo "Still missing after installing: $left"; exit 1; }
}

install_python() {
    local wanted=tests/requirements.txt data=tests/requirements-data.txt
    local done=build/venv/requirements.txt
    cat "$wanted" "$data" | cmp -s - "$done" && return 0
    python3 -m venv build/venv
    local pip=(build/venv/bin/python -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" -r "$wanted"
    "${pip[@]}" --no-deps -r "$data"
    cat "$wanted" "$data" >"$done"
}

# install_some REGEX: of the long tests' packages
install_some() {
    grep -E "^($1)" tests/requirements-long.txt |
        build/venv/bin/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
}

# npm waits for the network, pip for the processor
install_packages() {
    install_node &
    install_python
    install_headers
    wait $!
}

# The C headers of other systems, for scripts/cross.sh: zig's package has them.
install_headers() {
    local wanted folder=build/cross/headers
    wanted=$(grep '^ziglang==' tests/requirements-long.txt)
    [ "$(cat "$folder/installed.txt" 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf "$folder"
    build/venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir \
        --dest "$folder" "$wanted"
    (cd "$folder" && ../../venv/bin/python -c '
import glob, re, zipfile
wheel = zipfile.ZipFile(glob.glob("*.whl")[0])
kept = re.compile(r"ziglang/lib/libc/include/(any-(darwin|linux|windows)|generic-(musl|freebsd)|(x86_64|x86|aarch64|arm)-(linux|freebsd))")
wheel.extractall(members=filter(kept.match, wheel.namelist()))')
    rm "$folder"/*.whl
    echo "$wanted" >"$folder/installed.txt"
}

install_node() {
    local folder=tests/js
    cmp -s "$folder/package-lock.json" "$folder/node_modules/installed.json" && return 0
    npm ci --prefix "$folder" --no-audit --no-fund --silent
    cp "$folder/package-lock.json" "$folder/node_modules/installed.json"
}

# The peers of `make bench-peers`; llama.cpp is compiled for this machine, which takes minutes.
install_peers() {
    local folder=bench/peers venv=build/bench/venv
    cat "$folder"/requirements*.txt | cmp -s - "$venv/requirements.txt" && return 0
    python3 -m venv "$venv"
    local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" -r "$folder/requirements.txt"
    "${pip[@]}" --no-deps -r "$folder/requirements-data.txt"
    cat "$folder"/requirements*.txt >"$venv/requirements.txt"
}

goal=${1:-}
case $goal in
demo | wasm) install_system ;;
test)
    install_system
    install_packages
    ;;
long)
    install_system
    install_packages
    build/venv/bin/python -m pip install --quiet --disable-pip-version-check \
        -r tests/requirements-long.txt
    ;;
release)
    install_system
    install_python
    install_some 'ziglang|cyclonedx'
    ;;
arm)
    install_system
    install_python
    install_some 'ziglang|unicorn'
    ;;
bench)
    install_system
    install_peers
    ;;
*)
    sed -n '3,8s/^# //p' "$0"
    exit 2
    ;;
esac
