// swift-tools-version:5.9
// SPDX-License-Identifier: MIT
// An app's package: scripts/test_swift.sh builds it against a version tag.
import PackageDescription

let package = Package(
    name: "consumer",
    platforms: [.iOS(.v15), .macOS(.v12)],
    dependencies: [.package(url: "https://github.com/tinyvlm/tinyvlm", from: "0.1.0")],
    targets: [.executableTarget(name: "consumer", dependencies: [.product(name: "TinyVLM", package: "tinyvlm")])])
