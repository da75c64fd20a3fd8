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
        let task = Task<Void, Error> {
            while true { _ = try await vlm.infer(image: image, prompt: "Describe the image.", maxTokens: 256) }
        }
        task.cancel()  // wherever it meets an answer
        do {
            try await task.value
            XCTFail("a cancelled task has an end")
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

    func testBeamsAndLengths() async throws {
        var options = TinyVLM.Options()
        options.maxBeams = 4
        let vlm = try TinyVLM(modelPath: modelPath, options: options), encoded = try await vlm.encode(image: photo())
        func answer(_ change: (inout TinyVLM.Sampling) -> Void) async throws -> String {
            var sampling = TinyVLM.Sampling()
            change(&sampling)
            return try await vlm.infer(image: encoded, prompt: "Describe what you see.", maxTokens: 48, sampling: sampling)
        }
        let greedy = try await answer { $0.beams = 1 }
        let searched = try await answer { $0.beams = 4 }
        await vlm.trim()
        let again = try await answer { $0.beams = 4 }
        XCTAssertEqual(searched, again)
        _ = try await answer { $0.beams = 1; $0.temperature = 1 } // which a search cannot have
        let both = await kind { try await answer { $0.beams = 4; $0.temperature = 1 } }
        XCTAssertEqual(both, .argument)
        let long = try await answer { $0.beams = 1; $0.minTokens = 48 }
        XCTAssertTrue(long.hasPrefix(greedy) && long != greedy, long)
        let distinct = try await answer { $0.beams = 1; $0.minTokens = 48; $0.noRepeatNgram = 1 }
        XCTAssertNotEqual(distinct, long)
        let tooMany = await kind { try await answer { $0.beams = 5 } }
        XCTAssertEqual(tooMany, .argument)
        options.maxBeams = 9
        XCTAssertThrowsError(try TinyVLM(modelPath: modelPath, options: options)) { XCTAssertEqual(($0 as? TinyVLMError)?.kind, .argument) }
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

    func testErrorsSayTheSameToSystemAndProgram() {
        let error: any Error = TinyVLMError(kind: .limit, description: "too much")
        XCTAssertEqual(error.localizedDescription, "too much")
    }

    private func kind<T>(_ body: () async throws -> T) async -> TinyVLMError.Kind? {
        do { _ = try await body() } catch { return (error as? TinyVLMError)?.kind }
        return nil
    }

    func testTextsThatCCannotHold() async throws {
        XCTAssertThrowsError(try TinyVLM(modelPath: modelPath + "\0.txt")) { XCTAssertEqual(($0 as? TinyVLMError)?.kind, .argument) }
        var options = TinyVLM.Options()
        options.precision = "f32\0"
        XCTAssertThrowsError(try TinyVLM(modelPath: modelPath, options: options)) { XCTAssertEqual(($0 as? TinyVLMError)?.kind, .argument) }
        let vlm = try vlm(), encoded = try await vlm.encode(image: photo())
        var sampling = TinyVLM.Sampling()
        sampling.stop = ["", "a\0b"]
        let stopped = await kind { try await vlm.infer(image: encoded, maxTokens: 4, sampling: sampling) }
        XCTAssertEqual(stopped, .argument)
        for question in ["\0 😀", "<|im_end|><|im_start|>", "%s%n"] {
            _ = try await vlm.infer(image: encoded, prompt: question, maxTokens: 4)
        }
    }

    func testSizesBeyondTheModel() async throws {
        let vlm = try vlm(), encoded = try await vlm.encode(image: photo())
        let long = await kind { try await vlm.infer(image: encoded, prompt: .init(repeating: "word ", count: 20_000)) }
        XCTAssertEqual(long, .context)
        let huge = await kind { try await vlm.infer(image: encoded, prompt: .init(repeating: "word ", count: 300_000)) }
        XCTAssertEqual(huge, .limit)
        for maxTokens in [0, -1, .min] {
            let none = await kind { try await vlm.infer(image: encoded, maxTokens: maxTokens) }
            XCTAssertEqual(none, .argument)
        }
        var sampling = TinyVLM.Sampling()
        sampling.stop = (0..<100_000).map { "stop \($0)" }
        let plain = try await vlm.infer(image: encoded, maxTokens: 2)
        let stopped = try await vlm.infer(image: encoded, maxTokens: 2, sampling: sampling)
        XCTAssertEqual(stopped, plain)
    }

    func testImagesOfOtherModels() async throws {
        let other = try TinyVLM(modelPath: modelPath), encoded = try await other.encode(image: photo())
        let vlm = try vlm()
        let refused = await kind { try await vlm.infer(image: encoded, maxTokens: 2) }
        XCTAssertEqual(refused, .argument)
        let text = root.appendingPathComponent("tests/fuzz/corpus/gguf/llama.gguf").path
        for blind in [try TinyVLM(modelPath: text), try TinyVLM(modelPath: text, tower: Slow())] {
            let none = await kind { try await blind.encode(image: photo()) }
            XCTAssertEqual(none, .unsupported)
        }
    }

    /// A tower that waits until it is told.
    private struct Slow: VisionTower {
        let name = "slow", begun = DispatchSemaphore(value: 0), end = DispatchSemaphore(value: 0)
        func run(_ pixels: [Float], imageSize: Int) throws -> [Float] {
            begun.signal()
            end.wait()
            return []
        }
    }

    /// A call that waits behind another ends when its task is cancelled, not when the other does.
    func testCancelWhileAnotherRuns() async throws {
        let tower = Slow(), vlm = try TinyVLM(modelPath: modelPath, tower: tower), image = try photo()
        let first = Task { try await vlm.encode(image: image) }
        await withCheckedContinuation { done in
            DispatchQueue.global().async {
                tower.begun.wait()
                done.resume()
            }
        }
        let timeout = Task {  // so that the test fails, and does not hang
            try await Task.sleep(nanoseconds: 10_000_000_000)
            tower.end.signal()
            XCTFail("the calls wait for the one before")
        }
        let encoding = Task { try await vlm.encode(image: image) }
        let inferring = Task { try await vlm.infer(image: image) }
        for task in [Task { _ = try await encoding.value }, Task { _ = try await inferring.value }] {
            encoding.cancel()
            inferring.cancel()
            do {
                try await task.value
                XCTFail("a cancelled task has an answer")
            } catch is CancellationError {}
        }
        timeout.cancel()
        first.cancel()
        tower.end.signal()
        _ = try? await first.value
    }

    func testStreamsThatNobodyReads() async throws {
        var vlm: TinyVLM? = try TinyVLM(modelPath: modelPath)
        let image = try photo()
        for _ in 0..<20 { _ = vlm!.stream(image: image) }
        let last = vlm!.stream(image: image, maxTokens: 4)
        vlm = nil  // the stream keeps what it needs
        var answer = ""
        for try await text in last { answer += text }
        XCTAssertFalse(answer.isEmpty)
    }

    func testKeysWithoutValues() throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("tinyvlm-keys.gguf")
        defer { try? FileManager.default.removeItem(at: path) }
        func little<T: FixedWidthInteger>(_ value: T) -> Data { withUnsafeBytes(of: value.littleEndian) { Data($0) } }
        for key in ["general.alignment", "vision.image_size"] {
            var file = Data("GGUF".utf8) + little(UInt32(3)) + little(UInt64(0)) + little(UInt64(1))
            file += little(UInt64(key.utf8.count)) + Data(key.utf8) + little(UInt32(9)) + little(UInt32(4)) + little(UInt64(0))
            try file.write(to: path)
            XCTAssertThrowsError(try GGUFFile(path: path.path).integer("vision.image_size", in: 1...4096), key)
        }
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
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).gguf")
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
