// SPDX-License-Identifier: MIT
#if canImport(CoreML)
    import CoreML
    import CryptoKit
    import Foundation

    /// The vision tower as a Core ML program of tools/coreml, with an input `pixels` [1][S][S][3] and an output
    /// `vision_tokens` [1][n][width].
    public final class CoreMLTower: VisionTower, @unchecked Sendable { // by its lock
        public let name: String
        private let lock = NSLock()
        private let model: MLModel

        /// - Parameters:
        ///   - path: a compiled `.mlmodelc`, or an `.mlpackage`, which is compiled once, into the caches folder.
        ///   - modelPath: the model that the program was made for, else this is an error of kind `argument`.
        public init(path: String, modelPath: String, useNeuralEngine: Bool) throws {
            let configuration = MLModelConfiguration()
            configuration.computeUnits = useNeuralEngine ? .all : .cpuOnly
            let url = URL(fileURLWithPath: path)
            model = try MLModel(contentsOf: url.pathExtension == "mlmodelc" ? url : compiled(url), configuration: configuration)
            name = useNeuralEngine ? "Core ML" : "Core ML (CPU)"
            guard try digest(of: URL(fileURLWithPath: modelPath)) == modelDigest else {
                throw TinyVLMError(
                    kind: .argument, description: "'\(path)' is the tower of another model than '\(modelPath)': make it anew with tools/coreml")
            }
        }

        /// What tools/coreml wrote into the program: the model's SHA-256.
        private var modelDigest: String? {
            (model.modelDescription.metadata[.creatorDefinedKey] as? [String: String])?["tinyvlm.model_sha256"]
        }

        public func run(_ pixels: [Float], imageSize: Int) throws -> [Float] {
            let side = NSNumber(value: imageSize)
            let input = try MLMultiArray(shape: [1, side, side, 3], dataType: .float32)
            guard input.count == pixels.count else {
                throw TinyVLMError(kind: .argument, description: "\(pixels.count) values for the tower's \(input.count)")
            }
            pixels.withUnsafeBytes { input.dataPointer.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
            lock.lock()
            defer { lock.unlock() }
            let features = try MLDictionaryFeatureProvider(dictionary: ["pixels": MLFeatureValue(multiArray: input)])
            guard let output = try model.prediction(from: features).featureValue(for: "vision_tokens")?.multiArrayValue else {
                throw TinyVLMError(kind: .format, description: "the Core ML program has no output 'vision_tokens'")
            }
            return MLShapedArray<Float>(converting: output).scalars
        }
    }

    /// The package's program in the caches folder, under the package's name and what it holds: what had that name before goes.
    private func compiled(_ package: URL) throws -> URL {
        let files = FileManager.default
        let folder = try files.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
            .appendingPathComponent("tinyvlm").appendingPathComponent(package.lastPathComponent)
        let program = folder.appendingPathComponent(try digest(of: package)).appendingPathExtension("mlmodelc")
        if !files.fileExists(atPath: program.path) { try compile(package, to: program) }
        for name in try files.contentsOfDirectory(atPath: folder.path) where name != program.lastPathComponent {
            try? files.removeItem(at: folder.appendingPathComponent(name))
        }
        return program
    }

    /// The program is there whole or not at all: the last step is a rename within its folder.
    private func compile(_ package: URL, to program: URL) throws {
        let files = FileManager.default, folder = program.deletingLastPathComponent()
        let fresh = try MLModel.compileModel(at: package), beside = folder.appendingPathComponent(UUID().uuidString)
        defer { for left in [fresh, beside] { try? files.removeItem(at: left) } }
        try files.createDirectory(at: folder, withIntermediateDirectories: true)
        try files.moveItem(at: fresh, to: beside)
        do { try files.moveItem(at: beside, to: program) } catch {
            if !files.fileExists(atPath: program.path) { throw error } // else another was faster
        }
    }

    /// SHA-256 in hexadecimal.
    private func digest(of url: URL) throws -> String {
        var hash = SHA256()
        for file in try files(of: url) { hash.update(data: try Data(contentsOf: file, options: .alwaysMapped)) }
        return hash.finalize().map { String(format: "%02x", $0) }.joined()
    }

    /// A file, or a folder's files in the order of their paths.
    private func files(of url: URL) throws -> [URL] {
        func isFolder(_ url: URL) throws -> Bool { try url.resourceValues(forKeys: [.isDirectoryKey]).isDirectory == true }
        guard try isFolder(url) else { return [url] }
        let paths = try FileManager.default.subpathsOfDirectory(atPath: url.path).sorted()
        return try paths.map { url.appendingPathComponent($0) }.filter { try !isFolder($0) }
    }
#endif
