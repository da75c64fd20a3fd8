// SPDX-License-Identifier: MIT
// towers MODEL.gguf...: what needs Apple's frameworks, over the stand-ins for them.
import CoreML
import CoreVideo
import Foundation
import TinyVLM

func expect(_ fine: Bool, _ what: @autoclosure () -> String, line: Int = #line) {
    if fine { return }
    print("FAILED, line \(line): \(what())")
    exit(1)
}

func kindOf(_ body: () throws -> Void) -> TinyVLMError.Kind? {
    do { try body() } catch { return (error as? TinyVLMError)?.kind }
    return nil
}

var bytes: [UInt8] = []
for y in 0..<96 { for x in 0..<128 { bytes += [UInt8(2 * x), UInt8(2 * y), UInt8((x * y) % 256)] } }
let image = try RGBImage(width: 128, height: 96, bytes: bytes)

/// Models answer as with the library's own tower.
func compare(_ path: String, _ other: TinyVLM, _ backend: String) async throws {
    let own = try TinyVLM(modelPath: path)
    for question in ["Describe the image.", "What is this?"] {
        let expected = try await own.infer(image: image, prompt: question, maxTokens: 12)
        let answer = try await other.infer(image: image, prompt: question, maxTokens: 12)
        print("\(own.visionBackend): \(expected)\n\(other.visionBackend): \(answer)")
        expect(other.visionBackend == backend && answer == expected && !answer.isEmpty, answer)
    }
}

/// The tower by Core ML: on all units, else on the CPU, else the library's own. Each is opened once.
func coreML(_ path: String) async throws {
    let graph = try MPSGraphTower(modelPath: path), info = try TinyVLM(modelPath: path).info
    MLModel.program = { inputs in
        let pixels = MLShapedArray<Float>(converting: inputs["pixels"]!).scalars
        let shape = [1, info.visionTokens, info.visionWidth].map { NSNumber(value: $0) }
        let tokens = try MLMultiArray(shape: shape, dataType: .float32)
        try graph.run(pixels, imageSize: info.imageSize).withUnsafeBytes { tokens.dataPointer.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        return ["vision_tokens": tokens]
    }
    let wishes: [([MLComputeUnits], Bool, [MLComputeUnits], String)] = [
        ([], true, [.all], "Core ML"), ([], false, [.cpuOnly], "Core ML (CPU)"), ([.all], true, [.all, .cpuOnly], "Core ML (CPU)"),
        ([.all, .cpuOnly], true, [.all, .cpuOnly], try TinyVLM(modelPath: path).visionBackend),
    ]
    for (refused, useNeuralEngine, opened, backend) in wishes {
        MLModel.refused = refused
        MLModel.opened = []
        let vlm = try TinyVLM(modelPath: path, useNeuralEngine: useNeuralEngine, visionModel: "tower.mlmodelc")
        expect(MLModel.opened == opened, "\(MLModel.opened)")
        try await compare(path, vlm, backend)
    }
    MLModel.refused = []
    MLModel.program = { _ in [:] }
    let empty = try TinyVLM(modelPath: path, visionModel: "tower.mlmodelc")
    do {
        _ = try await empty.encode(image: image)
        expect(false, "a program without output")
    } catch { expect((error as? TinyVLMError)?.kind == .format, "\(error)") }
}

/// A file whose shapes do not fit each other is an error, never the end of the app.
func damaged(_ path: String) throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("tinyvlm-towers.gguf")
    defer { try? FileManager.default.removeItem(at: file) }
    for name in ["mm.pool.lo.weight", "mm.pool.norm.bias", "v.head.weight", "v.blk.1.project.weight"] {
        var data = try Data(contentsOf: URL(fileURLWithPath: path))
        data.replaceSubrange(data.range(of: Data("tinyvlm.header_crc32c".utf8))!, with: Data("general.header_crc32c".utf8))
        let at = data.range(of: Data(name.utf8))!.upperBound + 4  // behind the number of its dimensions
        data[at] ^= 0x60
        try data.write(to: file)
        let kind = kindOf { _ = try MPSGraphTower(modelPath: file.path) }
        expect(kind == .format, "\(name): \(String(describing: kind))")
    }
}

/// Rows of camera frames are longer than the image; formats but 32BGRA are refused.
func frames() throws {
    let bgra: [UInt8] = [1, 2, 3, 255, 4, 5, 6, 255, 9, 9, 9, 9, 7, 8, 9, 255, 10, 11, 12, 255]
    let buffer = CVBuffer(format: kCVPixelFormatType_32BGRA, width: 2, height: 2, bytesPerRow: 12, bytes: bgra)
    let frame = try RGBImage(buffer)
    expect(frame.bytes == [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10] && frame.width == 2 && frame.height == 2, "\(frame.bytes)")
    let planar = CVBuffer(format: 0x3432_3066, width: 2, height: 2, bytesPerRow: 2, bytes: bgra)
    expect(kindOf { _ = try RGBImage(planar) } == .unsupported, "420f")
    let none = CVBuffer(format: kCVPixelFormatType_32BGRA, width: 2, height: 2, bytesPerRow: 12, bytes: [])
    expect(kindOf { _ = try RGBImage(none) } == .io, "a buffer without memory")
    expect([buffer, planar, none].allSatisfy { $0.locks == 0 }, "a buffer stays locked")
}

for path in CommandLine.arguments.dropFirst() {
    try await compare(path, TinyVLM(modelPath: path, tower: MPSGraphTower(modelPath: path)), "Metal")
}
try await coreML(CommandLine.arguments[1])
try damaged(CommandLine.arguments[1])
try frames()
