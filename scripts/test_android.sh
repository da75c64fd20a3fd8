#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/test_android.sh BUILD-DIR
# The Android library's Kotlin and JNI on this machine's JVM, under -Xcheck:jni; its Android part, the samples and the documents'
# examples against Debian 11's android.jar (API 23), where that can be had. The Kotlin compiler comes from npm (90 MB, once).
set -euo pipefail
mkdir -p "${1:?usage: scripts/test_android.sh BUILD-DIR}"
build=$(realpath "$1")
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

cmake -S $lib/main/cpp -B "$work/jni" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_C_FLAGS="-isystem $java_home/include -isystem $java_home/include/linux"
cmake --build "$work/jni" --parallel "$(nproc)"
bash "$kotlin/bin/kotlinc" -Werror -jvm-target 1.8 -cp "$runtime" $lib/main $lib/test -d "$work/tests.jar"

run_tests() { # JAR; a heap of a size and touched, so that what grows is ours
    java -Xcheck:jni -Xms64m -Xmx64m -XX:+AlwaysPreTouch "-Djava.library.path=$work/jni" -cp "$1:$runtime" dev.tinyvlm.TinyVlmTestKt models/tinyvlm-25m.gguf \
        tests/fuzz/corpus/gguf/{tinyvlm,llama}.gguf | tee "$work/log"
    if grep -i "warning\|fatal error in native" "$work/log"; then exit 1; fi # of -Xcheck:jni
    grep -qx "android: ok" "$work/log"
}
run_tests "$work/tests.jar"

jar=$work/android.jar
if [ ! -e "$work/proguard.jar" ] && command -v mmdebstrap >/dev/null; then
    rm -rf "$work/bullseye"
    if mmdebstrap --quiet --variant=extract --include=libandroid-23-java,libproguard-java bullseye "$work/bullseye"; then
        cp "$(find "$work/bullseye/usr" -name android.jar | head -1)" "$jar"
        cp "$work"/bullseye/usr/share/java/proguard.jar "$work"
    fi
    rm -rf "$work/bullseye"
fi
# The folder that docs/MOBILE.md names in settings.gradle.kts.
module=$(sed -n 's|.*projectDir = file("tinyvlm/\(.*\)")|\1|p' docs/MOBILE.md)
[ -e "${module:?docs/MOBILE.md names none}/build.gradle.kts" ]

android() { bash "$kotlin/bin/kotlinc" -Werror -no-jdk -jvm-target 1.8 -cp "$jar:$runtime${part:+:$part}" "$@"; }
examples() { tests/docs/examples.sh "$1" kotlin tests/docs/example.kt "$work/examples"; }
if [ -e "$jar" ]; then
    # As in an app that is shrunk and whose classes are renamed.
    java -jar "$work/proguard.jar" -injars "$work/tests.jar" -outjars "$work/small.jar" -libraryjars "$jar:$runtime" -forceprocessing \
        -include $lib/../consumer-rules.pro -keep 'class dev.tinyvlm.TinyVlmTestKt { void main(java.lang.String[]); }' \
        -dontwarn -dontnote -dontoptimize >"$work/log" || { cat "$work/log"; exit 1; }
    run_tests "$work/small.jar"
    rm -rf "$work/examples"
    mobile=$(examples docs/MOBILE.md)
    webview=$(examples js/README.md)
    android $lib/main/kotlin{,-android} bindings/android/sample/src tests/docs/{androidx,webkit26}.kt -d "$work/android-part.jar"
    part=$work/android-part.jar
    java -cp "$work/tests.jar:$part:$runtime" dev.tinyvlm.SampleTestKt
    android -nowarn $mobile $webview -d "$work/examples.jar"
    sed 's/vlm[.]ask(/vlm.asked(/' "$work/examples/MOBILE-1.kt" >"$work/planted.kt"
    if android -nowarn "$work/planted.kt" -d "$work/examples.jar" 2>/dev/null; then
        echo "an error planted in an example is not seen"
        exit 1
    fi
    echo "android.jar: compiles, with $(wc -w <<<"$mobile $webview") examples"
else
    echo "android.jar: not to be had, its part is not compiled"
fi
