// SPDX-License-Identifier: MIT
import Foundation
import XCTest

@testable import TinyVLM

/// Of the repository this file lies in: models and photos.
private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
private let modelPath = root.appendingPathComponent("models/tinyvlm-25m.gguf").path

/// Red above, blue below.
private func photo() throws -> RGBImage {
    var bytes: [UInt8] = []
    for y in 0..<120 {
        for _ in 0..<160 { bytes += y < 60 ? [200, 30, 30] : [30, 30, 200] }
    }
    return try RGBImage(width: 160, height: 120, bytes: bytes)
}

private func peakMemory() -> Int {
    guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return 0 }
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return line.flatMap { Int($0.split(separator: " ").dropLast().last.map(String.init) ?? "") } ?? 0
}

final class TinyVLMTests: XCTestCase {
    private static let shared = Result { try TinyVLM(modelPath: modelPath) }
    private func vlm() throws -> TinyVLM { try Self.shared.get() }

    func testInfo() throws {
        let info = try vlm().info
        XCTAssertEqual(info.architecture, "tinyvlm")
        XCTAssertEqual(info.imageSize, 224)
        XCTAssertTrue(try vlm().visionBackend.hasPrefix("CPU ("))
    }

    func testAnswersAreTheSameHoweverTheyAreAsked() async throws {
        let vlm = try vlm(), image = try photo()
        let whole = try await vlm.infer(image: image, prompt: "What is this?", maxTokens: 16)
        XCTAssertFalse(whole.isEmpty)
        var streamed = "", pieces = 0
        for try await text in vlm.stream(image: image, prompt: "What is this?", maxTokens: 16) {
            streamed += text
            pieces += 1
        }
        XCTAssertEqual(streamed, whole)
        XCTAssertGreaterThan(pieces, 1)
        let encoded = try await vlm.encode(image: image)
        for _ in 0..<2 {
            let again = try await vlm.infer(image: encoded, prompt: "What is this?", maxTokens: 16)
            XCTAssertEqual(again, whole)
        }
        await vlm.trim()
        let after = try await vlm.infer(image: encoded, prompt: "What is this?", maxTokens: 16)
        XCTAssertEqual(after, whole)
    }

    func testTheFirstPieceAlone() async throws {
        let vlm = try vlm(), image = try photo()
        var first: String?
        for try await text in vlm.stream(image: image, prompt: "Describe the image.") {
            first = text
            break
        }
        XCTAssertNotNil(first)
        _ = try await vlm.infer(image: image, prompt: "Is it red?", maxTokens: 2)  // the model is free again
    }

    func testCancel() async throws {
        let vlm = try vlm(), image = try photo()
        let task = Task { try await vlm.infer(image: image, prompt: "Describe the image.", maxTokens: 256) }
        task.cancel()
        do {
            _ = try await task.value
            XCTFail("a cancelled task has an answer")
        } catch is CancellationError {}
    }

