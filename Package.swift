// swift-tools-version:5.9
// SPDX-License-Identifier: MIT
// The library from its C sources, and a Swift API above it: docs/MOBILE.md. No unsafe flags, so that a package may
// depend on a version tag of it.
import PackageDescription

let package = Package(
    name: "tinyvlm",
    platforms: [.iOS(.v15), .macOS(.v12), .macCatalyst(.v15)],
    products: [.library(name: "TinyVLM", targets: ["TinyVLM"])],
    targets: [
        .target(
            name: "CTinyVLM",
            path: ".",
            exclude: [
                "CHANGELOG.md", "CITATION.cff", "CMakeLists.txt", "CMakePresets.json", "CONTRIBUTING.md", "LICENSE",
                "Makefile", "NOTICE", "README.md", "SECURITY.md", "app", "bench", "docs", "examples", "include", "js",
                "models", "scripts", "tests", "tools", "train", "bindings/android", "bindings/swift/Sample",
                "bindings/swift/Sources", "bindings/swift/Tests",
            ],
            sources: ["src"],
            publicHeadersPath: "bindings/swift/include",
            cSettings: [.headerSearchPath("src"), .headerSearchPath("include")],
            linkerSettings: [.linkedLibrary("m", .when(platforms: [.linux]))]),
        .target(name: "TinyVLM", dependencies: ["CTinyVLM"], path: "bindings/swift/Sources/TinyVLM"),
        .testTarget(name: "TinyVLMTests", dependencies: ["TinyVLM"], path: "bindings/swift/Tests/TinyVLMTests"),
    ],
    cLanguageStandard: .c11)
