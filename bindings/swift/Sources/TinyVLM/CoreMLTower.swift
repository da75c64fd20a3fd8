// SPDX-License-Identifier: MIT
#if canImport(CoreML)
    import CoreML
    import Foundation

    /// The vision tower as a Core ML program of tools/coreml, with an input `pixels` [1][S][S][3] and an output
    /// `vision_tokens` [1][n][width].
    public final class CoreMLTower: VisionTower, @unchecked Sendable { // by its lock
        public let name: String
        private let lock = NSLock()
        private let model: MLModel

        /// - Parameter path: a compiled `.mlmodelc`, or an `.mlpackage`, which is compiled first, each time, into a temporary folder.
        public init(path: String, useNeuralEngine: Bool) throws {
            let configuration = MLModelConfiguration()
            configuration.computeUnits = useNeuralEngine ? .all : .cpuOnly
            var url = URL(fileURLWithPath: path)
            if url.pathExtension != "mlmodelc" { url = try MLModel.compileModel(at: url) }
            model = try MLModel(contentsOf: url, configuration: configuration)
            name = useNeuralEngine ? "Core ML" : "Core ML (CPU)"
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
#endif
