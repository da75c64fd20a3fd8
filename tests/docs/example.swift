// SPDX-License-Identifier: MIT
// What the Swift examples of docs/MOBILE.md find: scripts/test_swift.sh.
import CoreGraphics
import CoreVideo
import Foundation
import TinyVLM

private func example(model: String, pixelBuffer: CVPixelBuffer, cgImage: CGImage) async throws {
    var label = ""
    // EXAMPLE
}
