# SPDX-License-Identifier: MIT
# The commands of the README, on top of CMake (see CMakePresets.json for other builds).
PREFIX ?= /usr/local
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
MAKEFLAGS += --no-print-directory

.PHONY: all demo check test test-long mutate coverage wasm web test-swift test-coreml test-android release bench-check bench-arm bench-peers format clean install

all:
	@cmake -S . -B build -DCMAKE_BUILD_TYPE=Release
	@cmake --build build --parallel $(JOBS) --target tinyvlm tinyvlm-cli example-basic

demo:
	@scripts/deps.sh demo
	@$(MAKE) all
	build/tinyvlm describe examples/photos/dandelion.jpg examples/photos/meadow.jpg

check: # the fast tests, a twentieth of the kernels' shapes: for daily work
	@scripts/deps.sh test
	@cmake -S . -B build -DTVLM_TESTS=ON -DCMAKE_BUILD_TYPE=Release
	@cmake --build build --parallel $(JOBS)
	ctest --test-dir build --output-on-failure --parallel $(JOBS) -L '^(fast|quick)$$'

test:
	@scripts/deps.sh test
	@scripts/test.sh

test-long:
	@scripts/deps.sh long
	@scripts/test.sh long

mutate: # before a release: faults that no test sees; ONLY=REGEX plants some
	@scripts/deps.sh test
	@scripts/mutate.py $(if $(ONLY),--only '$(ONLY)') $(if $(AGAIN),--again)

coverage: # lines and branches that the C tests run, per folder, with clang; FILES=1 lists files, PROGRAM=1 runs the program's too
	@scripts/deps.sh test
	@scripts/coverage.py $(if $(FILES),--files) $(if $(PROGRAM),--program)

wasm: # js/dist/*.wasm; `npm pack ./js` then makes the package
	@scripts/deps.sh wasm
	@scripts/wasm.sh

web: wasm # PORT=8001 and ISOLATION=no change the address and leave out the headers
	node examples/web/serve.mjs --port $(or $(PORT),8000) $(if $(filter no,$(ISOLATION)),--no-isolation)

test-swift: # the Swift package; fetches Swift from Debian 13 where there is none (as root, mmdebstrap)
	@scripts/test_swift.sh

test-coreml: # tools/coreml; fetches PyTorch and coremltools into build/coreml/venv
	@scripts/test_coreml.sh

test-android: # Kotlin and JNI on this machine's JVM; fetches the Kotlin compiler from npm
	@scripts/test_android.sh build

release: # archives, npm package and checksums in build/release/dist; CHECK=1 makes them twice and compares
	@scripts/deps.sh release
	@$(MAKE) all
	@scripts/release.sh $(if $(CHECK),--check) $(TARGETS)

bench-check: # instructions of small workloads; UPDATE=1 writes the new counts
	@scripts/deps.sh test
	@cmake -S . -B build -DTVLM_TESTS=ON -DCMAKE_BUILD_TYPE=Release
	@cmake --build build --parallel $(JOBS) --target tinyvlm-cli workloads
	bench/check/check.py build $(if $(UPDATE),--update)

bench-arm: # instructions and estimated times on 64-bit ARM; UPDATE=1 writes the new counts
	@scripts/deps.sh arm
	@UPDATE=$(UPDATE) scripts/cross_test.sh counts

bench-peers: # beside other programs, on an idle machine; ONLY="decode" measures some groups alone
	@scripts/deps.sh bench
	@$(MAKE) all
	build/bench/venv/bin/python bench/peers/run.py $(if $(ONLY),--only $(ONLY))

format:
	@scripts/deps.sh test
	@scripts/format.sh

clean: # the Python packages of build/venv stay
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name venv -exec rm -rf {} +; fi

install:
	@cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$(PREFIX)"
	@$(MAKE) all
	cmake --install build
