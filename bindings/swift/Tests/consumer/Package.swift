// swift-tools-version:5.9
// SPDX-License-Identifier: MIT
// An app's package: scripts/test_swift.sh builds it against a version tag. TINYVLM_URL: where the repository is.
import Foundation
import PackageDescription

let url = ProcessInfo.processInfo.environment["TINYVLM_URL"] ?? "https://github.com/tinyvlm/tinyvlm"
let package = Package(
    name: "consumer",
    platforms: [.iOS(.v15), .macOS(.v12)],
    dependencies: [.package(url: url, from: "0.1.0")],
    targets: [.executableTarget(name: "consumer", dependencies: [.product(name: "TinyVLM", package: "tinyvlm")])])
