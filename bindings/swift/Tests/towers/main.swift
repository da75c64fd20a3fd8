// SPDX-License-Identifier: MIT
// MPSGraphTower over the stand-in for its framework: models answer as with the library's own tower.
import Foundation
import TinyVLM

var bytes: [UInt8] = []
for y in 0..<96 { for x in 0..<128 { bytes += [UInt8(2 * x), UInt8(2 * y), UInt8((x * y) % 256)] } }
let image = try RGBImage(width: 128, height: 96, bytes: bytes)
for path in CommandLine.arguments.dropFirst() {
    let own = try TinyVLM(modelPath: path), metal = try TinyVLM(modelPath: path, tower: MPSGraphTower(modelPath: path))
    for question in ["Describe the image.", "What is this?"] {
        let expected = try await own.infer(image: image, prompt: question, maxTokens: 12)
        let answer = try await metal.infer(image: image, prompt: question, maxTokens: 12)
        print("\(own.visionBackend): \(expected)\n\(metal.visionBackend): \(answer)")
        guard answer == expected, !answer.isEmpty else { exit(1) }
    }
}
