#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/test_swift.sh
# The Swift package: its tests, a type check of what needs Apple frameworks and of docs/MOBILE.md's examples, and a package
# that takes it by a version tag. Where there is no `swift`, one is taken from Debian 13 into build/swift (as root, once:
# 2 minutes, 1.7 GB), and run from there.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/build/swift/root
model=models/tinyvlm-25m.gguf

fetch() {
    [ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null || {
        echo "test_swift: no swift on PATH, and no mmdebstrap (or no root) to fetch one" >&2
        exit 1
    }
    mkdir -p build/swift
    rm -rf "$root.new"
    mmdebstrap --quiet --variant=apt --include=swiftlang,libc6-dev,libstdc++-14-dev,git \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/libexec/swift/bin/*lldb*' --dpkgopt='path-exclude=/usr/libexec/swift/lib/liblldb*' \
        trixie "$root.new"
    mv "$root.new" "$root"
}

# In a namespace of its own: nothing stays mounted. The copy of the sources is read from /tinyvlm.
inside() {
    mkdir -p "$root/tinyvlm" "$root/scratch"
    unshare -m -p -n --fork --kill-child bash -euc '
        mount --bind "$1" "$2/tinyvlm" && mount -t proc proc "$2/proc" && mount --bind /dev "$2/dev"
        exec chroot "$2" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/scratch LANG=C.UTF-8 SOURCES=/tinyvlm SCRATCH=/scratch bash -euc "$3"' _ "$1" "$root" "$2"
}

# As a user gets it: what git has, with what is new here.
copy=build/swift/tinyvlm # a package goes by the name of its folder
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp -p --parents -t "$copy"
git -C "$copy" init -q
git -C "$copy" -c user.name=test -c user.email=test@localhost add -A
git -C "$copy" -c user.name=test -c user.email=test@localhost commit -qm "tests: copy"
git -C "$copy" tag 0.1.0
[ ! -x build/tinyvlm ] || { # and a FastVLM of random weights, where the program is there to make it
    mkdir "$copy/build"
    build/tinyvlm convert tests/data/golden/tiny "$copy/build/fastvlm.gguf" --type f32 --quiet
}

commands='
swift --version 2>&1 | head -1
cd "$SOURCES"
# What needs Apple frameworks, against stubs of them, by the rules of Swift 6.
mkdir -p $SCRATCH/stubs
compile() { swiftc -parse-as-library -I "$SCRATCH/stubs" -I bindings/swift/include "$@"; }
for module in CoreGraphics CoreVideo CoreML CryptoKit SwiftUI AVFoundation Metal MetalPerformanceShaders MetalPerformanceShadersGraph; do
    compile -emit-module -module-name $module -o $SCRATCH/stubs/$module.swiftmodule bindings/swift/Tests/stubs/$module.swift
done
compile -emit-module -swift-version 6 -warnings-as-errors -module-name TinyVLM -o $SCRATCH/stubs/TinyVLM.swiftmodule \
    bindings/swift/Sources/TinyVLM/*.swift
compile -typecheck -swift-version 6 -warnings-as-errors bindings/swift/Sample/*.swift
if sed "s/videoSettings/videoSetting/" bindings/swift/Sample/CameraVLMView.swift | compile -typecheck - 2>/dev/null; then
    echo "a planted error is not seen"
    exit 1
fi
examples=$(tests/docs/examples.sh docs/MOBILE.md swift tests/docs/example.swift $SCRATCH/examples)
for example in $examples; do
    compile -typecheck -swift-version 6 -suppress-warnings $example
done
if sed "s/vlm[.]infer(/vlm.inferred(/" $SCRATCH/examples/MOBILE-1.swift | compile -typecheck - 2>/dev/null; then
    echo "an error planted in an example is not seen"
    exit 1
fi
echo "Apple parts, $(wc -w <<<$examples) examples: type-checked"
swift test -c release --disable-sandbox --scratch-path $SCRATCH/test -Xswiftc -enable-testing

# The tower on Metal, its framework replaced by a stand-in that computes, beside the library'"'"'s own.
cd $SCRATCH/stubs
for module in CoreGraphics CoreVideo CoreML CryptoKit Metal MetalPerformanceShaders MetalPerformanceShadersGraph; do
    compile -O -wmo -c -module-name $module -o $module.o "$SOURCES"/bindings/swift/Tests/stubs/$module.swift
done
compile -I "$SOURCES"/bindings/swift/include -O -wmo -emit-module -emit-module-path TinyVLM.swiftmodule -c -swift-version 6 -module-name TinyVLM -o TinyVLM.o \
    "$SOURCES"/bindings/swift/Sources/TinyVLM/*.swift
swiftc -O -I . -I "$SOURCES"/bindings/swift/include -o towers "$SOURCES"/bindings/swift/Tests/towers/main.swift *.o \
    $(find $SCRATCH/test/release/CTinyVLM.build -name "*.o") -lm
XDG_CACHE_HOME=$SCRATCH/caches ./towers "$SOURCES"/'$model' $(find "$SOURCES"/build -name fastvlm.gguf 2>/dev/null)

# The line that the documents tell to write, its address answered from here.
cd "$SOURCES"/bindings/swift/Tests/consumer
line=$(grep -oF ".package(url: \"https://github.com/tinyvlm/tinyvlm\", from: \"0.1.0\")" Package.swift)
grep -qF "$line" "$SOURCES"/README.md
grep -qF "$line" "$SOURCES"/docs/MOBILE.md
export GIT_CONFIG_GLOBAL=$SCRATCH/gitconfig
git config --global safe.directory "*"
git config --global url."file://$SOURCES".insteadOf https://github.com/tinyvlm/tinyvlm
rm -rf $SCRATCH/security # which commit the tag was at
swift build -c release --disable-sandbox --scratch-path $SCRATCH/consumer --cache-path $SCRATCH/cache --security-path $SCRATCH/security
said=$($SCRATCH/consumer/release/consumer "$SOURCES"/'$model')
echo "consumer: $(head -1 <<<"$said"), with $(tail -1 <<<"$said") KiB of memory at its peak"
[ -n "$(head -1 <<<"$said")" ]
[ "$(uname)" != Linux ] || [ "$(tail -1 <<<"$said")" -lt 58593 ] # 60 MB
'
if command -v swift >/dev/null; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    SOURCES=$PWD/$copy SCRATCH=$work bash -euc "$commands"
else
    [ -d "$root" ] || fetch
    inside "$PWD/$copy" "$commands"
fi
