#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/test_android.sh BUILD-DIR   (with libtinyvlm.a, position independent)
# The Android library's Kotlin and JNI on this machine's JVM, under -Xcheck:jni; its Android part against Debian 11's
# android.jar (API 23), where that can be had. The Kotlin compiler comes from npm (90 MB, once).
set -euo pipefail
build=$(realpath "${1:?usage: scripts/test_android.sh BUILD-DIR}")
cd "$(dirname "$0")/.."
work=$build/android
lib=bindings/android/tinyvlm/src
java_home=${JAVA_HOME:-$(dirname "$(dirname "$(realpath "$(command -v javac)")")")}
mkdir -p "$work"
work=$(realpath "$work")

kotlin=$work/kotlin/package
if [ ! -d "$kotlin" ]; then
    mkdir -p "$work/kotlin.new"
    (cd "$work/kotlin.new" && npm pack --silent kotlin-compiler@2.4.20 && tar xzf kotlin-compiler-*.tgz && rm kotlin-compiler-*.tgz)
    mv "$work/kotlin.new" "$work/kotlin"
fi
libs=$kotlin/lib
coroutines=$libs/kotlinx-coroutines-core-jvm.jar
runtime=$libs/kotlin-stdlib.jar:$coroutines:$libs/kotlin-test.jar

"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -Iinclude \
    "-I$java_home/include" "-I$java_home/include/linux" $lib/main/cpp/jni.c "$build/libtinyvlm.a" -lm -pthread \
    -Wl,--exclude-libs,ALL -o "$work/libtinyvlm_jni.so"
bash "$kotlin/bin/kotlinc" -nowarn -Werror -jvm-target 1.8 -cp "$runtime" $lib/main/kotlin $lib/test/kotlin -d "$work/tests.jar"
java -Xcheck:jni "-Djava.library.path=$work" -cp "$work/tests.jar:$runtime" dev.tinyvlm.TinyVlmTestKt models/tinyvlm-25m.gguf |
    tee "$work/log"
if grep -i "warning\|fatal error in native" "$work/log"; then exit 1; fi # of -Xcheck:jni
grep -qx "android: ok" "$work/log"

jar=$work/android.jar
if [ ! -e "$jar" ] && command -v mmdebstrap >/dev/null; then
    rm -rf "$work/bullseye"
    if mmdebstrap --quiet --variant=extract --include=libandroid-23-java bullseye "$work/bullseye"; then
        cp "$(find "$work/bullseye/usr" -name android.jar | head -1)" "$jar"
    fi
    rm -rf "$work/bullseye"
fi
if [ -e "$jar" ]; then
    bash "$kotlin/bin/kotlinc" -nowarn -no-jdk -jvm-target 1.8 -cp "$jar:$runtime" $lib/main/kotlin $lib/main/kotlin-android \
        bindings/android/sample/src -d "$work/android-part.jar"
    echo "android.jar: compiles"
else
    echo "android.jar: not to be had, its part is not compiled"
fi
