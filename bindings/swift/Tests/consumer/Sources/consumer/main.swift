// SPDX-License-Identifier: MIT
// consumer MODEL.gguf: asks about a red image, then says how much memory that took at most.
import Foundation
import TinyVLM

let vlm = try TinyVLM(modelPath: CommandLine.arguments[1])
let image = try RGBImage(width: 64, height: 64, bytes: [UInt8](repeating: 0, count: 64 * 64 * 3).enumerated().map { $0.0 % 3 == 0 ? 220 : 20 })
for try await text in vlm.stream(image: image, prompt: "What color is it?", maxTokens: 16) { print(text, terminator: "") }
print()

var usage = rusage()
getrusage(0, &usage) // RUSAGE_SELF, which is of another type on each system
print(usage.ru_maxrss) // KiB on Linux