    func testManyTasksAtOnce() async throws {
        let vlm = try vlm(), encoded = try await vlm.encode(image: photo())
        let alone = try await vlm.infer(image: encoded, prompt: "What is this?", maxTokens: 8)
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<8 { group.addTask { try await vlm.infer(image: encoded, prompt: "What is this?", maxTokens: 8) } }
            for try await answer in group { XCTAssertEqual(answer, alone) }
        }
    }

    func testSamplingAndStops() async throws {
        let vlm = try vlm(), encoded = try await vlm.encode(image: photo())
        let plain = try await vlm.infer(image: encoded, maxTokens: 16)
        let words = plain.split(separator: " ")
        XCTAssertGreaterThan(words.count, 2)
        var sampling = TinyVLM.Sampling()
        sampling.stop = [" " + words[1]]
        let cut = try await vlm.infer(image: encoded, maxTokens: 16, sampling: sampling)
        XCTAssertEqual(cut, String(words[0]))
    }

    func testATowerElsewhere() async throws {
        struct Zeros: VisionTower {
            let name = "zeros", count: Int
            func run(_ pixels: [Float], imageSize: Int) throws -> [Float] { .init(repeating: 0, count: count) }
        }
        let info = try vlm().info
        let right = try TinyVLM(modelPath: modelPath, tower: Zeros(count: info.visionTokens * info.visionWidth))
        XCTAssertEqual(right.visionBackend, "zeros")
        _ = try await right.infer(image: photo(), prompt: "What is this?", maxTokens: 4)
        let wrong = try TinyVLM(modelPath: modelPath, tower: Zeros(count: 7))
        do {
            _ = try await wrong.encode(image: photo())
            XCTFail("a tower of 7 values")
        } catch let error as TinyVLMError {
            XCTAssertEqual(error.kind, .argument)
        }
    }

    func testErrors() throws {
        XCTAssertThrowsError(try TinyVLM(modelPath: "/no/such.gguf")) {
            XCTAssertEqual(($0 as? TinyVLMError)?.kind, .io)
            XCTAssertTrue("\($0)".contains("/no/such.gguf"))
        }
        XCTAssertThrowsError(try TinyVLM(modelPath: #filePath)) { XCTAssertEqual(($0 as? TinyVLMError)?.kind, .unsupported) }
        var options = TinyVLM.Options()
        options.memoryLimit = 1_000_000
        XCTAssertThrowsError(try TinyVLM(modelPath: modelPath, options: options)) {
            XCTAssertEqual(($0 as? TinyVLMError)?.kind, .limit)
        }
        XCTAssertThrowsError(try RGBImage(width: 2, height: 2, bytes: [1, 2, 3]))
        XCTAssertThrowsError(try RGBImage(width: .max, height: 2, bytes: [1, 2, 3]))
        XCTAssertThrowsError(try RGBImage(width: 0, height: 2, bytes: []))
    }

    func testModelFilesForTowers() throws {
        let file = try GGUFFile(path: modelPath)
        XCTAssertEqual(file.texts["vision.tower"], "efficientnet_lite")
        XCTAssertEqual(try file.integers("vision.image_size", in: 1...4096), [224])
        XCTAssertEqual(try file.values("v.head.weight").shape, [1280, 320])
        let position = try file.values("mm.pool.pos")
        XCTAssertEqual(position.values.count, position.shape.reduce(1, *))
        XCTAssertTrue(position.values.allSatisfy { $0.isFinite })
        XCTAssertThrowsError(try file.values("v.none.weight"))
        XCTAssertThrowsError(try file.integers("vision.none", in: 0...1))
        XCTAssertEqual([0x3c00, 0xc000, 0x3555, 0x0001, 0x7c00].map { half($0) }, [1, -2, 0.333251953125, 0x1p-24, .infinity])
    }

    func testDamagedModelFilesForTowers() throws {
        let whole = try Data(contentsOf: URL(fileURLWithPath: modelPath))
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("tinyvlm-damaged.gguf")
        defer { try? FileManager.default.removeItem(at: path) }
        for size in [0, 3, 8, 20, 24, 100, 5000, 100_000] {
            try whole.prefix(size).write(to: path)
            XCTAssertThrowsError(try GGUFFile(path: path.path), "\(size) bytes")
        }
        try whole.prefix(3_000_000).write(to: path)  // the header is whole, the tensors are not
        XCTAssertThrowsError(try GGUFFile(path: path.path).values("token_embd.weight"))
        var wrong = whole.prefix(100_000)
        for at in 8..<24 { wrong[at] = 0xff }  // as many tensors and keys as a number can say
        try wrong.write(to: path)
        XCTAssertThrowsError(try GGUFFile(path: path.path))
    }

    /// 1,000 inferences; memory is taken once.
    func testFlatMemory() async throws {
        let vlm = try vlm(), image = try photo()
        var before = 0
        for i in 0..<1000 {
            if i == 100 { before = peakMemory() }
            _ = try await vlm.infer(image: image, prompt: "Is it red?", maxTokens: 1)
        }
        XCTAssertLessThan(peakMemory() - before, 2000)  // KiB
    }
}
