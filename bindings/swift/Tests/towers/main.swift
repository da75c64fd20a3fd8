// SPDX-License-Identifier: MIT
// towers MODEL.gguf...: what needs Apple's frameworks, over the stand-ins for them.
import CoreGraphics
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

/// As the machine's own program says.
func sha256(_ path: String) throws -> String {
    let program = Process(), pipe = Pipe()
    program.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    program.arguments = ["sha256sum", path]
    program.standardOutput = pipe
    try program.run()
    return String(decoding: pipe.fileHandleForReading.readDataToEndOfFile().prefix(64), as: UTF8.self)
}

/// A program that was made for another model, or does not say for which, is an error, not the library's own tower.
func otherModels(_ path: String) throws {
    for said in [[:], ["tinyvlm.model_sha256": String(repeating: "0", count: 64)]] {
        MLModel.creatorDefined = said
        for useNeuralEngine in [true, false] {
            let kind = kindOf { _ = try TinyVLM(modelPath: path, useNeuralEngine: useNeuralEngine, visionModel: "tower.mlmodelc") }
            expect(kind == .argument, "\(said): \(String(describing: kind))")
        }
    }
    MLModel.creatorDefined = ["tinyvlm.model_sha256": try sha256(path)]
}

/// A package is compiled when it is new, and what was compiled of it before goes.
func packages(_ path: String) throws {
    let files = FileManager.default, package = files.temporaryDirectory.appendingPathComponent("tinyvlm-towers.mlpackage")
    let caches = try files.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
    let folder = caches.appendingPathComponent("tinyvlm/tinyvlm-towers.mlpackage")
    try? files.removeItem(at: folder)
    try files.createDirectory(at: package.appendingPathComponent("Data/weights"), withIntermediateDirectories: true)
    defer { for made in [package, folder] { try? files.removeItem(at: made) } }
    var programs: Set<String> = []
    MLModel.compiled = []
    for (i, weights) in ["first", "first", "second", "second"].enumerated() {
        try weights.write(to: package.appendingPathComponent("Data/weights/weight.bin"), atomically: true, encoding: .utf8)
        let vlm = try TinyVLM(modelPath: path, visionModel: package.path)
        let kept = try files.contentsOfDirectory(atPath: folder.path)
        programs.formUnion(kept)
        expect(vlm.visionBackend == "Core ML" && kept.count == 1 && kept[0].hasSuffix(".mlmodelc"), "\(vlm.visionBackend): \(kept)")
        expect(MLModel.compiled.count == i / 2 + 1 && programs.count == i / 2 + 1, "run \(i): compiled \(MLModel.compiled.count) times")
    }
    expect(!MLModel.compiled.contains { files.fileExists(atPath: $0.path) }, "a temporary program stays")
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

/// Rows of camera frames are longer than the image.
func frames() throws {
    let bgra: [UInt8] = [1, 2, 3, 255, 4, 5, 6, 255, 9, 9, 9, 9, 7, 8, 9, 255, 10, 11, 12, 255]
    func buffer(_ stride: Int, _ bytes: [UInt8]) -> CVBuffer {
        CVBuffer(format: kCVPixelFormatType_32BGRA, width: 2, height: 2, planes: [.init(bytesPerRow: stride, bytes: bytes)])
    }
    let right = buffer(12, bgra), frame = try RGBImage(right)
    expect(frame.bytes == [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10] && frame.width == 2 && frame.height == 2, "\(frame.bytes)")
    expect(try RGBImage(buffer(8, bgra)).bytes != frame.bytes, "a wrong stride is not seen")
    let other = CVBuffer(format: 0x7934_3230, width: 2, height: 2, planes: [.init(bytesPerRow: 2, bytes: bgra)])
    expect(kindOf { _ = try RGBImage(other) } == .unsupported, "y420")
    let none = buffer(12, [])
    expect(kindOf { _ = try RGBImage(none) } == .io, "a buffer without memory")
    expect([right, other, none].allSatisfy { $0.locks == 0 }, "a buffer stays locked")
}

/// Red, green above blue, white, as the bars of a test picture: luma, then pairs of chroma; behind each row, what is no pixel.
let bars: [(format: UInt32, matrix: CFString?, luma: [UInt8], chroma: [UInt8])] = [
    (kCVPixelFormatType_420YpCbCr8BiPlanarFullRange, nil, [76, 150, 29, 255], [85, 255, 44, 21, 255, 107, 128, 128]),
    (
        kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange, kCVImageBufferYCbCrMatrix_ITU_R_601_4, [81, 145, 41, 235],
        [90, 240, 54, 34, 240, 110, 128, 128]
    ),
    (
        kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange, kCVImageBufferYCbCrMatrix_ITU_R_709_2, [63, 173, 32, 235],
        [102, 240, 42, 26, 240, 118, 128, 128]
    ),
]

func bar(_ at: Int, side: Int, strides: (Int, Int) = (7, 6)) -> CVBuffer {
    let bar = bars[at]
    var luma: [UInt8] = [], chroma: [UInt8] = []
    for y in 0..<side {
        for x in 0..<side { luma.append(bar.luma[y / 2 * 2 + x / 2]) }
        luma += [UInt8](repeating: 99, count: 7 - side)
    }
    for y in 0..<2 { chroma += Array(bar.chroma[y * 4..<y * 4 + 4]) + [0, 255] }
    let planes = [CVBuffer.Plane(bytesPerRow: strides.0, bytes: luma), .init(bytesPerRow: strides.1, bytes: chroma)]
    return CVBuffer(format: bar.format, width: side, height: side, planes: planes, matrix: bar.matrix)
}

/// Whether each pixel is within 2 of the bars' colours.
func isColored(_ buffer: CVBuffer, side: Int) throws -> Bool {
    let colors = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], seen = try RGBImage(buffer)
    var pixels: [Int] = []
    for y in 0..<side { for x in 0..<side { pixels += colors[y / 2 * 2 + x / 2] } }
    return seen.width == side && seen.height == side && buffer.locks == 0 && seen.bytes.count == pixels.count
        && zip(seen.bytes, pixels).allSatisfy { abs(Int($0) - $1) <= 2 }
}

/// The formats that cameras give by themselves, with a range and matrix of their own, also where sides are odd.
func cameraFrames() throws {
    for at in bars.indices {
        for side in [3, 4] {
            expect(try isColored(bar(at, side: side), side: side), "bars \(at): \(try! RGBImage(bar(at, side: side)).bytes)")
            for strides in [(6, 6), (8 - side, 6), (7, 4)] {
                expect(try !isColored(bar(at, side: side, strides: strides), side: side), "wrong strides \(strides) are not seen")
            }
        }
    }
    let none = CVBuffer(format: bars[0].format, width: 4, height: 4, planes: [.init(bytesPerRow: 4, bytes: [1]), .init(bytesPerRow: 4, bytes: [])])
    expect(kindOf { _ = try RGBImage(none) } == .io && none.locks == 0, "a plane without memory")
}

/// Each kind of image is asked about in each way, with the answer of the same pixels.
func sources(_ path: String) async throws {
    let vlm = try TinyVLM(modelPath: path), side = image.width
    var rgba: [UInt8] = [], bgra: [UInt8] = []
    for at in stride(from: 0, to: image.bytes.count, by: 3) {
        rgba += [image.bytes[at], image.bytes[at + 1], image.bytes[at + 2], 255]
        bgra += [image.bytes[at + 2], image.bytes[at + 1], image.bytes[at], 255]
    }
    let cg = CGImage(width: side, height: image.height, bytes: rgba), plane = CVBuffer.Plane(bytesPerRow: side * 4, bytes: bgra)
    let cv = CVBuffer(format: kCVPixelFormatType_32BGRA, width: side, height: image.height, planes: [plane])
    func ask(_ source: some ImageSource) async throws -> [String] {
        var streamed = ""
        for try await text in vlm.stream(image: source, maxTokens: 8) { streamed += text }
        let encoded = try await vlm.infer(image: vlm.encode(image: source), maxTokens: 8)
        return [streamed, encoded, try await vlm.infer(image: source, maxTokens: 8)]
    }
    let expected = try await vlm.infer(image: image, maxTokens: 8)
    for answers in [try await ask(image), try await ask(cg), try await ask(cv)] {
        expect(answers == [expected, expected, expected], "\(answers), not \(expected)")
    }
    let clear = try RGBImage(CGImage(width: 2, height: 1, bytes: [0, 0, 0, 0, 0, 0, 0, 102]))
    expect(clear.bytes[0..<3] == [255, 255, 255] && clear.bytes[4..<7] == [153, 153, 153], "\(clear.bytes)")
    do {
        for try await _ in vlm.stream(image: CVBuffer(format: 0, width: 1, height: 1, planes: [])) {}
        expect(false, "an answer about what is no image")
    } catch { expect((error as? TinyVLMError)?.kind == .unsupported, "\(error)") }
}

for path in CommandLine.arguments.dropFirst() {
    try await compare(path, TinyVLM(modelPath: path, tower: MPSGraphTower(modelPath: path)), "Metal")
}
try otherModels(CommandLine.arguments[1])
try packages(CommandLine.arguments[1])
try await coreML(CommandLine.arguments[1])
try damaged(CommandLine.arguments[1])
try frames()
try cameraFrames()
try await sources(CommandLine.arguments[1])
